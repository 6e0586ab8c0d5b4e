# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess

import limited
import pytest
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_installed
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.records import record_origin

FILES = {"a/__init__.py": "V = 1\n", "a/ops.py": "V = 2\n", "a/more.py": "V = 3\n"}


def damage_of(packages, **how):
    return find_damage(find_installed([str(packages)])["a"], **how)


@pytest.fixture(params=["pip", "uv", "pip --target", "record_origin"])
def installed(request, venv, packages, tmp_path):
    """A distribution, as one of those installs it that this collection has to do with; the folder it is in."""
    wheel = build_wheel(tmp_path, files=FILES, name="a")
    python = str(venv / "bin" / "python")
    offline = ["--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
    command = [python, "-m", "pip", "install", *offline]
    if request.param == "uv":
        command = ["uv", "pip", "install", "--python", python, *offline, "--no-config"]
    folder = tmp_path / "target" if "--target" in request.param else packages
    target = ["--target", str(folder)] if "--target" in request.param else []
    subprocess.check_call([*command, *target, str(wheel)])
    if request.param == "record_origin":
        record_origin(find_installed([str(folder)])["a"], "a-2.8.3+label-py3-none-any.whl", "ab" * 32)
    return folder


def test_an_installation_is_whole_and_its_record_the_last_that_was_written(installed):
    assert not damage_of(installed)
    assert not damage_of(installed, reads_all=True)
    (record,) = installed.glob("a-*.dist-info/RECORD")
    files = [path for path in installed.glob("a*/*") if path.is_file()]
    assert len(files) > 5
    assert max(path.stat().st_mtime_ns for path in files) == record.stat().st_mtime_ns


def test_what_is_gone_and_what_was_changed_is_found_without_reading_the_rest(installed):
    (installed / "a" / "__init__.py").write_text("V = 9\n")  # as long as before
    (installed / "a" / "ops.py").write_text("V = 22\n")
    os.utime(installed / "a" / "ops.py", (1, 1))  # its size tells
    (installed / "a" / "more.py").unlink()
    damage = damage_of(installed)
    assert (damage.missing, sorted(damage.changed), damage.hidden) == (["a/more.py"], ["a/__init__.py", "a/ops.py"], [])


def test_only_whoever_reads_all_finds_what_neither_size_nor_time_tells(installed):
    path = installed / "a" / "ops.py"
    times = path.stat()
    path.write_text("V = 9\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not damage_of(installed)
    assert damage_of(installed, reads_all=True) == ([], [], ["a/ops.py"])


def test_what_was_written_anew_with_the_same_content_is_whole(installed):
    for path in installed.glob("a/*.py"):
        path.write_bytes(path.read_bytes())
    assert not damage_of(installed)


@pytest.fixture
def recorded(tmp_path):
    """A distribution of two files, as far as one test makes it so; its folder of metadata."""
    metadata = tmp_path / "a-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").touch()
    rows = ["a/__init__.py,,", '"a/b,c.py",,', "a/__pycache__/b.cpython-311.pyc,,", "a-1.dist-info/direct_url.json,,"]
    (metadata / "RECORD").write_text("\n".join([*rows, "a-1.dist-info/RECORD,,"]))
    (tmp_path / "a").mkdir()
    for name in ("__init__.py", "b,c.py"):
        (tmp_path / "a" / name).touch()
    return metadata


def test_metadata_and_compiled_files_may_be_missing(recorded, tmp_path):
    assert not damage_of(tmp_path, reads_all=True)
    (tmp_path / "a" / "b,c.py").unlink()
    assert damage_of(tmp_path).missing == ["a/b,c.py"]


def test_a_folder_that_has_become_a_file_has_lost_its_files(recorded, tmp_path):
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    (tmp_path / "a").rmdir()
    (tmp_path / "a").touch()
    assert damage_of(tmp_path).missing == ["a/__init__.py", "a/b,c.py"]


def test_without_a_record_the_record_is_missing(recorded, tmp_path):
    (recorded / "RECORD").unlink()
    assert damage_of(tmp_path).missing == ["a-1.dist-info/RECORD"]


@pytest.mark.parametrize(
    "content",
    [b"", bytes(4096), b"a/__init__.py,,\na-1.dist", b"\xff\xfe" * 99, b'"' + b"a" * 200000, b"a/" + b"b" * 999],
    ids=["empty", "zeroes", "cut", "no text", "one long field", "a long name"],
)
def test_a_record_that_is_damaged_itself_is_changed(content, recorded, tmp_path):
    (recorded / "RECORD").write_bytes(content)
    assert "a-1.dist-info/RECORD" in damage_of(tmp_path).changed


def test_the_record_of_what_conda_has_installed_does_not_count(recorded, tmp_path):
    (recorded / "RECORD").write_text("a/__init__.py,sha256=x,99\na/gone.py,,\na-1.dist-info/RECORD,,\n")
    (recorded / "INSTALLER").write_text("pip\n")
    assert damage_of(tmp_path)
    (recorded / "INSTALLER").write_text("conda")
    assert not damage_of(tmp_path, reads_all=True)


def test_a_record_that_lists_what_never_ends_is_damage(tmp_path):
    """A device has the time of its last use, and no size that a record must have."""
    path = tmp_path / "a-1.dist-info"
    path.mkdir()
    (path / "METADATA").touch()
    up = "../" * (len(tmp_path.parts) - 1)
    (path / "RECORD").write_text(f"{up}dev/zero,sha256=aaaa,\npipe,sha256=aaaa,\na-1.dist-info/RECORD,,\n")
    os.utime(path / "RECORD", (1, 1))
    os.mkfifo(tmp_path / "pipe")
    distribution = find_installed([str(tmp_path)])["a"]
    damage = limited.run(lambda: find_damage(distribution, reads_all=True), patience=20)
    assert damage.changed == [f"{up}dev/zero", "pipe"]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from urllib.parse import quote

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import edited, edits
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    came_from_file,
    find_installed,
    read_origin,
    read_record,
    read_requirements,
)


def put(folder, name, record=True, **files):
    path = folder / name
    path.mkdir(parents=True)
    (path / "METADATA").touch()
    if record:
        (path / "RECORD").touch()
    for file, text in files.items():
        (path / file).write_text(text)
    return path


def test_the_first_of_a_name_on_the_path_counts(tmp_path):
    put(tmp_path / "venv", "flash_attn-2.8.3.dist-info")
    put(tmp_path / "system", "Flash.Attn-1.0.dist-info")
    put(tmp_path / "system", "einops-0.8.1.dist-info")
    found = find_installed([str(tmp_path / "venv"), str(tmp_path / "system")])
    assert {name: item.version for name, item in found.items()} == {"flash-attn": "2.8.3", "einops": "0.8.1"}
    assert found["flash-attn"].path == str(tmp_path / "venv" / "flash_attn-2.8.3.dist-info")


def test_egg_info_of_the_operating_system_counts(tmp_path):
    put(tmp_path, "six-1.16.0.egg-info", record=False)
    put(tmp_path, "PyYAML-6.0-py3.11.egg-info", record=False)
    assert {name: item.version for name, item in find_installed([str(tmp_path)]).items()} == {
        "six": "1.16.0",
        "pyyaml": "6.0",
    }


def test_other_entries_are_no_distributions(tmp_path):
    for name in ("~lash_attn-2.8.3.dist-info", "torch", "torch.egg-info", "__pycache__", "x-1.0.egg-link"):
        put(tmp_path, name)
    assert find_installed([str(tmp_path)]) == {}


def test_without_a_record_an_installation_is_not_complete(tmp_path):
    put(tmp_path, "a-1.dist-info")
    put(tmp_path, "b-1.dist-info", record=False)
    assert {name: item.is_complete for name, item in find_installed([str(tmp_path)]).items()} == {"a": True, "b": False}


def test_a_folder_that_cannot_be_read_is_no_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_installed([str(tmp_path / "none")])


def test_pip_and_uv_record_from_which_file_they_installed(venv, packages, tmp_path):
    wheel = build_wheel(tmp_path, label=LABEL)
    python = str(venv / "bin" / "python")
    subprocess.check_call([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel)])
    by_pip = find_installed([str(packages)])["flash-attn"]
    assert read_origin(by_pip) == {"filename": wheel.name, "sha256": sha256(wheel)}
    shutil.rmtree(by_pip.path)
    subprocess.check_call(["uv", "pip", "install", "-q", "--offline", "--no-cache", "--python", python, str(wheel)])
    by_uv = find_installed([str(packages)])["flash-attn"]
    assert by_uv.is_complete
    assert read_origin(by_uv) == {"filename": wheel.name, "sha256": None}


@pytest.mark.parametrize(
    ("archive", "digest"),
    [
        ({"hash": "sha256=ab"}, "ab"),
        ({"hashes": {"sha256": "ab"}}, "ab"),
        ({"hash": "md5=cd", "hashes": {"md5": "cd"}}, None),
        ({}, None),
    ],
    ids=["old form", "new form", "another hash", "none"],
)
def test_both_forms_of_a_recorded_hash_are_read(archive, digest, tmp_path):
    url = "file:///tmp/" + quote("a-1+cu12-py3-none-any.whl")
    path = put(tmp_path, "a-1.dist-info", **{"direct_url.json": json.dumps({"url": url, "archive_info": archive})})
    assert read_origin(Distribution("a", "1", str(path), True)) == {
        "filename": "a-1+cu12-py3-none-any.whl",
        "sha256": digest,
    }


@pytest.mark.parametrize(
    "record",
    [
        None,
        "",
        "[]",
        "null",
        '{"url": "file:///src", "dir_info": {}}',
        '{"url": 1, "archive_info": {}}',
        '{"url": "file:///a.whl", "archive_info": {"hash": 7}}',
        '{"url": "file:///a.whl", "archive_info": {"hash": "sha256"}}',
        '{"url": "file:///a.whl", "archive_info": {"hashes": 7}}',
    ],
)
def test_another_direct_url_has_no_origin(record, tmp_path):
    path = put(tmp_path, "a-1.dist-info", **({} if record is None else {"direct_url.json": record}))
    assert read_origin(Distribution("a", "1", str(path), True)) is None


def test_a_broken_off_installation_has_no_origin(tmp_path):
    text = '{"url": "file:///a.whl", "archive_info": {}}'
    path = put(tmp_path, "a-1.dist-info", record=False, **{"direct_url.json": text})
    assert read_origin(find_installed([str(tmp_path)])["a"]) is None
    (path / "RECORD").touch()
    assert read_origin(find_installed([str(tmp_path)])["a"]) == {"filename": "a.whl", "sha256": None}


def test_a_metadata_folder_without_metadata_is_no_distribution(tmp_path):
    (put(tmp_path, "a-1.dist-info") / "METADATA").unlink()
    assert find_installed([str(tmp_path)]) == {}


def test_what_setup_py_develop_and_easy_install_have_left_is_found(tmp_path):
    egg = tmp_path / "flashattn_hopper-3.0.0b1-py3.12-linux-x86_64.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    source = tmp_path / "src" / "torch.egg-info"
    source.mkdir(parents=True)
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.4.0a0\n")
    found = find_installed([str(egg), str(tmp_path / "src")])
    assert {name: item.version for name, item in found.items()} == {"flashattn-hopper": "3.0.0b1", "torch": "2.4.0a0"}


def test_a_zip_file_on_the_search_path_has_no_distributions(tmp_path):
    (tmp_path / "python311.zip").write_bytes(b"PK")
    assert find_installed([str(tmp_path / "python311.zip")]) == {}


@pytest.mark.parametrize("last", ["2.7.3", "2.8.3"])
def test_of_records_that_are_alike_the_one_that_was_installed_last_counts(last, tmp_path):
    for version in ("2.7.3", "2.8.3"):
        path = put(tmp_path, f"flash_attn-{version}.dist-info")
        os.utime(path, (1, 2 if version == last else 1))
    assert find_installed([str(tmp_path)])["flash-attn"].version == last


@pytest.mark.parametrize(
    ("url", "installer", "archive", "comes"),
    [
        ("file:///stage/a-1-py3-none-any.whl", "pip", "archive_info", True),
        ("file:///stage/a-1-py3-none-any.whl", "uv", "archive_info", True),
        ("https://mirror.example/a-1-py3-none-any.whl", "pip", "archive_info", False),
        ("file:///stage/a-1-py3-none-any.whl", "conda", "archive_info", False),
        ("file:///src/a", "pip", "dir_info", False),
    ],
    ids=["pip", "uv", "from a server", "another installer", "from a source tree"],
)
def test_what_pip_or_uv_has_installed_from_a_file_is_told_from_the_rest(url, installer, archive, comes, tmp_path):
    folder = put(tmp_path, "a-1.dist-info")
    (folder / "RECORD").touch()
    (folder / "INSTALLER").write_text(f"{installer}\n")
    assert not came_from_file(find_installed([str(tmp_path)])["a"])
    (folder / "direct_url.json").write_text(json.dumps({"url": url, archive: {}}))
    assert came_from_file(find_installed([str(tmp_path)])["a"]) == comes


def test_all_that_a_distribution_requires_counts_whatever_the_extra_or_the_machine(tmp_path):
    folder = put(tmp_path, "a-1.dist-info")
    lines = [
        "torch",
        "Einops>=0.6",
        "triton (>=2)",
        'ninja ; extra == "build"',
        'foo_bar[x] @ https://x/y.whl ; os_name == "nt"',
    ]
    (folder / "METADATA").write_text("Name: a\n" + "".join(f"Requires-Dist: {line}\n" for line in lines))
    assert read_requirements(find_installed([str(tmp_path)])["a"]) == {"torch", "einops", "triton", "ninja", "foo-bar"}


def test_what_an_egg_requires_counts(tmp_path):
    egg = tmp_path / "b-1.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: b\nVersion: 1\n")
    (egg / "requires.txt").write_text("einops>=0.6\n\n[build]\nNinja\n")
    assert read_requirements(find_installed([str(tmp_path)])["b"]) == {"einops", "ninja"}
    (tmp_path / "c-1-py3.11.egg-info").write_text("Name: c\n")
    assert read_requirements(find_installed([str(tmp_path)])["c"]) == set()


def record_of(folder, content: bytes):
    """A distribution with this RECORD."""
    path = folder / "a-1.dist-info"
    path.mkdir(exist_ok=True)
    (path / "METADATA").touch()
    (path / "RECORD").write_bytes(content)
    return find_installed([str(folder)])["a"]


def test_of_a_record_without_an_end_only_so_much_is_read(tmp_path):
    distribution = record_of(tmp_path, b"a,,\n" * 600_000)
    assert limited.run(lambda: len(read_record(distribution)), seconds=5, mebibytes=512) == 500_000
    with (tmp_path / "a-1.dist-info" / "RECORD").open("wb") as file:
        file.truncate(8 << 30)
    assert limited.run(lambda: len(read_record(distribution)), seconds=5, mebibytes=192) == 0


@pytest.mark.parametrize("name", ["METADATA", "PKG-INFO", "direct_url.json", "INSTALLER", "requires.txt"])
def test_metadata_that_is_a_pipe_keeps_nobody_waiting(name, tmp_path):
    distribution = record_of(tmp_path, b"")
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "a-1.dist-info" / name).unlink()
    os.mkfifo(tmp_path / "a-1.dist-info" / name)

    def act():
        with contextlib.suppress(OSError):
            read_requirements(distribution)
        return read_origin(distribution), came_from_file(distribution)

    assert limited.run(act, patience=20) == (None, False)


@pytest.mark.parametrize("text", ["[" * 60_000, "{}", "[]", "1", '{"url": 1, "archive_info": {"hash": []}}', "\ud800"])
def test_an_origin_that_is_none_is_none(text, tmp_path):
    distribution = record_of(tmp_path, b"")
    (tmp_path / "a-1.dist-info" / "direct_url.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert (read_origin(distribution), came_from_file(distribution)) == (None, False)


@pytest.mark.slow
def test_a_damaged_record_is_read_as_far_as_it_goes(tmp_path):
    rows = "".join(f"a/{number}.py,sha256={'a' * 43},{number}\n" for number in range(20))
    whole = f'{rows}"a,b",,\na-1.dist-info/RECORD,,\n'.encode()
    seen = set()

    @given(
        edits(len(whole), 0, len(rows)),
        st.lists(st.sampled_from([b'"', b"\n", b"\r", b",", b"\0", b"\xff", b"../"]), max_size=20),
    )
    def check(edit, pieces):
        distribution = record_of(tmp_path, edited(whole, edit) + b"".join(pieces))
        found = read_record(distribution)
        assert all(len(row) == 3 and all(isinstance(field, str) for field in row) for row in found)
        seen.add("missing" if find_damage(distribution).missing else "whole")

    assert limited.check_property(check, mebibytes=32, result=lambda: seen) >= {"missing"}

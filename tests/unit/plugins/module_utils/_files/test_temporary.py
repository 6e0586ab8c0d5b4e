# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kills import kills_at_each_write

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary

PLUGINS = Path(atomic.__file__).parents[2]
#: where temporary files are made that have no name, or are in a folder of the system that it clears itself
ELSEWHERE = {
    "module_utils/_pip/dry_run.py": "in TMPDIR",
    "plugin_utils/_binaries/archive.py": "without a name",
    "plugin_utils/_downloads/local_files.py": "without a name",
    "plugin_utils/_downloads/pip_index.py": "in TMPDIR",
}

COLLECTIONS = str(Path(next(iter(ansible_collections.__path__))).parent)
HOLD = """
import sys
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
make = getattr(temporary, sys.argv[2])
with make(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["temporary_file", "temporary_folder"])
def worker(request, tmp_path):
    """A process that works on something temporary until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, tmp_path, request.param]
    environ = {**os.environ, "PYTHONPATH": COLLECTIONS}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_what_somebody_works_on_stays(worker, tmp_path):
    (name,) = os.listdir(tmp_path)
    assert name.startswith(temporary.PREFIX)
    assert temporary.list_leftovers(str(tmp_path)) == temporary.remove_leftovers(str(tmp_path)) == []
    assert os.listdir(tmp_path) == [name]
    worker.stdin.close()
    assert worker.wait() == 0
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_has_left_goes(worker, tmp_path):
    (name,) = os.listdir(tmp_path)
    if (tmp_path / name).is_dir():
        (tmp_path / name / "sub").mkdir()
        (tmp_path / name / "sub" / "file").touch()
    worker.kill()
    worker.wait()
    assert temporary.list_leftovers(str(tmp_path)) == [name]
    assert temporary.remove_leftovers(str(tmp_path)) == [name]
    assert os.listdir(tmp_path) == []


def test_nothing_else_goes(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".torch_extension-link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / ".torch_extension-pipe")
    for name in ("torch_extension-x", ".torch_extension", "tmp123", ".part-x"):
        (tmp_path / name).mkdir()
    before = sorted(os.listdir(tmp_path))
    assert temporary.remove_leftovers(str(tmp_path)) == []
    assert sorted(os.listdir(tmp_path)) == before
    assert temporary.remove_leftovers(str(tmp_path / "none")) == []


def test_without_locks_what_is_old_is_a_leftover(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / ".torch_extension-x"
    path.touch()
    assert temporary.remove_leftovers(str(tmp_path)) == []
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert temporary.remove_leftovers(str(tmp_path)) == [path.name]
    with temporary.temporary_file(str(tmp_path)), temporary.temporary_folder(str(tmp_path)):
        pass


def test_what_another_run_takes_for_a_leftover_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    flock, seen = fcntl.flock, []

    def removed_first(handle, operation):
        if not seen:
            seen.extend(os.listdir(tmp_path))
            (tmp_path / seen[0]).unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    atomic.write_bytes(str(tmp_path / "file"), b"whole")
    assert seen
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_killed_at_each_write_there_is_the_old_or_the_new_and_the_next_run_leaves_nothing_behind(is_folder, tmp_path):
    target = tmp_path / "there" / "target"
    target.parent.mkdir()

    def write():
        temporary.remove_leftovers(str(target.parent))
        if not is_folder:
            atomic.write_bytes(str(target), b"new")
            return
        with temporary.temporary_folder(str(target.parent)) as scratch:
            Path(scratch, "new").write_bytes(b"new")
            atomic.put_in_place(os.path.join(scratch, "new"), str(target))

    target.write_bytes(b"old")
    kills = 0
    for kills in kills_at_each_write(write):  # noqa: B007
        assert target.read_bytes() in (b"old", b"new")
        assert len(os.listdir(target.parent)) <= 2, "one leftover at most"
        target.write_bytes(b"old")
    assert kills >= 2
    assert os.listdir(target.parent) == ["target"]
    assert target.read_bytes() == b"new"


def test_nobody_makes_temporary_files_or_gives_them_names_in_another_way():
    """Each place that does is found, so that a new one goes by the same rules."""
    found = set()
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tempfile":
                found.add(str(path.relative_to(PLUGINS)))
    assert found - {"module_utils/_files/temporary.py"} == set(ELSEWHERE)

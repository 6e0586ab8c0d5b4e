# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real builds: of a C++ extension through ninja, as torch's own tools build."""

from __future__ import annotations

import os
import signal
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from builds import PARTS, extension_files, make_sdist
from wheels import sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import job_control

pytestmark = pytest.mark.slow  # they compile

WORK = "#include <map>\n#include <string>\n#include <functional>\n"  # a compiler reads these for half a second


def test_a_wheel_is_built_and_works_and_the_environment_stays_as_it_is(builds, make_venv, run, tmp_path, monkeypatch):
    monkeypatch.setenv("USERS_OWN", "1")
    venv = make_venv(pip=True)
    builds.python = str(venv)
    before = tree_state(venv)
    names = "('SWITCH', 'USERS_OWN', 'HOME', 'SOURCE_DATE_EPOCH', 'MAX_JOBS', 'NVCC_THREADS')"
    show = f"print('SEEN', [os.environ.get(name) for name in {names}])"
    newer = "#include <concepts>\nstatic_assert(__cplusplus >= 202002L);\nint part1() { return 1; }\n"
    sdist = make_sdist(tmp_path, extension_files(parts=2, part1=newer, afterwards=show))
    more = {"label": "cu13torch2.14", "cxx_standard": "c++20", "environ": {"SWITCH": "TRUE"}}
    done = builds.build(builds.make_job(sdist, **more))
    assert (done["state"], done["message"]) == ("finished", "")
    assert (done["step"], done["steps"]) == (4, 4)
    assert done["core_seconds"] > 0
    assert done["compilers"]["nvcc"] is None
    assert f"SEEN ['TRUE', None, '{builds.job_folder().home}', '1700000000', '2', '1']" in builds.read_log()
    wheel = Path(done["wheel"]["path"])
    assert wheel.name.startswith("small_extension-1.2+cu13torch2.14-cp3")
    assert (done["wheel"]["sha256"], done["wheel"]["size"]) == (sha256(wheel), wheel.stat().st_size)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    code = "import small_extension; print(small_extension.total(), small_extension.total.__doc__)"
    _status, out, err = run([venv / "bin/python", "-c", code], cwd=tmp_path / "unpacked")
    assert out.split() == ["1", "/build/src/main.cpp"], err
    assert tree_state(venv) == before
    # the build's own, though the environment has it in the same version
    assert list(Path(builds.job_folder().venv).glob("lib/*/site-packages/pip/__init__.py"))


@pytest.mark.parametrize("pyproject", [True, False], ids=["with pyproject.toml", "without"])
def test_what_has_failed_goes_on_from_what_is_compiled(pyproject, builds, tmp_path):
    flag = tmp_path / "flag"
    sdist = make_sdist(tmp_path, extension_files(parts=3, afterwards=f"open({str(flag)!r})", pyproject=pyproject))
    job = builds.make_job(sdist)
    failed = builds.build(job)
    assert failed["state"] == "failed"
    assert failed["message"] == f"error: [Errno 2] No such file or directory: '{flag}'"
    assert len(builds.compiled()) == 4
    flag.touch()
    done = builds.build({**job, "time_limit": 200})
    assert done["state"] == "finished", done
    assert len(builds.compiled()) == 4
    assert done["core_seconds"] > failed["core_seconds"]


@pytest.mark.parametrize("killed", ["the process alone", "all"])
def test_a_killed_build_compiles_nothing_twice_but_what_was_at_work(killed, builds, tmp_path):
    job = builds.make_job(make_sdist(tmp_path, extension_files(work=WORK)))
    assert builds.start(job)
    builds.wait_for_compilations(PARTS // 2)
    processes = builds.processes()
    (leader,) = (process for process, command in processes.items() if "start.py" in command)
    for process in [leader] if killed == "the process alone" else processes:
        os.kill(process, signal.SIGKILL)
    os.waitpid(leader, 0)
    polled = builds.poll()
    assert polled["state"] == "lost"
    assert polled["message"] == "it has ended without a word: it was killed, or the machine was restarted"
    done = builds.build(job)
    assert done["state"] == "finished", done
    counted = Counter(builds.compiled())
    assert len(counted) == PARTS + 1
    twice = sum(counted.values()) - len(counted)
    assert twice <= job["jobs"] + PARTS // 10


def test_two_that_are_started_at_once_are_one_build(builds, tmp_path):
    job = builds.make_job(make_sdist(tmp_path, extension_files(parts=2)))
    assert sorted(builds.start_at_once(job, 3)) == [False, False, True]
    assert builds.poll()["state"] == "running"
    assert builds.wait()["state"] == "finished"
    assert set(Counter(builds.compiled()).values()) == {1}
    assert builds.start(job) is False  # its wheel is there


def test_a_wheel_that_was_changed_or_is_of_something_else_is_built_anew(builds, tmp_path):
    files = extension_files(parts=1)
    job = builds.make_job(make_sdist(tmp_path / "a", files))
    first = builds.build(job)["wheel"]
    assert builds.start(job) is False
    Path(first["path"]).write_bytes(b"half")
    assert builds.build(job)["wheel"] == first
    other = {**files, "src/part0.cpp": "int part0() { return 7; }\n"}
    second = builds.build(builds.make_job(make_sdist(tmp_path / "b", other)))["wheel"]
    assert second["sha256"] != first["sha256"]


def test_the_same_gives_the_same_bytes_in_another_folder(builds, tmp_path):
    sdist = make_sdist(tmp_path, extension_files(parts=2))
    digests = []
    for folder in (builds.folder, tmp_path / "another" / "folder"):
        builds.folder = folder
        digests.append(builds.build(builds.make_job(sdist, f"in-{folder.name}"))["wheel"]["sha256"])
        builds.end_all()
    assert digests[0] == digests[1]


def test_the_first_error_of_the_compiler_is_told_and_where_the_log_is(builds, tmp_path):
    broken = "int part1() {\n  return nothing;\n}\n"
    failed = builds.build(builds.make_job(make_sdist(tmp_path, extension_files(parts=3, part1=broken))))
    assert failed["state"] == "failed"
    source = f"{builds.job_folder().sources}/small_extension-1.2/src/part1.cpp"
    assert failed["message"].startswith(f"{source}:2:10: error: ")
    assert "\n" not in failed["message"]
    assert failed["message"] in builds.read_log()
    assert failed["wheel"] is None
    assert builds.processes() == {}


def test_the_time_limit_ends_it_and_says_what_was_at_work(builds, tmp_path):
    flag = tmp_path / "flag"
    wait = f"time.sleep(120 if os.path.exists({str(flag)!r}) else 1 / 0)"
    job = builds.make_job(make_sdist(tmp_path, extension_files(parts=0, afterwards=wait)))
    assert "ZeroDivisionError" in builds.build(job)["message"]  # now the environment is there
    flag.touch()
    failed = builds.build({**job, "time_limit": 15})
    assert failed["state"] == "failed"
    assert failed["message"].startswith(
        "it has taken 15 seconds, which is its limit (torch_extension_build_time_limit), and was"
    )
    assert failed["message"].endswith("; the file that a compiler began with last is small_extension-1.2/src/main.cpp")
    assert 15 <= failed["seconds"] < 60
    assert builds.processes() == {}


def test_a_build_that_is_stopped_goes_on(builds, tmp_path):
    job = builds.make_job(make_sdist(tmp_path, extension_files(parts=8, work=WORK)))
    assert builds.start(job)
    builds.wait_for_compilations(3)
    folder = builds.job_folder()
    assert job_control.stop(folder, check_mode=True) is True
    assert builds.poll()["state"] == "running"
    assert job_control.stop(folder) is True
    assert builds.processes() == {}
    assert (builds.poll()["state"], builds.poll()["message"]) == ("failed", "it was stopped")
    assert job_control.stop(folder) is False
    assert builds.build(job)["state"] == "finished"


def test_who_ends_the_process_gets_that_written_down(builds, tmp_path):
    job = builds.make_job(make_sdist(tmp_path, extension_files(parts=0, afterwards="time.sleep(120)")))
    assert builds.start(job)
    builds.wait_for_compilations(1)
    (leader,) = (process for process, command in builds.processes().items() if "start.py" in command)
    os.kill(leader, signal.SIGTERM)
    ended = builds.wait()
    assert (ended["state"], ended["message"]) == ("failed", "it was ended by SIGTERM")
    assert builds.processes() == {}


def test_an_archive_without_a_setup_is_refused(builds, tmp_path):
    failed = builds.build(builds.make_job(make_sdist(tmp_path, {"README": "no more"}, suffix=".zip")))
    assert failed["state"] == "failed"
    assert "small_extension-1.2.zip has neither setup.py nor pyproject.toml" in failed["message"]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest
from builds import extension_files, make_sdist
from wheels import tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import job_control, takers
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import write_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


@pytest.fixture
def job(builds, tmp_path):
    builds.folder = tmp_path / "home" / "builds"
    return builds.make_job(make_sdist(tmp_path, extension_files(parts=0)))


def test_of_what_was_never_started_nothing_is_known(builds):
    polled = builds.poll()
    assert (polled["state"], polled["step"], polled["steps"], polled["seconds"]) == ("absent", 0, 0, 0)
    assert (polled["wheel"], polled["message"]) == (None, "")
    assert job_control.stop(builds.job_folder()) is False


def test_check_mode_checks_and_starts_nothing(builds, job):
    before = tree_state(builds.folder)
    assert builds.start(job, check_mode=True) is True
    with pytest.raises(TorchExtensionError, match="MiB of memory free"):
        builds.start({**job, "memory_per_job_mib": 10**9}, check_mode=True)
    assert tree_state(builds.folder) == before


def test_a_folder_that_cannot_be_made_is_refused_with_its_knob(builds, job, tmp_path):
    builds.folder = tmp_path / "file"
    builds.folder.write_text("")
    with pytest.raises(
        TorchExtensionError, match=r"cannot be made or used \(Not a directory\). Set torch_extension_build_dir"
    ):
        builds.start(job)


def test_a_folder_that_others_may_write_to_is_not_built_in(builds, job):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    os.chmod(folder.path, 0o777)
    with pytest.raises(TorchExtensionError, match=r"may write to .* can change\). Set torch_extension_build_dir"):
        builds.start(job)
    assert os.listdir(folder.path) == []


def test_clearing_removes_the_folder_and_the_files_that_no_other_build_names(builds, job, tmp_path):
    folder, other = builds.job_folder(), builds.job_folder("other")
    shared = job["requirements"]
    for each, content in ((folder, job), (other, {**job, "sdist": builds.bring(make_other(tmp_path))})):
        Path(each.path).mkdir(parents=True)
        write_json(each.job, content)
    assert job_control.clear(folder, job, check_mode=True) is True
    assert os.path.exists(folder.path)
    assert job_control.clear(folder, job) is True
    assert not os.path.exists(folder.path)
    assert not os.path.exists(os.path.dirname(folder.delivered(job["sdist"])))
    assert all(os.path.exists(folder.delivered(file)) for file in shared)
    assert job_control.clear(folder, job) is False
    assert job_control.clear(other, {"id": "other"}) is True
    assert not builds.folder.exists()


def test_what_another_control_node_waits_for_is_not_cleared_away_from_it(builds, job):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    for taker in ("one", "other"):
        takers.note_taker(folder.takers, taker)
    assert job_control.clear(folder, {**job, "taker": "one"}) is False
    assert os.path.exists(folder.path)
    assert job_control.clear(folder, {**job, "taker": "other"}) is True
    assert not os.path.exists(folder.path)


def test_a_control_node_that_has_not_asked_for_ten_minutes_waits_no_longer(builds, job):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    takers.note_taker(folder.takers, "gone")
    os.utime(os.path.join(folder.takers, "gone"), (0, 0))
    assert job_control.clear(folder, {**job, "taker": "one"}) is True


@pytest.mark.parametrize("taker", ["", "../up", "a/b", "a" * 65])
def test_a_taker_names_no_file_elsewhere(builds, taker):
    with pytest.raises(TorchExtensionError, match=r"job\.taker is"):
        takers.note_taker(builds.job_folder().takers, taker)


def test_of_what_was_never_started_no_taker_is_noted(builds):
    takers.note_taker(builds.job_folder().takers, "one")
    assert not builds.folder.exists()


def make_other(folder):
    path = folder / "other.tar.gz"
    path.write_bytes(b"other")
    return path


def test_files_that_were_brought_for_a_build_that_never_started_are_cleared(builds, job):
    assert job_control.clear(builds.job_folder(), job) is True
    assert not builds.folder.exists()
    assert builds.folder.parent.exists()
    assert job_control.clear(builds.job_folder(), job) is False


def test_what_runs_is_not_cleared(builds, job):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert builds.poll()["state"] == "running"
    assert builds.start(job) is False
    with pytest.raises(TorchExtensionError, match="runs. Stop it first"):
        job_control.clear(folder, job)
    os.close(handle)
    assert builds.poll()["state"] == "absent"


def test_a_build_that_ends_while_it_is_asked_for_is_not_lost(builds, job, monkeypatch):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    write_json(folder.state, {"state": "running", "started": 1.0})

    def end_meanwhile(folder):
        write_json(folder.state, {"state": "finished", "started": 1.0, "ended": 3.5})
        return False

    monkeypatch.setattr(job_control, "is_running", end_meanwhile)
    assert (builds.poll()["state"], builds.poll()["seconds"]) == ("finished", 2.5)


def test_who_waits_is_answered_as_soon_as_the_build_ends_and_after_a_while_in_any_case(builds):
    folder = builds.job_folder()
    os.makedirs(folder.path)
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert job_control.wait(folder, 0)["state"] == "running"
    assert job_control.wait(folder, 1)["state"] == "running"
    threading.Timer(0.5, os.close, [handle]).start()
    begun = time.monotonic()
    assert job_control.wait(folder, 60)["state"] == "absent"
    assert time.monotonic() - begun < 30


def test_questions_do_not_keep_a_build_from_starting(builds, job):
    """poll and stop take the lock for a moment."""
    folder = builds.job_folder()
    os.makedirs(folder.path)
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    threading.Timer(0.5, os.close, [handle]).start()
    assert builds.start(job) is True

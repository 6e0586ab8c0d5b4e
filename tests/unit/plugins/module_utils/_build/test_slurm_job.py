# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build on a machine that Slurm allocates, with stand-ins for Slurm's commands; molecule has a real Slurm."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from builds import extension_files, make_sdist
from slurms import install_stand_ins, read_log

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import job_control, slurm_job
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.commands import make_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import read_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm's commands on the PATH. What squeue tells is in the file states."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    install_stand_ins(folder, monkeypatch)
    monkeypatch.setenv("RUNS", "")
    (folder / "states").write_text("PENDING|Resources\n")
    return folder


@pytest.fixture
def job(builds, tmp_path):
    return builds.make_job(make_sdist(tmp_path, extension_files(parts=1)), slurm={"options": ["--partition=gpu"]})


@pytest.mark.slow
def test_slurm_runs_the_same_build_and_its_wheel_is_there(slurm, builds, job, monkeypatch):
    monkeypatch.setenv("RUNS", "1")
    assert builds.start(job)
    folder = builds.job_folder()
    assert read_log(slurm) == [
        "--parsable",
        "--job-name=build-small-extension",
        f"--output={folder.log}",
        "--open-mode=append",
        "--time=6",
        "--partition=gpu",
        f"{folder.lib}/start.sh",
    ]
    (slurm / "states").write_text("RUNNING|None\n")
    assert builds.start(job) is False
    assert builds.poll()["state"] == "running"
    while "ended" not in read_json(folder.state):
        time.sleep(0.1)
    assert builds.poll()["state"] == "running"  # until Slurm, too, has ended it
    (slurm / "states").write_text("")
    assert builds.poll()["state"] == "finished", builds.poll()
    assert builds.start(job) is False


def test_this_machine_need_not_have_what_the_build_needs(slurm, builds, job, monkeypatch):
    monkeypatch.setenv("PATH", str(slurm / "bin"))  # without a compiler
    assert builds.start({**job, "memory_per_job_mib": 10**9}, check_mode=True) is True


def test_one_that_waits_in_the_queue_says_for_what(slurm, builds, job):
    assert builds.start(job)
    polled = builds.poll()
    assert (polled["state"], polled["message"]) == ("running", "waits for Slurm, job 42: PENDING (Resources)")


def test_a_machine_that_does_not_see_the_folder_is_told_with_the_knob(slurm, builds, job):
    assert builds.start(job)
    (slurm / "states").write_text("")
    assert builds.poll()["state"] == "running"  # a shared file system may be late
    let_time_pass(builds)
    polled = builds.poll()
    assert polled["state"] == "lost"
    assert f"{builds.job_folder().path} shows nothing of it" in polled["message"]
    assert "Set torch_extension_build_dir" in polled["message"]


def test_one_that_slurm_has_ended_is_told_so(slurm, builds, job):
    assert builds.start(job)
    Path(builds.job_folder().state).write_text(json.dumps({"state": "running", "message": "compiles", "started": 1}))
    (slurm / "states").write_text("TIMEOUT|TimeLimit\n")
    let_time_pass(builds)
    polled = builds.poll()
    assert (polled["state"], "torch_extension_build_slurm_options" in polled["message"]) == ("lost", True)
    assert builds.start(job) is True


def let_time_pass(builds):
    path = Path(builds.job_folder().slurm)
    path.write_text(json.dumps({**json.loads(path.read_text()), "submitted": 0}))


def test_it_is_stopped_and_cleared_by_slurm(slurm, builds, job):
    assert builds.start(job)
    with pytest.raises(TorchExtensionError, match="runs. Stop it first"):
        job_control.clear(builds.job_folder(), job)
    assert job_control.stop(builds.job_folder()) is True
    assert read_log(slurm)[-2:] == ["scancel", "42"]
    assert builds.poll()["state"] == "failed"
    assert job_control.clear(builds.job_folder(), job) is True


def test_what_slurm_refuses_is_told(slurm, builds, job):
    (slurm / "full").write_text("sbatch: error: invalid partition specified: gpu\n")
    with pytest.raises(TorchExtensionError) as refused:
        builds.start(job)
    assert "invalid partition specified: gpu" in str(refused.value)
    assert "torch_extension_build_slurm_options, with which sbatch was called here: --partition=gpu." in str(
        refused.value
    )
    assert builds.poll()["state"] == "absent"


def test_a_limit_of_time_among_the_options_counts(slurm, tmp_path):
    for option in ("--time=10", "-t10"):
        slurm_job.submit([option], "name", "out", 6, "script", make_run(os.environ))
    assert "--time=6" not in read_log(slurm)


def test_a_job_of_another_cluster_is_asked_for_there(slurm, tmp_path):
    (slurm / "bin/squeue").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> "$LOG"\necho "RUNNING|None"\n')
    assert slurm_job.ask("7;big", make_run(os.environ)) == ("runs", "RUNNING")
    assert read_log(slurm)[1:3] == ["--jobs=7", "--clusters=big"]


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "gone"),
        ("exit 0", "gone"),
        ("echo 'COMPLETING|None'", "runs"),
    ],
)
def test_a_job_that_slurm_has_forgotten_is_gone(script, state, slurm):
    (slurm / "bin/squeue").write_text(f"#!/bin/sh\n{script}\n")
    assert slurm_job.ask("7", make_run(os.environ)).state == state


def test_a_slurm_that_does_not_answer_is_no_end(slurm):
    (slurm / "bin/squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    with pytest.raises(TorchExtensionError, match=r"Slurm cannot be asked for its job 7 \(squeue\): Unable to contact"):
        slurm_job.ask("7", make_run(os.environ))

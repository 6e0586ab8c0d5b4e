# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from builds import Builds, extension_files, make_sdist
from venvs import site_packages
from wheels import tree_state

from ansible_collections.airgap.torch_extensions.plugins.modules import build_job


@pytest.fixture
def builds(tmp_path):
    made = Builds(tmp_path / "builds", sys.executable)
    yield made
    made.end_all()


@pytest.fixture
def run(run_module, builds):
    """Runs a step of the module."""

    def run(step, check_mode=False, **arguments):
        arguments = {"folder": str(builds.folder), "python": sys.executable, **arguments}
        return run_module(build_job, check_mode=check_mode, step=step, **arguments)

    return run


@pytest.fixture
def job(builds, tmp_path):
    """A job as a task names it, with no more than it must have."""
    whole = builds.make_job(make_sdist(tmp_path, extension_files(parts=0)))
    return {key: whole[key] for key in ("id", "name", "version", "sdist", "requirements")}


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_machine_is_told_and_nothing_changes(check_mode, run, make_venv, make_torch, home, monkeypatch):
    venv = make_venv()
    make_torch(site_packages(venv), version="__version__ = '2.14.1+cu130'\ncuda: Optional[str] = '13.0'\n")
    before = tree_state(home)
    result = run("probe", check_mode, python=str(venv), folder="~/builds")
    machine = result["machine"]
    assert result["changed"] is False
    assert tree_state(home) == before
    assert machine["folder"] == f"{os.path.realpath(home)}/builds"
    assert machine["torch"] == {"version": "2.14.1+cu130", "cuda": "13.0", "cxx11_abi": False}
    assert machine["python"]["prefix"] == str(venv)
    assert machine["python"]["tag"] == "cp{}{}".format(*sys.version_info[:2])
    real = subprocess.run(["g++", "-dumpfullversion"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert machine["cxx"]["version"] == real.strip()
    assert (machine["machine"], machine["python_headers"]) == (os.uname().machine, True)
    for number in ("cores", "memory_mib", "free_mib"):
        assert machine[number] > 0
    monkeypatch.setenv("PATH", str(home))
    poor = run("probe", python=str(venv))["machine"]
    assert (poor["cxx"], poor["cc"], poor["slurm"]) == (None, None, False)


@pytest.mark.slow
def test_a_build_is_started_watched_and_cleared(run, builds, job):
    assert run("start", True, job=job)["changed"] is True
    assert run("poll", job={"id": job["id"]})["job"]["state"] == "absent"
    assert run("start", job=job)["changed"] is True
    assert run("start", job=job)["changed"] is False
    assert "runs. Stop it first" in run("clear", job=job)["msg"]
    builds.wait()
    polled = run("poll", job={"id": job["id"]})
    assert (polled["changed"], polled["job"]["state"]) == (False, "finished")
    assert os.path.getsize(polled["job"]["wheel"]["path"]) == polled["job"]["wheel"]["size"]
    assert [run("start", check_mode, job=job)["changed"] for check_mode in (True, False)] == [False, False]
    assert run("stop", job={"id": job["id"]})["changed"] is False
    assert [run("clear", check_mode, job={"id": job["id"]})["changed"] for check_mode in (True, False)] == [True, True]
    assert run("clear", job={"id": job["id"]})["changed"] is False
    assert not builds.folder.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sdist": None}, "job lacks sdist, which step start needs."),
        ({"name": "", "requirements": []}, "job lacks name, requirements, which step start needs."),
        ({"archs": ["sm_90"]}, "'sm_90' is not an architecture of GPUs, wanted is one such as 9.0, 9.0a or 12.0+PTX."),
        ({"toolchain": {"home": "/usr/local/cuda"}}, "job has a toolchain and no archs to compile for."),
        ({"environ": {"A=B": "1"}}, "job.environ has 'A=B', which is not the name of a variable."),
        ({"id": "../x"}, "job.id is '../x', wanted is a name of letters"),
    ],
)
def test_a_job_that_is_none_is_refused(change, words, run, builds, job):
    failed = run("start", job={**job, **change})
    assert (failed["failed"], words in failed["msg"]) == (True, True), failed["msg"]
    assert not os.path.exists(builds.job_folder().path)


def test_a_folder_that_cannot_be_used_is_one_message(run, builds, job):
    os.makedirs(f"{builds.job_folder().path}/lock")
    failed = run("start", job=job)
    assert (
        failed["msg"]
        == f"{builds.job_folder().path}/lock on this node cannot be used (Is a directory). Set torch_extension_build_dir."
    )


def test_a_job_is_wanted_for_all_steps_but_probe(run):
    assert "job" in run("poll")["msg"]

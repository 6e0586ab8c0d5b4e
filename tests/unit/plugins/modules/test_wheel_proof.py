# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from binaries import no_facts, read_facts
from wheels import tree_state

from ansible_collections.airgap.torch_extensions.plugins.modules import wheel_proof


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A node with a Tesla T4, by what nvidia-smi says; it writes down each question."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\necho asked >>{tmp_path}/asked\n"
        'case "$*" in *query-gpu*) echo "Tesla T4, 7.5, 15360, 550.1" ;; *) echo "CUDA Version : 12.4" ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return tmp_path / "asked"


@pytest.mark.parametrize("check_mode", [False, True])
def test_each_wheel_gets_a_verdict_and_nothing_changes(make_venv, run_module, check_mode, tmp_path):
    venv = make_venv()
    facts = [no_facts(filename="a.whl"), no_facts(filename="b.whl", problems=["x.so is damaged"])]
    before = tree_state(tmp_path)
    result = run_module(wheel_proof, check_mode=check_mode, python=str(venv), facts=facts)
    assert result["proofs"] == [
        {"filename": "a.whl", "verdict": "fits", "reasons": []},
        {"filename": "b.whl", "verdict": "cannot be told", "reasons": ["x.so is damaged"]},
    ]
    assert result["changed"] is False
    assert 0 <= result["milliseconds"] < 10_000
    assert tree_state(tmp_path) == before


def test_gpus_are_asked_for_where_the_wheel_has_code_for_them(make_venv, run_module, nvidia_smi):
    venv = str(make_venv())
    run_module(wheel_proof, python=venv, facts=[no_facts()])
    assert not nvidia_smi.exists()
    facts = no_facts(architectures={"sass": ["80"], "ptx": []}, cuda="12")
    (proof,) = run_module(wheel_proof, python=venv, facts=[facts])["proofs"]
    assert proof["verdict"] == "does not fit"
    assert proof["reasons"] == ["has code for sm_80; this node has sm_75 (GPU 0, Tesla T4)"]


def test_libraries_are_held_against_the_environment(make_venv, make_torch, run_module):
    venv = make_venv()
    make_torch(next(venv.glob("lib/*/site-packages")))
    dynload = __import__("_ctypes").__file__  # a real extension
    (proof,) = run_module(wheel_proof, python=str(venv), facts=[read_facts(dynload, "x.so")])["proofs"]
    assert proof["verdict"] == "fits"


def test_what_is_no_environment_is_a_failure(run_module):
    result = run_module(wheel_proof, python="/opt/nowhere", facts=[])
    assert result["failed"]
    assert "No interpreter at /opt/nowhere" in result["msg"]


def test_an_environment_that_is_not_whole_is_a_failure_that_says_so(run_module):
    result = run_module(wheel_proof, environment={"python": {}}, facts=[])
    assert result["failed"]
    assert "environment lacks platform, torch" in result["msg"]


def test_facts_that_are_not_whole_are_a_failure_that_says_so(make_venv, run_module):
    result = run_module(wheel_proof, python=str(make_venv()), facts=[{"version": 4, "filename": "a.whl"}])
    assert result["failed"]
    assert "without 'problems'" in result["msg"]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest


@pytest.fixture
def query(ansible, environment):
    """What Ansible makes of the lookup in a template."""

    def query(options, **variables):
        template = (
            f"{{{{ query('airgap.torch_extensions.wheel', terms, environment=probed, source='guess', {options}) }}}}"
        )
        return ansible("debug", f"msg={template}", "-e", json.dumps({"probed": environment, **variables}))

    return query


def test_each_term_is_answered_in_order_with_the_given_options(query):
    status, output = query(
        "github_url='http://gh.example', sdist_url=sdists, sha256={answer: '%s'}" % ("a" * 64),
        terms=["flash-attn==2.5.3", "causal-conv1d==1.2.0.post2"],
        sdists={"flash-attn": "https://mirror.example/flash_attn-2.5.3.tar.gz"},
        answer="flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl",
    )
    assert status == 0, output
    flash_attn, causal_conv1d = json.loads(output.partition("=>")[2])["msg"]
    assert flash_attn["url"].startswith("http://gh.example/Dao-AILab/flash-attention/")
    assert flash_attn["pip_cache_path"].startswith("/home/user/.cache/pip/wheels/")
    assert flash_attn["sha256"] == "a" * 64
    assert (causal_conv1d["name"], causal_conv1d["pip_cache_path"]) == ("causal-conv1d", None)


def test_a_term_may_hold_several_requirements(query):
    status, output = query("strict=false", terms="flash-attn>=2.5,<2.6,causal-conv1d==1.2.0.post2")
    assert status == 0, output
    answers = json.loads(output.partition("=>")[2])["msg"]
    assert [answer["requirement"] for answer in answers] == ["flash-attn>=2.5,<2.6", "causal-conv1d==1.2.0.post2"]


@pytest.mark.parametrize("strict", [True, False])
def test_no_wheel_is_an_error_or_if_not_strict_a_refusal(strict, query, environment):
    environment["torch"] = None
    status, output = query(f"strict={strict}", terms=["flash-attn==2.5.3"])
    assert (status != 0) == strict
    assert ('"action": "refuse"' in output) != strict
    assert "Install torch there first" in output
    assert "Traceback" not in output


def test_an_unknown_path_in_pips_cache_is_a_conflict_if_pip_cache_is_set(query):
    status, output = query("strict=false, pip_cache=true", terms=["flash-attn==2.5.3"])
    assert status == 0, output
    assert "Nobody has told where the sdist" in output
    status, output = query("strict=false", terms=["flash-attn==2.5.3"])
    assert '"conflicts": []' in output

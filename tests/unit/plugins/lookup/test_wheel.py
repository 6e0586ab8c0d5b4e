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


def test_each_term_has_its_answer_in_order_with_the_options_that_were_given(query):
    status, said = query(
        "github_url='http://gh.example', sdist_url=sdists, sha256={answer: '%s'}" % ("a" * 64),
        terms=["flash-attn==2.5.3", "causal-conv1d==1.2.0.post2"],
        sdists={"flash-attn": "https://mirror.example/flash_attn-2.5.3.tar.gz"},
        answer="flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl",
    )
    assert status == 0, said
    flash_attn, causal_conv1d = json.loads(said.partition("=>")[2])["msg"]
    assert flash_attn["url"].startswith("http://gh.example/Dao-AILab/flash-attention/")
    assert flash_attn["pip_cache_path"].startswith("/home/user/.cache/pip/wheels/")
    assert flash_attn["sha256"] == "a" * 64
    assert (causal_conv1d["name"], causal_conv1d["pip_cache_path"]) == ("causal-conv1d", None)


@pytest.mark.parametrize("strict", [True, False])
def test_no_answer_is_an_error_in_plain_words_or_part_of_the_plan(strict, query, environment):
    environment["torch"] = None
    status, said = query(f"strict={strict}", terms=["flash-attn==2.5.3"])
    assert (status != 0) == strict
    assert ('"action": "refuse"' in said) != strict
    assert "install torch there first" in said
    assert "Traceback" not in said


def test_no_place_in_pips_cache_is_part_of_the_plan_where_it_is_wanted(query):
    status, said = query("strict=false, pip_cache=true", terms=["flash-attn==2.5.3"])
    assert status == 0, said
    assert "Nobody has told where the sdist" in said
    status, said = query("strict=false", terms=["flash-attn==2.5.3"])
    assert '"conflicts": []' in said

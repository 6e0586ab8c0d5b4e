# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import agreement

NAME = "flash_attn-2.5.3+{}-cp311-cp311-linux_x86_64.whl"


def facts(label="cu122torch2.2cxx11abiFALSE", **more):
    """Of a wheel for the node's torch 2.2 and CUDA 12.1."""
    return {"filename": NAME.format(label), "requires_torch": [], "cuda": None, "torch_abi": "unstable", **more}


@pytest.mark.parametrize(
    "of_wheel",
    [
        facts(),
        facts(cuda="12"),
        facts(requires_torch=["torch", "torch>=2.0"]),
        facts(requires_torch=["torch==2.2.*"]),
        facts(requires_torch=["torch==2.3.*; sys_platform == 'win32'"]),
        facts("cu130.torch210"),  # only its place can read it
    ],
)
def test_a_wheel_that_agrees_with_itself_and_the_node_has_no_disagreement(of_wheel, environment):
    assert agreement.find_disagreements(of_wheel, environment) == []


@pytest.mark.parametrize(
    ("of_wheel", "reason"),
    [
        (
            facts(requires_torch=["torch==2.3.*"]),
            "is for torch 2.2 by its name, and requires torch==2.3.* by its METADATA",
        ),
        (
            facts("35c4bc8", requires_torch=["torch==2.3.*"]),
            "requires torch==2.3.* by its METADATA, and this node has torch 2.2.0+cu121",
        ),
        (facts(cuda="13"), "contradicts itself: its name says CUDA 12.2, and its binaries says CUDA 13"),
    ],
)
def test_a_disagreement_is_told_with_both(of_wheel, reason, environment):
    assert agreement.find_disagreements(of_wheel, environment) == [reason]


def test_a_stable_abi_is_known_by_the_facts():
    assert agreement.has_stable_abi(facts(torch_abi="stable"))
    assert not agreement.has_stable_abi(facts())
    assert not agreement.has_stable_abi(facts(torch_abi=None))

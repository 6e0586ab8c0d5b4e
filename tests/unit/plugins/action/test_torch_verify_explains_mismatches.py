# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.action.torch_verify import _explain_mismatches

WHEEL = "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("filename", "torch", "reasons"),
    [
        (WHEEL, {}, []),
        (WHEEL, {"version": "2.3.0+cu121"}, ["torch 2.2, this node has torch 2.3.0+cu121"]),
        (WHEEL, {"cuda": "13.0"}, ["CUDA 12, this node has CUDA 13.0"]),
        (WHEEL, {"cxx11_abi": True}, ["a torch with C++11 ABI FALSE, this node has TRUE"]),
        (WHEEL.replace("cp311", "cp310"), {}, ["Python cp310, this node has cp311"]),
        ("flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl", {}, []),
        (None, {}, []),
    ],
    ids=["fits", "torch", "CUDA", "ABI", "Python", "built on the node", "not recorded"],
)
def test_a_wheel_for_another_torch_is_told_by_its_name(filename, torch, reasons, environment):
    environment["torch"].update(torch)
    told = _explain_mismatches({"name": "flash-attn", "filename": filename}, environment, "exact")
    assert told == [f"the wheel it was installed from is for {reason}" for reason in reasons]


def test_without_torch_nothing_works(environment):
    environment["torch"] = None
    assert _explain_mismatches({"name": "flash-attn", "filename": WHEEL}, environment, "exact") == [
        "it needs torch, and the environment has none"
    ]


def test_a_wheel_for_another_torch_may_serve_where_the_import_is_the_proof(environment):
    environment["torch"].update(version="2.3.0+cu121", cuda="13.0")
    assert _explain_mismatches({"name": "flash-attn", "filename": WHEEL}, environment, "proven") == [
        "the wheel it was installed from is for CUDA 12, this node has CUDA 13.0"
    ]

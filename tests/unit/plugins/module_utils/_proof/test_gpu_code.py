# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.gpu_code import judge_gpu_code
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import conclude

NEW_DRIVER = {"version": "999.1", "cuda": "99.0"}


def verdict(sass="", ptx="", capabilities="", cuda="12", driver="new"):
    driver = NEW_DRIVER if driver == "new" else driver
    gpus = [{"name": "GPU", "compute_capability": item, "memory_mib": 1} for item in capabilities.split()]
    facts = {"cuda": cuda, "architectures": {"sass": sass.split(), "ptx": ptx.split()}}
    return conclude(judge_gpu_code(facts, gpus, driver))


@pytest.mark.parametrize(
    "sass, ptx, capability, fits",
    [
        # SASS: the same major version, and no older
        ("80", "", "8.0", True),
        ("80", "", "8.6", True),
        ("86", "", "8.0", False),
        ("80", "", "9.0", False),
        ("80 90", "", "7.5", False),
        # of special features
        ("90a", "", "9.0", True),
        ("100a", "", "10.3", False),
        ("100f", "", "10.3", True),
        ("103f", "", "10.0", False),
        ("120f", "", "12.1", True),
        ("100f", "", "12.0", False),
        # PTX: any that is later
        ("", "80", "12.0", True),
        ("", "90", "8.9", False),
        ("80", "80", "7.5", False),
        ("", "90a", "10.0", False),
        ("", "90a", "9.0", True),
        ("", "100f", "10.3", True),
        ("", "100f", "12.0", False),
        ("", "", "9.0", False),
    ],
)
def test_code_runs_on_the_gpus_it_was_made_for(sass, ptx, capability, fits):
    assert verdict(sass, ptx, capability).verdict == ("fits" if fits else "does not fit")


def test_the_gpu_is_named():
    facts = {"cuda": "12", "architectures": {"sass": ["80", "90a"], "ptx": ["90"]}}
    gpus = [{"name": "Tesla T4", "compute_capability": "7.5", "memory_mib": 15360}]
    assert conclude(judge_gpu_code(facts, gpus, NEW_DRIVER)).reasons == [
        "has code for sm_80 and sm_90a and PTX for compute_90; this node has sm_75 (GPU 0, Tesla T4)"
    ]


def test_a_second_gpu_without_code_is_a_remark():
    found = verdict("80", "", "8.0 5.0")
    assert found.verdict == "fits"
    assert found.reasons == ["has code for sm_80, none for sm_50 (GPU 1, GPU)"]


@pytest.mark.parametrize("gpus", [None, [], [{"name": "GPU", "compute_capability": None, "memory_mib": None}]])
def test_gpus_that_are_not_known_speak_against_nothing(gpus):
    facts = {"cuda": "12", "architectures": {"sass": ["90"], "ptx": []}}
    assert conclude(judge_gpu_code(facts, gpus, None)) == ("fits", [])


def test_code_that_is_not_known_speaks_against_nothing():
    gpus = [{"name": "GPU", "compute_capability": "9.0", "memory_mib": 1}]
    assert conclude(judge_gpu_code({"cuda": None, "architectures": None}, gpus, NEW_DRIVER)) == ("fits", [])


@pytest.mark.parametrize(
    "cuda, driver, fits",
    [("12", "11.4", False), ("12", "12.0", True), ("12", "13.0", True), ("12.8", "12.2", True), ("13", "12.9", False)],
)
def test_the_driver_has_to_serve_the_major_version_of_cuda(cuda, driver, fits):
    found = verdict("90", "", "9.0", cuda, {"version": "1", "cuda": driver})
    assert found.verdict == ("fits" if fits else "does not fit")
    assert fits or found.reasons == [f"needs CUDA {cuda}, and the driver supports CUDA {driver}"]


def test_an_unknown_driver_is_no_reason_to_refuse():
    assert verdict("90", "", "9.0", "12", None).verdict == "fits"
    assert verdict("90", "", "9.0", "12", {"version": "470.1", "cuda": None}).verdict == "fits"


@pytest.mark.parametrize(
    "cuda, driver, expected",
    [
        ("12", None, "cannot be told"),
        ("12", "12.8", "cannot be told"),  # it may be of CUDA 12.9
        ("12", "13.0", "fits"),
        ("12.8", "12.8", "fits"),
        ("12.9", "12.8", "cannot be told"),
        (None, "12.8", "cannot be told"),
        ("13", "12.9", "does not fit"),
    ],
)
def test_a_driver_translates_ptx_of_no_newer_cuda(cuda, driver, expected):
    found = verdict("80", "90", "12.0", cuda, {"version": "1", "cuda": driver})
    assert found.verdict == expected


def test_one_gpu_with_its_own_code_needs_no_translation():
    assert verdict("80", "90", "8.0 12.0", "12", None).verdict == "fits"

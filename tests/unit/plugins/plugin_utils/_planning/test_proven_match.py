# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.proven_match import (
    ProofResult,
    choose_proven,
)

SHA256 = "ab" * 32


def provable(torch, **more):
    return {
        "name": "flash-attn",
        "version": "2.8.3",
        "filename": f"flash_attn-2.8.3+cu12torch{torch}-cp311-cp311-linux_x86_64.whl",
        "sha256": None,
        "size": None,
        "pip_cache_path": None,
        "ground": f"its name says torch {torch}",
        "action": "install",
        "reason": "flash-attn is not installed",
        "conflicts": [],
        "refused": [],
        "provable": [],
        "warnings": [],
        **more,
    }


def answer(*candidates):
    """An answer that has only wheels for another torch."""
    return {**provable("2.2"), "url": None, "conflicts": ["No wheel fits."], "provable": list(candidates)}


@pytest.fixture
def prove():
    """Returns the result that a test has set for a wheel, and remembers which wheels were tried."""

    def prove(candidate):
        prove.tried.append(candidate["filename"])
        result = prove.results[candidate["filename"]]
        if isinstance(result, Exception):
            raise result
        return result

    prove.tried, prove.results = [], {}
    return prove


FITS = ProofResult("fits", [], SHA256, 7)
MISFIT = ProofResult("does not fit", ["needs cudaMalloc", "has no code for sm_90"], SHA256, 7)
UNKNOWN = ProofResult("cannot be told", ["has no library"], SHA256, 7)


def test_the_first_that_fits_is_taken_and_the_next_is_not_tried(environment, prove):
    first, second, third = (provable(torch) for torch in ("2.1", "2.0", "2.3"))
    prove.results = {first["filename"]: MISFIT, second["filename"]: FITS}
    chosen = choose_proven(answer(first, second, third), environment, prove)
    assert prove.tried == [first["filename"], second["filename"]]
    assert (chosen["filename"], chosen["sha256"], chosen["size"]) == (second["filename"], SHA256, 7)
    assert chosen["ground"] == "its name says torch 2.0; this node has all that its binaries need, as was proven"
    assert (chosen["action"], chosen["reason"]) == ("install", "flash-attn is not installed")
    assert (chosen["conflicts"], chosen["provable"], chosen["warnings"]) == ([], [], [])
    assert chosen["refused"] == [
        {"filename": first["filename"], "reasons": ["does not fit: it needs cudaMalloc; it has no code for sm_90"]}
    ]


def test_the_installed_wheel_is_tried_first_so_that_it_stays(environment, prove):
    nearer, installed = provable("2.1"), provable("1.13", action="keep", sha256="cd" * 32, size=9)
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": installed["filename"], "sha256": "cd" * 32}
    # proven by importing what is installed: there is no file
    prove.results = {installed["filename"]: ProofResult("fits", [], None, None)}
    kept = choose_proven(answer(nearer, installed), environment, prove)
    assert prove.tried == [installed["filename"]]
    assert (kept["action"], kept["sha256"], kept["size"]) == ("keep", "cd" * 32, 9)


def test_the_hash_from_the_proof_decides_the_action(environment, prove):
    installed = provable("2.1", action="keep")
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": installed["filename"], "sha256": "cd" * 32}
    prove.results = {installed["filename"]: FITS}
    chosen = choose_proven(answer(installed), environment, prove)
    assert (chosen["action"], "from a file of this name with sha256 cdcd" in chosen["reason"]) == ("replace", True)


def test_for_pips_cache_the_node_still_has_to_examine_it(environment, prove):
    cached = provable("2.1", action="examine", pip_cache_path="/c/x.whl")
    prove.results = {cached["filename"]: FITS}
    assert choose_proven(answer(cached), environment, prove)["action"] == "examine"


def test_a_wheel_that_check_mode_does_not_download_is_planned_with_a_warning(environment, prove):
    first, second = provable("2.1", warnings=["the answer is old"]), provable("2.0")
    prove.results = {first["filename"]: None}
    planned = choose_proven(answer(first, second), environment, prove)
    assert (planned["filename"], planned["action"], planned["conflicts"]) == (first["filename"], "install", [])
    assert planned["warnings"][0] == "the answer is old"
    assert f"{first['filename']} is for another torch" in planned["warnings"][1]
    assert "check mode does not download" in planned["warnings"][1]
    assert prove.tried == [first["filename"]]


def test_after_a_wheel_that_cannot_be_downloaded_the_next_is_tried(environment, prove):
    first, second = provable("2.1"), provable("2.0")
    prove.results = {first["filename"]: TorchExtensionError("The server is down."), second["filename"]: FITS}
    chosen = choose_proven(answer(first, second), environment, prove)
    assert chosen["filename"] == second["filename"]
    assert chosen["refused"] == [{"filename": first["filename"], "reasons": ["The server is down."]}]


def test_if_no_wheel_is_proven_the_answer_stays_with_the_reason_for_each(environment, prove):
    wheels = [provable(torch) for torch in ("2.1", "2.0", "2.3")]
    prove.results = {
        wheels[0]["filename"]: MISFIT,
        wheels[1]["filename"]: UNKNOWN,
        wheels[2]["filename"]: TorchExtensionError("The server is down"),
    }
    unproven = answer(*wheels)
    before = copy.deepcopy(unproven)
    refused = choose_proven(unproven, environment, prove)
    (conflict,) = refused["conflicts"]
    assert conflict == (
        "No wheel fits."
        f" {wheels[0]['filename']} was tried, and does not serve: does not fit: it needs cudaMalloc; it has no code for sm_90."
        f" {wheels[1]['filename']} was tried, and does not serve: cannot be told: it has no library."
        f" {wheels[2]['filename']} was tried, and does not serve: The server is down."
    )
    assert [each["filename"] for each in refused["refused"]] == [wheel["filename"] for wheel in wheels]
    assert (refused["provable"], refused["url"]) == ([], None)
    assert unproven == before

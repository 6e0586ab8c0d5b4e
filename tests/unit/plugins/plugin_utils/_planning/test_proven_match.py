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
    """What has only wheels for another torch."""
    return {**provable("2.2"), "url": None, "conflicts": ["No wheel fits."], "provable": list(candidates)}


@pytest.fixture
def prove():
    """Proves nothing until a test says what of which wheel; it remembers what it was asked for."""

    def prove(candidate):
        prove.asked.append(candidate["filename"])
        shown = prove.shown[candidate["filename"]]
        if isinstance(shown, Exception):
            raise shown
        return shown

    prove.asked, prove.shown = [], {}
    return prove


FITS = ProofResult("fits", [], SHA256, 7)
MISFIT = ProofResult("does not fit", ["needs cudaMalloc", "has no code for sm_90"], SHA256, 7)
UNKNOWN = ProofResult("cannot be told", ["has no library"], SHA256, 7)


def test_the_first_that_fits_is_taken_and_the_next_is_not_tried(environment, prove):
    first, second, third = (provable(torch) for torch in ("2.1", "2.0", "2.3"))
    prove.shown = {first["filename"]: MISFIT, second["filename"]: FITS}
    taken = choose_proven(answer(first, second, third), environment, prove)
    assert prove.asked == [first["filename"], second["filename"]]
    assert (taken["filename"], taken["sha256"], taken["size"]) == (second["filename"], SHA256, 7)
    assert taken["ground"] == "its name says torch 2.0; this node has all that its binaries need, as was proven"
    assert (taken["action"], taken["reason"]) == ("install", "flash-attn is not installed")
    assert (taken["conflicts"], taken["provable"], taken["warnings"]) == ([], [], [])
    assert taken["refused"] == [
        {"filename": first["filename"], "reasons": ["does not fit: it needs cudaMalloc; it has no code for sm_90"]}
    ]


def test_what_is_installed_is_tried_first_so_that_it_stays(environment, prove):
    nearer, there = provable("2.1"), provable("1.13", action="keep", sha256="cd" * 32, size=9)
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": there["filename"], "sha256": "cd" * 32}
    prove.shown = {there["filename"]: ProofResult("fits", [], None, None)}  # by what is installed: there is no file
    kept = choose_proven(answer(nearer, there), environment, prove)
    assert prove.asked == [there["filename"]]
    assert (kept["action"], kept["sha256"], kept["size"]) == ("keep", "cd" * 32, 9)


def test_the_hash_that_shows_at_the_proof_decides_what_has_to_be_done(environment, prove):
    there = provable("2.1", action="keep")
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": there["filename"], "sha256": "cd" * 32}
    prove.shown = {there["filename"]: FITS}
    taken = choose_proven(answer(there), environment, prove)
    assert (taken["action"], "from a file of this name with sha256 cdcd" in taken["reason"]) == ("replace", True)


def test_for_pips_cache_the_node_has_to_look_closer(environment, prove):
    cached = provable("2.1", action="examine", pip_cache_path="/c/x.whl")
    prove.shown = {cached["filename"]: FITS}
    assert choose_proven(answer(cached), environment, prove)["action"] == "examine"


def test_what_may_not_be_downloaded_yet_is_planned_with_a_warning(environment, prove):
    first, second = provable("2.1", warnings=["the answer is old"]), provable("2.0")
    prove.shown = {first["filename"]: None}
    planned = choose_proven(answer(first, second), environment, prove)
    assert (planned["filename"], planned["action"], planned["conflicts"]) == (first["filename"], "install", [])
    assert planned["warnings"][0] == "the answer is old"
    assert f"{first['filename']} is for another torch" in planned["warnings"][1]
    assert "check mode does not download" in planned["warnings"][1]
    assert prove.asked == [first["filename"]]


def test_what_cannot_be_had_makes_way_for_the_next(environment, prove):
    first, second = provable("2.1"), provable("2.0")
    prove.shown = {first["filename"]: TorchExtensionError("The server is down."), second["filename"]: FITS}
    taken = choose_proven(answer(first, second), environment, prove)
    assert taken["filename"] == second["filename"]
    assert taken["refused"] == [{"filename": first["filename"], "reasons": ["The server is down."]}]


def test_where_none_serves_the_answer_stays_with_what_stands_in_the_way_of_each(environment, prove):
    wheels = [provable(torch) for torch in ("2.1", "2.0", "2.3")]
    prove.shown = {
        wheels[0]["filename"]: MISFIT,
        wheels[1]["filename"]: UNKNOWN,
        wheels[2]["filename"]: TorchExtensionError("The server is down"),
    }
    given = answer(*wheels)
    before = copy.deepcopy(given)
    refused = choose_proven(given, environment, prove)
    (conflict,) = refused["conflicts"]
    assert conflict == (
        "No wheel fits."
        f" {wheels[0]['filename']} was tried, and does not serve: does not fit: it needs cudaMalloc; it has no code for sm_90."
        f" {wheels[1]['filename']} was tried, and does not serve: cannot be told: it has no library."
        f" {wheels[2]['filename']} was tried, and does not serve: The server is down."
    )
    assert [each["filename"] for each in refused["refused"]] == [wheel["filename"] for wheel in wheels]
    assert (refused["provable"], refused["url"]) == ([], None)
    assert given == before

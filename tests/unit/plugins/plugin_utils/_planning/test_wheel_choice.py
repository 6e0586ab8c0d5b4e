# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import Answer
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.wheel_choice import (
    ProofResult,
    Unfit,
    choose_serving,
)

SHA256 = "ab" * 32


def offered(torch, needs_proof=True, **more):
    """A wheel, as a source offers it."""
    filename = f"flash_attn-2.8.3+cu12torch{torch}-cp311-cp311-linux_x86_64.whl"
    wheel = {
        "name": "flash-attn",
        "version": "2.8.3",
        "filename": filename,
        "url": f"https://gh.example/{filename}",
        "source": "release",
        "sha256": None,
        "size": None,
        "pip_cache_path": None,
        "ground": f"its name says torch {torch}",
        "action": "install",
        "reason": "flash-attn is not installed",
        "conflicts": [],
        "refused": [],
        "warnings": [],
        **more,
    }
    return Answer(wheel, needs_proof)


class Offers:
    """Stands for a decision whose answers are known."""

    reinstall = False

    def __init__(self, *answers):
        self.asked = 0
        self._answers = answers

    def answers(self):
        for answer in self._answers:
            self.asked += 1
            yield answer

    def explain_nothing_fits(self):
        return "No wheel fits."

    def refusal(self, message):
        return {**offered("2.2").wheel, "url": None, "conflicts": [message], "action": "refuse"}


@pytest.fixture
def prove():
    """Returns the result that a test has set for a wheel, and remembers which wheels were tried."""

    def prove(wheel):
        prove.tried.append(wheel["filename"])
        result = prove.results[wheel["filename"]]
        if isinstance(result, Exception):
            raise result
        return result

    prove.tried, prove.results = [], {}
    return prove


def name(answer):
    return answer.wheel["filename"]


FITS = ProofResult("fits", [], SHA256, 7)
MISFIT = ProofResult("does not fit", ["needs cudaMalloc", "has no code for sm_90"], SHA256, 7)
UNKNOWN = ProofResult("cannot be told", ["has no library"], SHA256, 7)


def test_a_wheel_that_fits_by_what_is_told_is_taken_and_no_other_is_asked_for(environment, prove):
    offers = Offers(offered("2.2", needs_proof=False), offered("2.1"))
    assert choose_serving(offers, environment, prove) == offered("2.2").wheel
    assert (offers.asked, prove.tried) == (1, [])


def test_the_first_that_fits_is_taken_and_the_next_is_not_tried(environment, prove):
    first, second, third = (offered(torch) for torch in ("2.1", "2.0", "2.3"))
    prove.results = {name(first): MISFIT, name(second): FITS}
    chosen = choose_serving(Offers(first, second, third), environment, prove)
    assert prove.tried == [name(first), name(second)]
    assert (chosen["filename"], chosen["sha256"], chosen["size"]) == (name(second), SHA256, 7)
    assert chosen["ground"] == "its name says torch 2.0; this node has all that its binaries need, as was proven"
    assert (chosen["action"], chosen["reason"]) == ("install", "flash-attn is not installed")
    assert (chosen["conflicts"], chosen["warnings"]) == ([], [])
    assert chosen["refused"] == [
        {
            "filename": name(first),
            "reason": "does not fit: it needs cudaMalloc; it has no code for sm_90",
            "count": 1,
        }
    ]


def test_with_reinstall_a_wheel_that_is_there_is_proven_and_replaced(environment, prove):
    offers = Offers(offered("2.1"))
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": name(offered("2.1")), "sha256": SHA256}
    prove.results = {name(offered("2.1")): FITS}
    assert choose_serving(offers, environment, prove)["action"] == "keep"
    offers.reinstall = True
    assert choose_serving(offers, environment, prove)["action"] == "replace"


def test_a_stable_abi_is_the_ground(environment, prove):
    prove.results = {name(offered("2.1")): FITS._replace(has_stable_abi=True)}
    assert choose_serving(Offers(offered("2.1")), environment, prove)["ground"] == (
        "its name says torch 2.1; its binaries need only the part of torch that stays stable, which this torch has, as was"
        " proven"
    )


def test_a_wheel_that_the_node_has_refused_is_passed_over_with_the_reason(environment, prove):
    first, second = (offered(torch, needs_proof=False) for torch in ("2.2", "2.2.0"))
    unfit = [Unfit(first.wheel["url"], name(first), "it needs GLIBC_2.38 of libc.so.6, this node has glibc 2.36")]
    chosen = choose_serving(Offers(first, second), environment, prove, unfit)
    assert chosen["filename"] == name(second)
    assert chosen["refused"] == [{"reason": unfit[0].reason, "count": 1, "filename": name(first)}]
    refused = choose_serving(Offers(first), environment, prove, unfit)
    assert refused["conflicts"] == [
        f"No wheel fits. {name(first)} was tried, and does not serve: it needs GLIBC_2.38 of libc.so.6, this node has glibc"
        " 2.36."
    ]


def test_a_wheel_that_is_proven_by_what_is_installed_keeps_its_own_hash(environment, prove):
    installed = offered("1.13", action="keep", sha256="cd" * 32, size=9)
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": name(installed), "sha256": "cd" * 32}
    # proven by importing what is installed: there is no file
    prove.results = {name(installed): ProofResult("fits", [], None, None)}
    kept = choose_serving(Offers(installed), environment, prove)
    assert (kept["action"], kept["sha256"], kept["size"]) == ("keep", "cd" * 32, 9)


def test_a_wheel_that_is_proven_keeps_the_next_answer_from_being_asked_for(environment, prove):
    offers = Offers(offered("unknown"), offered("2.2", needs_proof=False))
    prove.results = {name(offered("unknown")): FITS}
    assert choose_serving(offers, environment, prove)["filename"] == name(offered("unknown"))
    assert offers.asked == 1


def test_one_that_needs_a_proof_has_its_turn_before_one_that_fits_in_a_later_source(environment, prove):
    untold, exact = offered("unknown"), offered("2.2", needs_proof=False)
    prove.results = {name(untold): MISFIT}
    assert choose_serving(Offers(untold, exact), environment, prove)["filename"] == name(exact)
    assert prove.tried == [name(untold)]


def test_what_is_installed_stays_as_it_is_once_it_is_proven(environment, prove):
    installed = offered("2.1", action="keep", reason="it is installed", source="installed", url=None)
    prove.results = {name(installed): FITS}
    kept = choose_serving(Offers(installed, offered("2.2", needs_proof=False)), environment, prove)
    assert (kept["action"], kept["reason"]) == ("keep", "it is installed")


def test_what_is_installed_and_does_not_serve_is_replaced(environment, prove):
    installed = offered("2.1", action="keep", source="installed", url=None)
    prove.results = {name(installed): MISFIT}
    chosen = choose_serving(Offers(installed, offered("2.2", needs_proof=False)), environment, prove)
    assert chosen["filename"] == name(offered("2.2"))
    assert chosen["refused"][0]["filename"] == name(installed)


def test_the_hash_from_the_proof_decides_the_action(environment, prove):
    installed = offered("2.1", action="keep")
    environment["distributions"]["flash-attn"] = "2.8.3"
    environment["origins"]["flash-attn"] = {"filename": name(installed), "sha256": "cd" * 32}
    prove.results = {name(installed): FITS}
    chosen = choose_serving(Offers(installed), environment, prove)
    assert (chosen["action"], "from a file of this name with sha256 cdcd" in chosen["reason"]) == ("replace", True)


def test_for_pips_cache_the_node_still_has_to_examine_it(environment, prove):
    cached = offered("2.1", action="examine", pip_cache_path="/c/x.whl")
    prove.results = {name(cached): FITS}
    assert choose_serving(Offers(cached), environment, prove)["action"] == "examine"


def test_a_wheel_that_check_mode_does_not_download_is_planned_with_a_warning(environment, prove):
    first, second = offered("2.1", warnings=["the answer is old"]), offered("2.0")
    prove.results = {name(first): None}
    planned = choose_serving(Offers(first, second), environment, prove)
    assert (planned["filename"], planned["action"], planned["conflicts"]) == (name(first), "install", [])
    assert planned["warnings"][0] == "the answer is old"
    assert f"Nothing tells that {name(first)} is for this torch" in planned["warnings"][1]
    assert "check mode does not download" in planned["warnings"][1]
    assert prove.tried == [name(first)]


def test_after_a_wheel_that_cannot_be_downloaded_the_next_is_tried(environment, prove):
    first, second = offered("2.1"), offered("2.0")
    prove.results = {name(first): TorchExtensionError("The server is down."), name(second): FITS}
    chosen = choose_serving(Offers(first, second), environment, prove)
    assert chosen["filename"] == name(second)
    assert chosen["refused"] == [
        {"filename": name(first), "reason": "whether it serves is not known: The server is down.", "count": 1}
    ]


def test_if_no_wheel_is_proven_the_refusal_has_the_reason_for_each(environment, prove):
    wheels = [offered(torch) for torch in ("2.1", "2.0", "2.3")]
    prove.results = {
        name(wheels[0]): MISFIT,
        name(wheels[1]): UNKNOWN,
        name(wheels[2]): TorchExtensionError("The server is down"),
    }
    refused = choose_serving(Offers(*wheels), environment, prove)
    (conflict,) = refused["conflicts"]
    assert conflict == (
        "No wheel fits."
        f" {name(wheels[0])} was tried, and does not serve: does not fit: it needs cudaMalloc; it has no code for sm_90."
        f" {name(wheels[1])} was tried, and whether it serves is not known: it has no library."
        f" {name(wheels[2])} was tried, and whether it serves is not known: The server is down."
    )
    assert [each["reason"].startswith("whether it serves is not known: ") for each in refused["refused"]] == [
        False,
        True,
        True,
    ]
    assert [each["filename"] for each in refused["refused"]] == [name(wheel) for wheel in wheels]
    assert (refused["action"], refused["url"]) == ("refuse", None)


def test_not_more_are_tried_than_are_worth_a_download_each(environment, prove):
    wheels = [offered(f"2.{minor}") for minor in range(20)]
    prove.results = {name(wheel): MISFIT for wheel in wheels}
    refused = choose_serving(Offers(*wheels), environment, prove)
    assert len(prove.tried) == 8
    assert "12 that may serve were not tried" in refused["conflicts"][0]


def test_without_a_node_what_needs_a_proof_is_passed_over(environment):
    assert choose_serving(Offers(offered("2.1"), offered("2.2", needs_proof=False)), environment, None)[
        "filename"
    ] == name(offered("2.2"))
    refused = choose_serving(Offers(offered("2.1")), environment, None)
    assert refused["conflicts"] == ["No wheel fits. 1 that may serve was not tried, for only the node can tell."]


def test_a_wheel_over_which_a_library_stumbles_does_not_hide_the_next(environment):
    def prove(wheel):
        if "torch2.3" in wheel["filename"]:
            raise KeyError("whatever")
        return ProofResult("fits", [], SHA256, 5)

    chosen = choose_serving(Offers(offered("2.3"), offered("2.1")), environment, prove)
    assert "torch2.1" in chosen["filename"]
    assert "torch2.3-cp311-cp311-linux_x86_64.whl could not be dealt with" in chosen["refused"][0]["reason"]

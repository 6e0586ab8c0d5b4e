# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    EXAMINE,
    INSTALL,
    KEEP,
    REPLACE,
    decide_from_environment,
)

FILE = "flash_attn-2.8.3+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
OTHER_TORCH = FILE.replace("torch2.6", "torch2.5")


WANTED = {"name": "flash-attn", "version": "2.8.3", "filename": FILE, "sha256": None}


def node(installed, filename=None, sha256=None, **damage):
    origins = {"flash-attn": {"filename": filename, "sha256": sha256}} if filename else {}
    files = {"missing": [], "changed": [], **damage}
    return {
        "distributions": {"flash-attn": installed},
        "origins": origins,
        "damage": {"flash-attn": files} if damage else {},
    }


@pytest.mark.parametrize(
    ("environment", "wanted_sha256", "action", "words"),
    [
        (node(None), None, INSTALL, "flash-attn is not installed"),
        (node("2.8.2"), None, REPLACE, "flash-attn 2.8.2 is installed"),
        (node("2.8.2", FILE), None, REPLACE, "flash-attn 2.8.2 is installed"),
        (node("2.8.3"), None, EXAMINE, "from which wheel is not recorded"),
        (node("2.8.3+local"), None, EXAMINE, "from which wheel is not recorded"),
        (node("2.8.3", OTHER_TORCH), None, REPLACE, f"installed from {OTHER_TORCH}"),
        (node("2.8.3", FILE), None, KEEP, "all that is known: its hash was not recorded"),
        (node("2.8.3", FILE, "ab"), None, KEEP, "all that is known: no hash is published"),
        (node("2.8.3", FILE, None), "ab", KEEP, "all that is known: its hash was not recorded"),
        (node("2.8.3", FILE, "ab"), "AB", KEEP, "installed from this wheel"),
        (node("2.8.3", FILE, "ab"), "cd", REPLACE, "a file of this name with sha256 ab"),
        ({"distributions": {}, "origins": {}}, None, EXAMINE, "was not asked"),
    ],
    ids=[
        "nothing there",
        "another version",
        "another version of this name",
        "unknown origin",
        "a local version of unknown origin",
        "built for another torch",
        "this wheel",
        "this wheel, hash not wanted",
        "this wheel, hash not recorded",
        "this wheel, hash in capitals",
        "same name, another file",
        "not asked",
    ],
)
def test_the_action_follows_from_what_is_installed(environment, wanted_sha256, action, words):
    decided = decide_from_environment({**WANTED, "sha256": wanted_sha256}, environment)
    assert decided.action == action
    assert words in decided.reason


@pytest.mark.parametrize("filename", [FILE, None], ids=["this wheel", "unknown origin"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"changed": ["flash_attn/__init__.py"]}, "flash_attn/__init__.py is not as installed"),
        ({"missing": ["a", "b"]}, "a, b are missing"),
        (
            {"missing": ["a"], "changed": ["b", "c", "d", "e"]},
            "a is missing and b, c, d and 1 more are not as installed",
        ),
    ],
)
def test_what_is_not_whole_is_replaced_and_the_files_are_named(damage, words, filename):
    decided = decide_from_environment(WANTED, node("2.8.3", filename, **damage))
    assert decided == (REPLACE, f"flash-attn 2.8.3 is installed, but {words}")


def test_an_environment_of_a_survey_says_nothing_of_damage():
    environment = node("2.8.3", FILE)
    del environment["damage"]
    assert decide_from_environment(WANTED, environment).action == KEEP


def test_with_reinstall_what_would_be_kept_is_replaced_and_nothing_else_is_different():
    reason = decide_from_environment(WANTED, node("2.8.3", FILE)).reason
    replaced = decide_from_environment(WANTED, node("2.8.3", FILE), reinstall=True)
    assert replaced == (REPLACE, f"{reason}; reinstall replaces it all the same")
    for environment in (node(None), node("2.8.2"), node("2.8.3"), node("2.8.3", FILE, changed=["a"])):
        assert decide_from_environment(WANTED, environment, reinstall=True) == decide_from_environment(
            WANTED, environment
        )

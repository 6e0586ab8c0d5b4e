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


def node(installed, filename=None, sha256=None):
    origins = {"flash-attn": {"filename": filename, "sha256": sha256}} if filename else {}
    return {"distributions": {"flash-attn": installed}, "origins": origins}


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
    wheel = {"name": "flash-attn", "version": "2.8.3", "filename": FILE, "sha256": wanted_sha256}
    decided = decide_from_environment(wheel, environment)
    assert decided.action == action
    assert words in decided.reason

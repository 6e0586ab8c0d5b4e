# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.coupling_check import (
    explain_unused,
    find_unused,
)

H200 = {"name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143771}
B200 = {"name": "NVIDIA B200", "compute_capability": "10.0", "memory_mib": 183359}


@pytest.fixture
def installed(environment):
    """Tells what is not used of what is installed."""

    def installed(engine, flash_attn, gpus=(H200,)):
        environment["distributions"].update({"transformer-engine": engine, "flash-attn": flash_attn})
        environment["gpus"] = list(gpus)
        return find_unused(environment)

    return installed


def planned(name, version, action="install", conflicts=()):
    return {"name": name, "version": version, "action": action, "conflicts": list(conflicts)}


@pytest.mark.parametrize(
    ("engine", "oldest", "newest", "too_new", "advised"),
    [
        ("1.9.0.post1", "2.0.6", "2.5.8", "2.5.9.post1", "2.5.8"),
        ("1.10.0", "2.0.6", "2.5.8", "2.6.3", "2.5.8"),
        ("1.11.0", "2.0.6", "2.6.3", "2.7.0.post2", "2.6.3"),
        ("1.13.0", "2.1.1", "2.6.3", "2.7.0.post2", "2.6.3"),
        ("2.0.0", "2.1.1", "2.7.3", "2.7.4.post1", "2.7.3"),
        ("2.5.0", "2.1.1", "2.7.4.post1", "2.8.1", "2.7.4.post1"),
        ("2.6.0.post1", "2.1.1", "2.8.1", "2.8.2", "2.8.1"),
        ("2.9.0", "2.1.1", "2.8.1", "2.8.3", "2.8.1"),
        ("2.14.1", "2.1.1", "2.8.3", "2.8.3.post1", "2.8.3"),
        ("2.18.0", "2.1.1", "2.8.3", "2.8.3.post2", "2.8.3"),
        ("2.18.0", "2.1.1", "2.8.3", "2.8.4", "2.8.3"),
        ("2.19.0", "2.1.1", "2.8.3.post2", "2.8.4", "2.8.3.post2"),
        ("2.20.2", "2.1.1", "2.8.3.post2", "2.8.4", "2.8.3.post2"),
    ],
)
def test_what_each_transformer_engine_accepts(engine, oldest, newest, too_new, advised, installed):
    assert installed(engine, oldest) == installed(engine, newest) == []
    (unused,) = installed(engine, too_new)
    assert (unused.name, unused.version, unused.user_version) == ("flash-attn", too_new, engine)
    assert unused.newest_accepted == advised
    (unused,) = installed(engine, "2.0.5")
    assert unused.accepted.startswith(f"from {oldest} on")


def test_a_gate_that_nobody_has_read_says_nothing(installed):
    assert installed("1.8.0", "2.8.3") == []
    assert installed("2.20.3", "2.8.4") == []


def test_blackwell_wants_a_newer_one(installed):
    assert installed("2.16.1", "2.7.2.post1", [H200, B200]) == []
    (unused,) = installed("2.16.1", "2.7.2.post1", [B200])
    assert unused.accepted == "from 2.7.3 on on these GPUs"
    assert installed("2.16.1", "2.7.3", [{**B200, "compute_capability": None}]) == []


def test_a_label_counts_as_newer_up_to_2_14(installed):
    (unused,) = installed("2.14.1", "2.8.3+cu128torch2.8")
    assert unused.reason == (
        "Transformer Engine 2.14.1 on this node uses flash-attn up to 2.8.3 (with a label, 2.8.3 counts as newer) and does"
        " without this one. Set torch_extension_sources to release, whose wheels are installed without such a label, or"
        " upgrade Transformer Engine to 2.15."
    )
    assert installed("2.15.0", "2.8.3+cu128torch2.8") == installed("2.20.2", "2.8.3.post2+cu128torch2.8") == []


def test_the_reason_names_the_fact_what_follows_and_what_to_set(environment):
    environment["distributions"].update({"transformer-engine": "2.16.1+cu128", "flash-attn": None})
    (warning,) = explain_unused(environment, [planned("flash-attn", "2.8.3.post2")])
    assert warning == (
        "flash-attn 2.8.3.post2: Transformer Engine 2.16.1 on this node uses flash-attn up to 2.8.3 and does without this one."
        " Set torch_extension_packages to flash-attn==2.8.3, or upgrade Transformer Engine to 2.19."
    )
    environment["distributions"]["transformer-engine"] = "1.9.0"
    (warning,) = explain_unused(environment, [planned("flash-attn", "2.6.3")])
    assert (
        "uses flash-attn up to 2.5.8 and fails with this one. Set torch_extension_packages to flash-attn==2.5.8"
        in warning
    )


@pytest.mark.parametrize(
    ("there", "plan", "unused"),
    [
        ({"transformer-engine": "2.16.1"}, [planned("flash-attn", "2.8.3.post2")], True),
        ({"transformer-engine": "2.16.1"}, [planned("flash-attn", "2.8.3")], False),
        (
            {"transformer-engine-torch": "2.16.1", "flash-attn": "2.8.3.post2"},
            [planned("flash-attn", "2.8.3.post2", "keep")],
            True,
        ),
        (
            {"transformer-engine": "2.14.1", "flash-attn": "2.8.3+cu128"},
            [planned("flash-attn", "2.8.3", "keep")],
            True,
        ),
        ({}, [planned("transformer-engine-torch", "2.16.1"), planned("flash-attn", "2.8.3.post2")], True),
        ({"transformer-engine-cu12": "2.19.0"}, [planned("flash-attn", "2.8.3.post2")], False),
        (
            {"transformer-engine": "2.19.0", "flash-attn": "2.8.3.post2"},
            [planned("transformer-engine-torch", "2.16.1")],
            True,
        ),
        ({"transformer-engine": "2.16.1", "flash-attn": "2.8.3.post2"}, [planned("mamba-ssm", "2.3.1")], False),
        ({"transformer-engine": "2.16.1"}, [planned("flash-attn", "2.8.3.post2", "refuse", ["no wheel"])], False),
        ({"transformer-engine": "2.16.1"}, [planned("flash-attn", None)], False),
        ({"transformer-engine": "2.16.1"}, [planned("flash-attn", "main")], False),
        ({"transformer-engine": "git"}, [planned("flash-attn", "2.8.3.post2")], False),
        ({}, [planned("flash-attn", "2.8.3.post2")], False),
    ],
    ids=[
        "planned",
        "planned and used",
        "kept",
        "kept with its label",
        "both planned",
        "a later engine",
        "an older engine is planned",
        "not concerned",
        "refused",
        "no version",
        "no sound version",
        "no sound version of the engine",
        "no engine",
    ],
)
def test_a_plan_is_judged_by_what_is_there_after_it(there, plan, unused, environment):
    environment["distributions"].update(there)
    assert bool(explain_unused(environment, plan)) is unused

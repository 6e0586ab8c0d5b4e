# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test holds a module's arguments against its documentation. Those of an action it does not see."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.action import (
    torch_verify,
    wheel_broadcast,
    wheel_bundle,
    wheel_fetch,
    wheel_lock,
    wheel_plan,
)
from ansible_collections.airgap.torch_extensions.plugins.lookup import wheel
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import OPTIONS
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import (
    CONTROL_NODE_ONLY,
    WHEEL,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import DOWNLOAD_ARGUMENTS

FACTS = ("type", "elements", "default", "choices", "required")
ARGUMENTS = {
    "torch_verify": torch_verify._ARGUMENTS,
    "wheel_broadcast": wheel_broadcast._ARGUMENTS,
    "wheel_bundle": {**DOWNLOAD_ARGUMENTS, **wheel_bundle.ActionModule.arguments},
    "wheel_fetch": {**DOWNLOAD_ARGUMENTS, **wheel_fetch.ActionModule.arguments},
    "wheel_lock": {**DOWNLOAD_ARGUMENTS, **wheel_lock.ActionModule.arguments},
    "wheel_plan": wheel_plan._ARGUMENTS,
}


@pytest.fixture(scope="module")
def documentation() -> dict[str, dict]:
    """What ansible-doc tells of the modules, by name."""
    collections = str(Path(next(iter(ansible_collections.__path__))).parent)
    done = subprocess.run(
        ["ansible-doc", "--json", *(f"airgap.torch_extensions.{name}" for name in ARGUMENTS)],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections},
        stdout=subprocess.PIPE,
        check=True,
    )
    return {name.rpartition(".")[2]: told["doc"] for name, told in json.loads(done.stdout).items()}


def facts_of(specs: dict) -> dict:
    return {
        option: {fact: spec[fact] for fact in FACTS if spec.get(fact) not in (None, False)}
        for option, spec in specs.items()
    }


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_an_action_takes_the_arguments_that_are_documented(documentation, name):
    taken = facts_of(ARGUMENTS[name])
    if "delivery" in taken:
        del taken["delivery"]["default"]  # an empty one, whose own defaults are documented
    assert taken == facts_of(documentation[name]["options"])


def test_a_delivery_has_the_options_that_are_documented(documentation):
    assert facts_of(OPTIONS) == facts_of(documentation["wheel_plan"]["options"]["delivery"]["suboptions"])


def test_all_that_the_lookup_tells_of_a_wheel_is_either_for_the_node_or_not():
    told = yaml.safe_load(wheel.RETURN)["_list"]["contains"]
    told_by_delivery = {"subfolder"}
    assert {*WHEEL, *CONTROL_NODE_ONLY} == {*told, *told_by_delivery}
    assert not CONTROL_NODE_ONLY & set(WHEEL)

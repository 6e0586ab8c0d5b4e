# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    Declaring,
    RequirementFinder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_requirements import (
    WantedFiles,
    find_requirements,
)

pytestmark = pytest.mark.slow  # they run pip


@pytest.fixture
def find_files(tmp_path):
    """The file names of what the wheels of each node require; what is downloaded stays for the next call."""

    def find_files(nodes):
        wanted = {
            node: WantedFiles(environment, [{}], [Declaring.read(str(wheel))])
            for node, (environment, wheel) in nodes.items()
        }
        found = find_requirements(wanted, RequirementFinder(str(tmp_path / "cache")))
        return {node: [entry["filename"] for entry in each.entries] for node, each in found.items()}

    return find_files


@pytest.fixture
def old(environment):
    """The environment of a node with an older Python."""
    old = copy.deepcopy(environment)
    old["python"].update(version="3.8.18", tag="cp38", abi="cp38")
    return old


@pytest.mark.parametrize("order", [["new", "old"], ["old", "new"]])
def test_the_order_of_nodes_changes_nothing(order, index, find_files, environment, old, tmp_path):
    index({"name": "a", "version": "1"}, {"name": "a", "version": "2", "requires_python": ">=3.9"})
    wheel = build_wheel(tmp_path / "wheels", requires=["a"])
    environments = {"new": environment, "old": old}
    assert find_files({node: (environments[node], wheel) for node in order}) == {
        "new": ["a-2-py3-none-any.whl"],
        "old": ["a-1-py3-none-any.whl"],
    }


@pytest.mark.parametrize("versions", [["3.11.2", "3.11.9"], ["3.11.9", "3.11.2"]])
def test_nodes_of_one_kind_have_files_that_serve_the_oldest_of_them(versions, index, find_files, environment, tmp_path):
    index({"name": "a", "version": "1"}, {"name": "a", "version": "2", "requires_python": ">=3.11.5"})
    wheel = build_wheel(tmp_path / "wheels", requires=["a"])
    nodes = {}
    for version in versions:
        nodes[version] = (copy.deepcopy(environment), wheel)
        nodes[version][0]["python"]["version"] = version
    assert find_files(nodes) == {version: ["a-1-py3-none-any.whl"] for version in versions}


def test_the_second_lock_finds_what_the_first_one_found(index, find_files, environment, tmp_path):
    build_wheel(tmp_path / "cache", name="a", version="1")  # of an earlier run
    index({"name": "a", "version": "2"})
    nodes = {
        "n1": (environment, build_wheel(tmp_path / "wheels", requires=["a"])),
        "n2": (environment, build_wheel(tmp_path / "wheels", name="causal-conv1d", version="1.6", requires=["a>=2"])),
    }
    first = find_files(nodes)
    assert find_files(nodes) == first == {"n1": ["a-2-py3-none-any.whl"], "n2": ["a-2-py3-none-any.whl"]}

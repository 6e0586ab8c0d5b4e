# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import re

import pytest
from locks import BUILT, CONV, EINOPS, OTHER_WHEEL, WHEEL, missing_requirement, planned_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


def test_a_lock_has_each_kind_of_node_once_with_all_that_any_node_of_it_needs(plans):
    data = build_lock(plans)
    assert [entry["torch"] for entry in data["environments"]] == ["2.2.0+cu121", "2.9.0+cu128"]
    first, second = data["environments"]
    assert [wheel["filename"] for wheel in first["wheels"]] == [CONV, WHEEL]
    assert [(item["name"], item["required_by"]) for item in first["requirements"]] == [
        ("einops", ["causal-conv1d", "flash-attn"]),
        ("ninja", ["causal-conv1d"]),
    ]
    assert [wheel["filename"] for wheel in second["wheels"]] == [OTHER_WHEEL]


def test_a_lock_says_how_a_wheel_was_built_and_nothing_of_others(environment):
    wheels = [planned_wheel(CONV, "causal-conv1d"), planned_wheel(WHEEL, "flash-attn", built=BUILT)]
    text = format_lock(build_lock({"n1": {"environment": environment, "wheels": wheels, "requirements": []}}))
    plain, built = lock_file.parse_lock(text, "a.yml").environments[0]["wheels"]
    assert "built" not in plain
    assert built["built"] == BUILT
    assert lock_file.parse_lock(text, "a.yml").find("flash-attn", environment)["built"] == BUILT


def test_the_order_of_the_nodes_does_not_change_the_text_of_a_lock(plans):
    texts = {format_lock(build_lock(dict(order))) for order in itertools.permutations(plans.items())}
    assert len(texts) == 1


def test_a_lock_says_nothing_about_single_nodes(plans):
    text = format_lock(build_lock(plans))
    assert re.findall(r"n1|/opt/venv|/home/|20\d\d-", text) == []


def test_the_text_of_a_lock_is_plain_yaml_with_a_header(plans):
    text = format_lock(build_lock(plans))
    assert text.startswith("# Written by the playbook airgap.torch_extensions.lock")
    assert (
        "\n---\nlock_version: 1\nenvironments:\n  - python: cp311\n    abi: cp311\n    machine: x86_64\n    libc: glibc 2.36\n"
        in text
    )
    assert (
        f"\n      - name: flash-attn\n        requirement: flash-attn>=2.7\n        version: 2.8.3\n        filename: {WHEEL}\n"
        in text
    )
    assert "&" not in text, "no anchors of YAML"


def test_a_lock_is_read_as_it_was_written(plans, lock):
    assert list(lock.environments) == build_lock(plans)["environments"]


@pytest.mark.parametrize("requirement", ["flash-attn>=2.7", "flash-attn"])
def test_nodes_of_one_kind_that_want_two_files_of_one_name_are_an_error(requirement, plans):
    plans["n3"]["wheels"] = [planned_wheel(WHEEL, requirement, sha256="f" * 64, url="https://other.example/a")]
    with pytest.raises(
        TorchExtensionError,
        match=rf"{re.escape(WHEEL)} stands for two files for Python cp311, .*torch 2\.2\.0.* f{{64}}.*torch_extension_sources",
    ):
        build_lock(plans)


def test_a_requirement_of_which_nodes_lack_two_files_of_one_name_is_an_error(plans):
    plans["n3"]["requirements"] = [missing_requirement(EINOPS, "flash-attn", sha256="f" * 64)]
    with pytest.raises(TorchExtensionError, match=rf"{re.escape(EINOPS)} stands for two files .*f{{64}}"):
        build_lock(plans)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from locks import OTHER_WHEEL, WHEEL, planned_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


@pytest.mark.parametrize(
    "term", ["flash-attn", "Flash_Attn>=2.7", "flash-attn==2.8.3", "flash-attn>=2.7,<3", "flash-attn!=2.8.2"]
)
def test_a_node_finds_what_was_locked_for_its_kind(term, lock, environment, other_environment):
    wheel = lock.find(term, environment)
    assert (wheel["filename"], wheel["version"], wheel["url"]) == (WHEEL, "2.8.3", f"https://github.example/{WHEEL}")
    assert (wheel["source"], wheel["size"], wheel["ground"]) == ("release", len(WHEEL), "the newest that fits")
    assert [item["name"] for item in wheel["requirements"]] == ["einops", "ninja"]
    assert "requirement" not in wheel
    assert lock.find(term, other_environment)["filename"] == OTHER_WHEEL


def test_facts_that_do_not_affect_the_choice_make_no_other_kind(lock, environment):
    environment["python"].update(version="3.11.9", executable="/elsewhere/bin/python")
    environment.update(gpus=[{"name": "NVIDIA H200"}], installers={"pip": "26.3"}, distributions={"einops": "0.7"})
    assert lock.find("flash-attn", environment)["filename"] == WHEEL


def test_of_several_locked_versions_the_one_that_was_locked_for_the_same_requirement_is_taken(plans, environment):
    older = WHEEL.replace("2.8.3", "2.8.2")
    plans["n3"]["wheels"] = [planned_wheel(older, "flash-attn<2.8.3")]
    lock = lock_file.parse_lock(format_lock(build_lock(plans)), "a.yml")
    assert lock.find("Flash_Attn < 2.8.3", environment)["filename"] == older
    assert lock.find("flash-attn>=2.7", environment)["filename"] == WHEEL
    assert lock.find("flash-attn", environment)["filename"] == WHEEL


def test_a_locked_pre_release_satisfies_a_requirement(plans, environment):
    plans["n1"]["wheels"] = [planned_wheel(WHEEL.replace("2.8.3", "2.9.0rc1"), "flash-attn==2.9.0rc1")]
    plans.pop("n3")
    lock = lock_file.parse_lock(format_lock(build_lock(plans)), "a.yml")
    assert lock.find("flash-attn>=2.7", environment)["version"] == "2.9.0rc1"


@pytest.mark.parametrize("term", ["flash-attn==2.8.2", "flash-attn>2.8.3"])
def test_a_requirement_that_no_locked_version_satisfies_is_refused(term, lock, environment):
    with pytest.raises(
        TorchExtensionError,
        match=rf"{re.escape(term)} is asked for, and wheels\.lock\.yml has flash-attn 2\.8\.3 .*lock again",
    ):
        lock.find(term, environment)


def test_a_package_that_is_not_locked_is_refused(lock, other_environment):
    with pytest.raises(
        TorchExtensionError,
        match=r"has no causal-conv1d for nodes of this kind .*only flash-attn\. .*torch_extension_packages",
    ):
        lock.find("causal-conv1d", other_environment)


def test_a_node_of_an_unknown_kind_is_refused_with_what_differs_from_the_nearest_kind(lock, other_environment):
    other_environment["platform"]["libc"]["version"] = "2.41"
    other_environment["torch"]["cuda"] = "13.0"
    with pytest.raises(TorchExtensionError) as refusal:
        lock.find("flash-attn", other_environment)
    assert str(refusal.value) == (
        "wheels.lock.yml has nothing for this node (Python cp311, x86_64, glibc 2.41, torch 2.9.0+cu128, CUDA 13.0)."
        " The nearest environment in it differs: C library is glibc 2.36 there and glibc 2.41 on this node; CUDA is"
        " 12.8 there and 13.0 on this node. Run the playbook lock again with this node, or name another lock in"
        " torch_extension_lock."
    )


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        (
            "variables",
            {"FLASH_ATTENTION_FORCE_BUILD": "TRUE"},
            "variables is none there and FLASH_ATTENTION_FORCE_BUILD=TRUE on",
        ),
        ("torch", {"cxx11_abi": True}, r"C\+\+11 ABI is false there and true on this node"),
        ("torch", {"hip": "6.2"}, "HIP is none there and 6.2 on this node"),
        ("python", {"abi": "cp311t"}, r"\(Python cp311 with ABI cp311t, .*Python ABI is cp311 there and cp311t on"),
        ("platform", {"libc": None}, "C library is glibc 2.36 there and none on this node"),
    ],
)
def test_every_fact_that_affects_the_choice_makes_another_kind(part, values, words, lock, environment):
    environment[part].update(values)
    with pytest.raises(TorchExtensionError, match=words):
        lock.find("flash-attn", environment)


def test_a_node_without_torch_is_refused(lock, environment):
    environment["torch"] = None
    with pytest.raises(TorchExtensionError, match="no torch"):
        lock.find("flash-attn", environment)


def test_a_lock_without_environments_is_an_error(environment):
    lock = lock_file.parse_lock("lock_version: 1\nenvironments: []\n", "a.yml")
    with pytest.raises(TorchExtensionError, match="no environments at all"):
        lock.find("flash-attn", environment)


@pytest.mark.parametrize("text", ["", "- 1", "{", "a: !!python/object/apply:os.getcwd []", "\0"])
def test_a_file_that_is_no_lock_is_an_error(text):
    with pytest.raises(TorchExtensionError, match=r"^a\.yml is not a sound lock: "):
        lock_file.parse_lock(text, "a.yml")


def test_two_environments_with_the_same_facts_are_an_error(plans):
    data = build_lock(plans)
    data["environments"][1] = data["environments"][0]
    with pytest.raises(TorchExtensionError, match="two environments of it have the same facts"):
        lock_file.parse_lock(format_lock(data), "a.yml")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_lock_that_cannot_be_read_is_an_error(content, tmp_path):
    if content:
        (tmp_path / "a.yml").write_bytes(content)
    with pytest.raises(TorchExtensionError, match=r"/a\.yml cannot be read: .*torch_extension_lock"):
        lock_file.read_lock(str(tmp_path / "a.yml"))


def test_the_locked_requirements_of_a_plan_are_those_of_all_its_wheels(lock, environment):
    assert lock_file.locked_requirements([{"requirements": None}, {}]) is None
    wheels = [lock.find(term, environment) for term in ("flash-attn", "causal-conv1d")]
    assert [item["name"] for item in lock_file.locked_requirements(wheels)] == ["einops", "ninja"]

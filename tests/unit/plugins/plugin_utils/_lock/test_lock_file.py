# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import itertools
import json
import re

import pytest
import yaml
from locks import lacked, planned

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
    without_locked_requirements,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    environment_of_entry,
    kind_of_node,
)

WHEEL = "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
OTHER = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
CONV = "causal_conv1d-1.6.0+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
EINOPS = "einops-0.8.1-py3-none-any.whl"


@pytest.fixture
def other(environment):
    """A node of another kind."""
    changed = copy.deepcopy(environment)
    changed["torch"].update(version="2.9.0+cu128", cuda="12.8", cxx11_abi=True)
    return changed


@pytest.fixture
def plans(environment, other):
    return {
        "n1": {
            "environment": environment,
            "wheels": [planned(WHEEL, "flash-attn>=2.7"), planned(CONV, "causal-conv1d==1.6.0")],
            "requirements": [lacked(EINOPS, "flash-attn")],
        },
        "n2": {"environment": other, "wheels": [planned(OTHER, "flash-attn>=2.7")], "requirements": []},
        "n3": {
            "environment": environment,
            "wheels": [planned(WHEEL, "flash-attn>=2.7")],
            "requirements": [lacked(EINOPS, "causal-conv1d"), lacked("ninja-1.11-py3-none-any.whl", "causal-conv1d")],
        },
    }


@pytest.fixture
def lock(plans):
    return lock_file.parse_lock(format_lock(build_lock(plans)), "wheels.lock.yml")


def test_each_kind_of_node_stands_there_once_with_all_that_any_of_them_needs(plans):
    data = build_lock(plans)
    assert [entry["torch"] for entry in data["environments"]] == ["2.2.0+cu121", "2.9.0+cu128"]
    first, second = data["environments"]
    assert [wheel["filename"] for wheel in first["wheels"]] == [CONV, WHEEL]
    assert [(item["name"], item["required_by"]) for item in first["requirements"]] == [
        ("einops", ["causal-conv1d", "flash-attn"]),
        ("ninja", ["causal-conv1d"]),
    ]
    assert [wheel["filename"] for wheel in second["wheels"]] == [OTHER]


def test_the_order_in_which_nodes_answer_changes_no_byte(plans):
    texts = {format_lock(build_lock(dict(order))) for order in itertools.permutations(plans.items())}
    assert len(texts) == 1


def test_a_lock_tells_nothing_of_single_nodes(plans):
    text = format_lock(build_lock(plans))
    assert re.findall(r"n1|/opt/venv|/home/|20\d\d-", text) == []


def test_the_file_is_for_people(plans):
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


def test_a_lock_that_was_read_is_the_lock_that_was_written(plans, lock):
    assert list(lock.environments) == build_lock(plans)["environments"]


def test_what_ansible_hangs_on_texts_is_left_out(plans, environment):
    class Tagged(str):
        __slots__ = ()

    tagged = [planned(WHEEL, Tagged("flash-attn"), ground=Tagged("it fits"))]
    plan = {
        "environment": {**environment, "variables": {Tagged("A"): Tagged("1")}},
        "wheels": tagged,
        "requirements": [],
    }
    assert "ground: it fits\n" in format_lock(build_lock({"n": plan}))


def test_one_name_with_two_hashes_is_an_error(plans):
    plans["n3"]["wheels"] = [planned(WHEEL, "flash-attn>=2.7", sha256="0" * 64)]
    with pytest.raises(
        TorchExtensionError, match=rf"{re.escape(WHEEL)} stands for two files, .* 0{{64}}\. .*torch_extension_sha256"
    ):
        build_lock(plans)


@pytest.mark.parametrize(
    "term", ["flash-attn", "Flash_Attn>=2.7", "flash-attn==2.8.3", "flash-attn>=2.7,<3", "flash-attn!=2.8.2"]
)
def test_a_node_finds_what_was_locked_for_its_kind(term, lock, environment, other):
    found = lock.find(term, environment)
    assert (found["filename"], found["version"], found["url"]) == (WHEEL, "2.8.3", f"https://github.example/{WHEEL}")
    assert (found["source"], found["size"], found["ground"]) == ("release", len(WHEEL), "the newest that fits")
    assert [item["name"] for item in found["requirements"]] == ["einops", "ninja"]
    assert "requirement" not in found
    assert lock.find(term, other)["filename"] == OTHER


def test_what_does_not_change_a_choice_does_not_make_another_kind(lock, environment):
    environment["python"].update(version="3.11.9", executable="/elsewhere/bin/python")
    environment.update(gpus=[{"name": "NVIDIA H200"}], installers={"pip": "26.3"}, distributions={"einops": "0.7"})
    assert lock.find("flash-attn", environment)["filename"] == WHEEL


def test_of_several_locked_versions_the_one_that_was_asked_for_in_these_words_is_meant(plans, environment):
    older = WHEEL.replace("2.8.3", "2.8.2")
    plans["n3"]["wheels"] = [planned(older, "flash-attn<2.8.3")]
    lock = lock_file.parse_lock(format_lock(build_lock(plans)), "a.yml")
    assert lock.find("Flash_Attn < 2.8.3", environment)["filename"] == older
    assert lock.find("flash-attn>=2.7", environment)["filename"] == WHEEL
    assert lock.find("flash-attn", environment)["filename"] == WHEEL


def test_a_locked_pre_release_was_meant(plans, environment):
    plans["n1"]["wheels"] = [planned(WHEEL.replace("2.8.3", "2.9.0rc1"), "flash-attn==2.9.0rc1")]
    plans.pop("n3")
    lock = lock_file.parse_lock(format_lock(build_lock(plans)), "a.yml")
    assert lock.find("flash-attn>=2.7", environment)["version"] == "2.9.0rc1"


@pytest.mark.parametrize("term", ["flash-attn==2.8.2", "flash-attn>2.8.3"])
def test_another_version_than_the_locked_one_is_refused(term, lock, environment):
    with pytest.raises(
        TorchExtensionError,
        match=rf"{re.escape(term)} is asked for, and wheels\.lock\.yml has flash-attn 2\.8\.3 .*lock again",
    ):
        lock.find(term, environment)


def test_a_package_that_is_not_locked_is_refused(lock, other):
    with pytest.raises(
        TorchExtensionError,
        match=r"has no causal-conv1d for nodes of this kind .*only flash-attn\. .*torch_extension_packages",
    ):
        lock.find("causal-conv1d", other)


def test_a_node_that_is_not_locked_is_refused_with_the_nearest_and_what_differs(lock, other):
    other["platform"]["libc"]["version"] = "2.41"
    other["torch"]["cuda"] = "13.0"
    with pytest.raises(TorchExtensionError) as refusal:
        lock.find("flash-attn", other)
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
def test_every_fact_that_a_choice_depends_on_tells_kinds_apart(part, values, words, lock, environment):
    environment[part].update(values)
    with pytest.raises(TorchExtensionError, match=words):
        lock.find("flash-attn", environment)


def test_a_node_without_torch_is_refused(lock, environment):
    environment["torch"] = None
    with pytest.raises(TorchExtensionError, match="no torch"):
        lock.find("flash-attn", environment)


def test_an_empty_lock_has_nothing_for_anybody(environment):
    lock = lock_file.parse_lock("lock_version: 1\nenvironments: []\n", "a.yml")
    with pytest.raises(TorchExtensionError, match="no environments at all"):
        lock.find("flash-attn", environment)


@pytest.mark.parametrize("given", [None, {}, {"python": {}}, "text", {"distributions": None}, {"distributions": ...}])
def test_what_is_no_environment_is_told(given, environment):
    if isinstance(given, dict) and "distributions" in given:
        given = {**environment, **given}
    with pytest.raises(TorchExtensionError, match="torch_info returns"):
        kind_of_node(given)


def change(*path_and_value):
    """A change of the data of a lock: to a value, or without one away."""
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return change


FIRST = ("environments", 0)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (change("lock_version", 2), "lock_version 2, and this version of the collection reads 1"),
        (change("lock_version", ...), "it has no lock_version"),
        (change("environments", {}), "environments of the file is {}, wanted is a list"),
        (change("more", 1), "the file has more, which is unknown"),
        (change(*FIRST, 7), "environment 1 is 7, wanted is a dictionary"),
        (change(*FIRST, "torch", ...), "environment 1 lacks torch"),
        (change(*FIRST, "gpu", "H200"), "environment 1 has gpu, which is unknown"),
        (change(*FIRST, "cuda", 12.6), "cuda of environment 1 is 12.6, wanted is a text or null"),
        (change(*FIRST, "python", "3.11"), "wanted is a tag such as cp311"),
        (change(*FIRST, "cxx11_abi", "no"), "wanted is true, false or null"),
        (change(*FIRST, "variables", {"A": 1}), "wanted is texts by name"),
        (change(*FIRST, "wheels", 0, "text"), "a wheel of environment 1 is 'text'"),
        (change(*FIRST, "wheels", 0, "sha256", "abc"), "wanted is 64 hexadecimal digits"),
        (change(*FIRST, "wheels", 0, "sha256", 10**63), "wanted is 64 hexadecimal digits"),
        (change(*FIRST, "wheels", 0, "size", "1"), "wanted is a number of bytes"),
        (change(*FIRST, "wheels", 0, "size", True), "wanted is a number of bytes"),
        (change(*FIRST, "wheels", 0, "filename", f"../{CONV}"), "wanted is the name of a wheel"),
        (change(*FIRST, "wheels", 0, "filename", WHEEL), "is no wheel of causal-conv1d 1.6.0"),
        (change(*FIRST, "wheels", 0, "version", "1.6.1"), "is no wheel of causal-conv1d 1.6.1"),
        (change(*FIRST, "wheels", 0, "requirement", "a b"), "wanted is a requirement"),
        (change(*FIRST, "wheels", 0, "version", "newest"), "wanted is a version"),
        (
            change(*FIRST, "wheels", 0, "url", "https://me:secret@github.example/a"),
            "wanted is a URL without credentials",
        ),
        (change(*FIRST, "wheels", 0, "url", "ftp://github.example/a"), "wanted is a URL without credentials"),
        (change(*FIRST, "wheels", 0, "ground", ...), "a wheel of environment 1 lacks ground"),
        (change(*FIRST, "requirements", 0, "filename", f"/opt/{EINOPS}"), "wanted is the name of a wheel"),
        (change(*FIRST, "requirements", 0, "required_by", "flash-attn"), "wanted is a list of texts"),
        (change("environments", 1, "wheels", 0, "filename", WHEEL), "stands for two files"),
    ],
)
def test_a_lock_that_is_not_sound_is_told_with_the_place(broken, words, plans):
    data = json.loads(json.dumps(build_lock(plans)))
    broken(data)
    with pytest.raises(TorchExtensionError) as error:
        lock_file.parse_lock(yaml.safe_dump(data), "a.yml")
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "- 1", "{", "a: !!python/object/apply:os.getcwd []", "\0"])
def test_a_file_that_is_no_lock_is_told(text):
    with pytest.raises(TorchExtensionError, match=r"^a\.yml is not a sound lock: "):
        lock_file.parse_lock(text, "a.yml")


def test_two_environments_with_the_same_facts_are_an_error(plans):
    data = build_lock(plans)
    data["environments"][1] = data["environments"][0]
    with pytest.raises(TorchExtensionError, match="two environments of it have the same facts"):
        lock_file.parse_lock(format_lock(data), "a.yml")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_lock_that_cannot_be_read_is_told(content, tmp_path):
    if content:
        (tmp_path / "a.yml").write_bytes(content)
    with pytest.raises(TorchExtensionError, match=r"/a\.yml cannot be read: .*torch_extension_lock"):
        lock_file.read_lock(str(tmp_path / "a.yml"))


def test_what_an_earlier_lock_brought_counts_as_lacking(lock, environment, other):
    environment["distributions"].update(einops="0.8.1", numpy="2.0")
    assert without_locked_requirements(environment, lock)["distributions"].keys() == {"flash-attn", "torch", "numpy"}
    assert without_locked_requirements(other, lock) == other
    assert without_locked_requirements(environment, None) == environment


def test_a_plan_knows_its_locked_requirements(lock, environment):
    assert lock_file.locked_requirements([{"requirements": None}, {}]) is None
    found = [lock.find(term, environment) for term in ("flash-attn", "causal-conv1d")]
    assert [item["name"] for item in lock_file.locked_requirements(found)] == ["einops", "ninja"]


@pytest.mark.parametrize(("tag", "version"), [("cp38", "3.8"), ("cp311", "3.11"), ("py3", "3.0")])
def test_a_locked_environment_tells_enough_to_choose_by_tags(tag, version):
    node = environment_of_entry({"python": tag, "abi": tag, "machine": "aarch64", "libc": "glibc 2.36"})
    assert node["python"] == {"tag": tag, "abi": tag, "version": version}
    assert node["platform"] == {"machine": "aarch64", "libc": {"name": "glibc", "version": "2.36"}}
    assert environment_of_entry({"python": tag, "abi": tag, "machine": "a", "libc": None})["platform"]["libc"] is None

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import OPTIONS
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.options import validate_delivery

STAGE = "~/stage"
URL = "https://artifacts.example/wheels/"


@pytest.mark.parametrize("given", [{}, {"ways": None}, {"ways": ""}, dict.fromkeys(OPTIONS, "")])
def test_without_a_word_it_is_copied(given):
    assert validate_delivery(given, STAGE) == {**dict.fromkeys(OPTIONS), "ways": ["copy"]}


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ("copy", ["copy"]),
        ("shared", ["shared"]),
        ("slurm,copy", ["slurm", "copy"]),
        (["slurm", "pull", "shared", "copy"], ["slurm", "pull", "shared", "copy"]),
    ],
)
def test_ways_are_a_word_several_of_them_or_a_list(ways, expected):
    given = {"shared_dir": "/scratch", "pull_url": URL, "slurm_host": "login", "slurm_node": "cn1", "ways": ways}
    assert validate_delivery(given, "/var/local/wheels") == {**given, "ways": expected, "pull_ca_path": None}


def test_what_is_for_a_way_that_is_not_taken_is_not_looked_at():
    assert validate_delivery({"pull_url": "nonsense", "pull_ca_path": "/none", "slurm_host": "login"}, None)[
        "ways"
    ] == ["copy"]


def test_a_file_of_cas_may_be_in_the_home(home):
    (home / "ca.pem").touch()
    delivery = validate_delivery({"ways": "pull", "pull_url": URL, "pull_ca_path": "~/ca.pem"}, STAGE)
    assert delivery["pull_ca_path"] == f"{home}/ca.pem"


@pytest.mark.parametrize(
    ("given", "stage_dir", "words"),
    [
        ({"ways": []}, STAGE, "torch_extension_delivery is empty, wanted is one of copy, shared, pull, slurm."),
        ({"ways": "carrier pigeon"}, STAGE, "must be one or more of: copy, shared, pull, slurm"),
        ({"ways": "copy,,copy"}, STAGE, "must be one or more of: copy, shared, pull, slurm"),
        ({"ways": "copy, shared"}, STAGE, "must be one or more of: copy, shared, pull, slurm"),
        ({"way": "copy"}, STAGE, "way. Supported parameters include: pull_ca_path, pull_url, shared_dir, slurm_host"),
        (
            {"ways": "shared"},
            STAGE,
            "is shared, and torch_extension_shared_dir is empty. Set it: a folder on a file system",
        ),
        ({"ways": "shared", "shared_dir": ""}, STAGE, "torch_extension_shared_dir is empty."),
        ({"ways": "copy,pull"}, STAGE, "is pull, and torch_extension_pull_url is empty. Set it: a folder on a server"),
        ({"ways": "slurm"}, "/a", "is slurm, and torch_extension_slurm_host is empty. Set it: the machine of the"),
        ({"ways": "pull", "pull_url": "artifacts"}, STAGE, "torch_extension_pull_url is no address of a folder"),
        ({"ways": "pull", "pull_url": f"{URL}?a=b"}, STAGE, "wanted is a folder, without ? or #"),
        ({"ways": "pull", "pull_url": "https://me:s3cret@a.example"}, STAGE, "Put them into ~/.netrc"),
        (
            {"ways": "pull", "pull_url": URL, "pull_ca_path": "/none.pem"},
            STAGE,
            "torch_extension_pull_ca_path is /none.pem, and there is no such file on the control node.",
        ),
        (
            {"ways": "copy,slurm", "slurm_host": "login"},
            "/a",
            "is copy, slurm. Wanted is slurm as the first of them, since it serves all nodes before any other way",
        ),
        (
            {"ways": "slurm", "slurm_host": "login"},
            STAGE,
            "torch_extension_stage_dir is ~/stage, and Slurm brings files to the same path on all nodes. Set it to a folder",
        ),
        ({"ways": "slurm", "slurm_host": "login"}, "stage", "torch_extension_stage_dir is stage, and Slurm brings"),
    ],
)
def test_what_is_wrong_is_told_with_the_knob(given, stage_dir, words):
    with pytest.raises(TorchExtensionError) as raised:
        validate_delivery(given, stage_dir)
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_where_nothing_is_to_be_brought_no_folder_of_the_node_is_wanted():
    assert validate_delivery({"ways": "slurm", "slurm_host": "login"}, None)["ways"] == ["slurm"]

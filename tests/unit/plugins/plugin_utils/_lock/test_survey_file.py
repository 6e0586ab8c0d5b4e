# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.survey_file import read_survey

KIND = {"nodes": ["n1"], "packages": ["flash-attn"], "environment": {"python": {}}}


def write(path, *kinds, **more):
    data = {"survey_version": 1, "environments": list(kinds), **more}
    path.write_text(yaml.safe_dump(json.loads(json.dumps(data))))  # without aliases for what is the same object
    return str(path)


def test_a_survey_is_what_stands_there(tmp_path, monkeypatch):
    path = write(tmp_path / "a.yml", KIND)
    assert read_survey(path) == {"survey_version": 1, "environments": [KIND]}
    monkeypatch.chdir(tmp_path)
    assert read_survey("a.yml") == read_survey(path)


@pytest.mark.parametrize(
    ("kinds", "more", "reason"),
    [
        ([KIND], {"survey_version": 2}, "it has not survey_version 1"),
        ([], {}, "it has no nodes"),
        ([KIND], {"environments": {"a": 1}}, "it has no nodes"),
        ([KIND, {**KIND, "nodes": []}], {}, "its environment 2 has no nodes"),
        ([{**KIND, "nodes": "n1"}], {}, "its environment 1 has no nodes, or no list of them"),
        ([{**KIND, "environment": []}], {}, "its environment 1 has no environment, or no dict of them"),
        ([{"nodes": ["n1"], "packages": []}], {}, "its environment 1 has no environment"),
        (["n1"], {}, "its environment 1 has no nodes"),
        (
            [{**KIND, "nodes": ["\x1b[2J"]}],
            {},
            r"its environment 1 names a node '\\x1b\[2J', wanted are letters, digits, ",
        ),
        ([{**KIND, "nodes": ["-e"]}], {}, "its environment 1 names a node '-e', wanted are letters, digits, "),
        ([{**KIND, "nodes": ["n1'; ls '"]}], {}, "its environment 1 names a node "),
        ([{**KIND, "packages": [1]}], {}, "its environment 1 names a package 1, wanted are texts"),
        ([{**KIND, "packages": ["a\x1b"]}], {}, "its environment 1 names a package "),
    ],
)
def test_what_is_no_survey_is_refused(kinds, more, reason, tmp_path):
    path = write(tmp_path / "a.yml", *kinds, **more)
    with pytest.raises(TorchExtensionError, match=f"a.yml is no survey: {reason}.*torch_extension_survey"):
        read_survey(path)


def test_a_survey_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        TorchExtensionError, match=r"a\.yml is no survey: No such file or directory\. .*torch_extension_survey"
    ):
        read_survey(str(tmp_path / "a.yml"))

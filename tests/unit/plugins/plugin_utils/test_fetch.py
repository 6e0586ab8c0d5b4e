# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import os

import pytest
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._fetch import fetch

MISSING = {"filename": "mamba_ssm-2.2.0-py3-none-any.whl", "sha256": None}


@pytest.fixture
def published(server, tmp_path):
    """A wheel on a server, as a plan names it."""
    path = build_wheel(tmp_path / "published", label=LABEL, requires=["torch", "einops"])
    url = server.give(f"/{path.name}", path.read_bytes())
    return {"name": "flash-attn", "url": url, "filename": path.name, "sha256": None, "size": None}


@pytest.fixture
def index(server, tmp_path, monkeypatch):
    build_wheel(tmp_path / "index", name="einops", version="0.8.1")
    monkeypatch.setenv("PIP_INDEX_URL", server.index(tmp_path / "index"))


@pytest.fixture
def plan(environment):
    return lambda *wheels, requirements=False: {
        "environment": copy.deepcopy(environment),
        "wheels": list(wheels),
        "requirements": requirements,
    }


def test_a_thousand_nodes_are_one_download(server, published, index, plan, tmp_path):
    plans = {f"node{number}": plan(published, requirements=True) for number in range(1000)}
    answer = fetch(plans, str(tmp_path / "cache"), None)
    assert [path for path in server.requests if path.endswith(".whl")] == [
        f"/{published['filename']}",
        "/files/einops-0.8.1-py3-none-any.whl",
    ]
    node = answer["nodes"]["node999"]
    digest = sha256(tmp_path / "published" / published["filename"])
    size = (tmp_path / "published" / published["filename"]).stat().st_size
    assert node["wheels"] == [{**published, "sha256": digest, "size": size}]
    assert [item["name"] for item in node["requirements"]] == ["einops"]
    assert [os.path.basename(path) for path in node["files"]] == [
        published["filename"],
        "einops-0.8.1-py3-none-any.whl",
    ]
    assert node["errors"] == []
    assert [item["url"].rpartition("/")[2] for item in answer["downloads"]] == [
        published["filename"],
        "einops-0.8.1-py3-none-any.whl",
    ]
    assert fetch(plans, str(tmp_path / "cache"), None) == {**answer, "downloads": []}


def test_without_requirements_only_the_wheels_come(server, published, plan, tmp_path):
    answer = fetch({"node": plan(published)}, str(tmp_path / "cache"), None)
    assert answer["nodes"]["node"]["requirements"] == []
    assert len(answer["nodes"]["node"]["files"]) == 1


def test_what_cannot_be_had_is_the_error_of_those_who_need_it(server, published, plan, tmp_path):
    missing = {**MISSING, "name": "mamba-ssm", "url": f"{server.url}/missing"}
    needy = {f"needy{number:02}": plan(published, missing) for number in range(12)}
    answer = fetch({"happy": plan(published), **needy}, str(tmp_path / "cache"), None)
    assert answer["nodes"]["happy"]["errors"] == []
    [error] = answer["nodes"]["needy11"]["errors"]
    assert "/missing does not exist (404)" in error
    assert error.endswith(
        "Wanted by needy00, needy01, needy02, needy03, needy04, needy05, needy06, needy07, needy08, needy09 and 2 more."
    )
    assert [wheel["name"] for wheel in answer["nodes"]["needy11"]["wheels"]] == ["flash-attn"]
    assert server.requests.count("/missing") == 1


def test_a_requirement_that_cannot_be_had_is_the_error_of_the_nodes_that_lack_it(
    server, published, plan, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    having = plan(published, requirements=True)
    having["environment"]["distributions"]["einops"] = "0.6"
    plans = {"lacking": plan(published, requirements=True), "having": having}
    answer = fetch(plans, str(tmp_path / "cache"), None)
    assert answer["nodes"]["having"]["errors"] == []
    assert ["einops" in error for error in answer["nodes"]["lacking"]["errors"]] == [True]


def test_a_prediction_uses_no_network_and_knows_what_is_there(server, published, index, plan, tmp_path):
    plans = {"node": plan(published, requirements=True)}
    answer = fetch(plans, str(tmp_path / "cache"), None, predict=True)
    assert server.requests == []
    assert answer["downloads"] == [{"url": published["url"], "size": 0}]
    assert answer["nodes"]["node"]["files"] == []
    assert answer["nodes"]["node"]["wheels"][0]["sha256"] is None
    fetch(plans, str(tmp_path / "cache"), None)
    server.requests.clear()
    after = fetch(plans, str(tmp_path / "cache"), None, predict=True)
    assert (after["downloads"], server.requests) == ([], [])
    assert after["nodes"]["node"]["wheels"][0]["sha256"] is not None


def test_files_of_one_name_with_different_hashes_are_not_the_same(server, published, plan, tmp_path):
    plans = {"right": plan(published), "wrong": plan({**published, "sha256": "0" * 64})}
    answer = fetch(plans, str(tmp_path / "cache"), None)
    assert answer["nodes"]["right"]["errors"] == []
    assert ["wanted is 000" in error for error in answer["nodes"]["wrong"]["errors"]] == [True]


def test_what_hinders_everybody_is_one_error(published, plan, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match="cannot be made"):
        fetch({"node": plan(published)}, str(tmp_path / "file"), None)

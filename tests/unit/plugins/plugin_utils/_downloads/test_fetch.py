# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import os
import re
import threading

import pytest
from servers import running_server
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes

MISSING = {"filename": "mamba_ssm-2.2.0-py3-none-any.whl", "sha256": None}


@pytest.fixture
def server(tls_server):
    """As GitHub is."""
    return tls_server


@pytest.fixture
def published(server, tmp_path):
    """A wheel on a server, as a plan names it."""
    path = build_wheel(tmp_path / "published", label=LABEL, requires=["torch", "einops"])
    url = server.serve_body(f"/{path.name}", path.read_bytes())
    return {"name": "flash-attn", "url": url, "filename": path.name, "sha256": None, "size": None}


@pytest.fixture
def index(tmp_path, monkeypatch):
    build_wheel(tmp_path / "index", name="einops", version="0.8.1")
    with running_server() as started:
        monkeypatch.setenv("PIP_INDEX_URL", started.serve_index(tmp_path / "index"))
        yield started


@pytest.fixture
def plan(environment):
    return lambda *wheels, requirements=False: {
        "environment": copy.deepcopy(environment),
        "wheels": list(wheels),
        "requirements": requirements,
    }


def test_a_thousand_nodes_cause_one_download(server, published, index, plan, tmp_path):
    plans = {f"node{number}": plan(published, requirements=True) for number in range(1000)}
    answer = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))
    assert server.requests == [f"/{published['filename']}"]
    assert [path for path in index.requests if path.endswith(".whl")] == ["/files/einops-0.8.1-py3-none-any.whl"]
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
    [warning] = answer["warnings"]
    assert f"{published['filename']} has no published hash" in warning
    assert fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache"))) == {
        **answer,
        "downloads": [],
        "warnings": [],
    }


def test_without_requirements_only_the_wheels_are_fetched(server, published, plan, tmp_path):
    answer = fetch_for_nodes({"node": plan(published)}, DownloadContext(str(tmp_path / "cache")))
    assert answer["nodes"]["node"]["requirements"] == []
    assert len(answer["nodes"]["node"]["files"]) == 1


def test_a_file_that_cannot_be_downloaded_is_an_error_of_the_nodes_that_need_it(server, published, plan, tmp_path):
    missing = {**MISSING, "name": "mamba-ssm", "url": f"{server.url}/missing"}
    needy = {f"needy{number:02}": plan(published, missing) for number in range(12)}
    answer = fetch_for_nodes({"happy": plan(published), **needy}, DownloadContext(str(tmp_path / "cache")))
    assert answer["nodes"]["happy"]["errors"] == []
    [error] = answer["nodes"]["needy11"]["errors"]
    assert "/missing does not exist (404)" in error
    assert error.endswith(
        "Wanted by needy00, needy01, needy02, needy03, needy04, needy05, needy06, needy07, needy08, needy09 and 2 more."
    )
    assert [wheel["name"] for wheel in answer["nodes"]["needy11"]["wheels"]] == ["flash-attn"]
    assert server.requests.count("/missing") == 1


def test_a_wheel_from_a_further_link_is_returned_and_kept_with_that_link(server, published, plan, tmp_path):
    linked = {**published, "url": f"{server.url}/blob", "other_urls": [published["url"]], "source": "index:x"}
    server.serve_page("/blob", "<html>a view for people")
    context = DownloadContext(str(tmp_path / "cache"))
    result = fetch_for_nodes({"n1": plan(linked)}, context)
    assert [wheel["url"] for wheel in result["nodes"]["n1"]["wheels"]] == [published["url"]]
    assert [each["url"] for each in result["downloads"]] == [published["url"]]
    assert "is a page of HTML" in result["warnings"][0]
    assert fetch_for_nodes({"n1": plan(linked)}, context, predict=True)["downloads"] == []


def test_the_error_for_a_missing_wheel_says_who_has_told_of_it(server, published, plan, tmp_path):
    listed = {**published, "url": f"{server.url}/gone", "source": "release", "release": "v2.8.3"}
    (error,) = fetch_for_nodes({"n1": plan(listed)}, DownloadContext(str(tmp_path / "cache")))["nodes"]["n1"]["errors"]
    assert "though GitHub's API lists it in release v2.8.3" in error


def test_a_requirement_that_cannot_be_downloaded_is_an_error_of_the_nodes_that_lack_it(
    server, published, plan, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    having = plan(published, requirements=True)
    having["environment"]["distributions"]["einops"] = "0.6"
    plans = {"lacking": plan(published, requirements=True), "having": having}
    answer = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))
    assert answer["nodes"]["having"]["errors"] == []
    assert ["einops" in error for error in answer["nodes"]["lacking"]["errors"]] == [True]


def test_a_prediction_downloads_nothing_and_tells_all_that_would_be(server, published, index, plan, tmp_path):
    server.serve_file(f"/{published['filename']}", (tmp_path / "published" / published["filename"]).read_bytes())
    plans = {"node": plan(published, requirements=True)}
    answer = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")), predict=True)
    size = (tmp_path / "published" / published["filename"]).stat().st_size
    wheel, *required = answer["downloads"]
    assert wheel == {"url": published["url"], "size": size}
    assert [item["url"] for item in required] == ["einops-0.8.1-py3-none-any.whl"]
    [foreseen] = answer["nodes"]["node"]["requirements"]
    assert foreseen["filename"] == "einops-0.8.1-py3-none-any.whl"
    assert answer["nodes"]["node"]["files"] == []
    assert answer["nodes"]["node"]["wheels"][0]["sha256"] is None
    assert not [path for path in (tmp_path / "cache").rglob("*.whl") if path.is_file()]
    done = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))["nodes"]["node"]
    assert [item["filename"] for item in done["requirements"]] == [foreseen["filename"]], (
        "what was foreseen has happened"
    )
    server.requests.clear()
    index.requests.clear()
    after = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")), predict=True)
    assert (after["downloads"], server.requests, index.requests) == ([], [], [])
    assert after["nodes"]["node"] == done


def test_a_prediction_says_where_requirements_stay_unknown(published, plan, tmp_path):
    plans = {"node": plan(published, requirements=True)}
    [warning] = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")), predict=True)["warnings"]
    assert warning.startswith(f"What {published['filename']} requires besides torch is known when it is downloaded")
    plans = {"node": plan(published, requirements=False)}
    assert fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")), predict=True)["warnings"] == []


def test_a_prediction_fails_where_the_download_would(published, plan, tmp_path):
    lost = {**published, "url": f"{published['url']}.lost"}
    plans = {"node": plan(published), "other": plan(lost)}
    nodes = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")), predict=True)["nodes"]
    assert nodes["node"]["errors"] == []
    assert ["does not exist (404)" in error for error in nodes["other"]["errors"]] == [True]


def test_files_of_one_name_with_different_hashes_are_not_the_same(server, published, plan, tmp_path):
    plans = {"right": plan(published), "wrong": plan({**published, "sha256": "0" * 64})}
    answer = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))
    assert answer["nodes"]["right"]["errors"] == []
    assert ["wanted is 000" in error for error in answer["nodes"]["wrong"]["errors"]] == [True]


def test_a_cache_that_cannot_be_used_is_one_error_for_all_nodes(published, plan, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match="cannot be made"):
        fetch_for_nodes({"node": plan(published)}, DownloadContext(str(tmp_path / "file")))


def test_a_prediction_has_the_size_if_it_is_known(published, plan, tmp_path):
    answer = fetch_for_nodes(
        {"node": plan({**published, "size": 1234})}, DownloadContext(str(tmp_path / "cache")), predict=True
    )
    assert answer["downloads"] == [{"url": published["url"], "size": 1234}]
    assert answer["nodes"]["node"]["wheels"][0]["size"] == 1234


@pytest.mark.parametrize("predict", [False, True], ids=["run", "prediction"])
def test_where_hashes_are_required_a_wheel_without_one_is_an_error_of_its_nodes(
    predict, server, published, plan, tmp_path
):
    known = {**published, "sha256": sha256(tmp_path / "published" / published["filename"])}
    plans = {"unknown": plan(published), "known": plan(known)}
    answer = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache"), require_sha256=True), predict)
    assert ["torch_extension_require_sha256" in error for error in answer["nodes"]["unknown"]["errors"]] == [True]
    assert answer["nodes"]["known"]["errors"] == []


def test_a_wheel_must_have_the_size_in_the_plan(published, plan, tmp_path):
    answer = fetch_for_nodes({"node": plan({**published, "size": 1})}, DownloadContext(str(tmp_path / "cache")))
    assert ["wanted are 1, as the release" in error for error in answer["nodes"]["node"]["errors"]] == [True]


def test_distinct_wheels_are_downloaded_in_parallel_and_listed_in_the_order_of_the_plans(server, plan, tmp_path):
    meet = threading.Barrier(3)
    wheels = []
    for number in range(3):
        path = build_wheel(tmp_path / "published", version=f"2.8.{number}")
        url = server.serve_body(f"/{path.name}", path.read_bytes())

        def answer_together(handler, answer=server.handlers[f"/{path.name}"]):
            meet.wait(10)  # breaks, if they come one after the other
            answer(handler)

        server.handlers[f"/{path.name}"] = answer_together
        wheels.append({"name": "flash-attn", "url": url, "filename": path.name, "sha256": None, "size": None})
    answer = fetch_for_nodes({"node": plan(*wheels)}, DownloadContext(str(tmp_path / "cache")))
    assert [download["url"] for download in answer["downloads"]] == [wheel["url"] for wheel in wheels]
    assert [os.path.basename(path) for path in answer["nodes"]["node"]["files"]] == [
        wheel["filename"] for wheel in wheels
    ]


def test_a_wheel_on_the_control_node_is_no_download(plan, tmp_path):
    path = build_wheel(tmp_path / "wheels")
    wheel = {"name": "flash-attn", "url": path.as_uri(), "filename": path.name, "sha256": None, "size": None}
    answer = fetch_for_nodes({"node": plan(wheel)}, DownloadContext(str(tmp_path / "cache")))
    assert (answer["downloads"], answer["warnings"]) == ([], [])
    assert answer["nodes"]["node"]["files"] == [str(path)]
    assert answer["nodes"]["node"]["wheels"][0]["sha256"] == sha256(path)


def test_with_a_lock_a_requirement_that_it_lacks_is_not_fetched_from_the_index(published, index, plan, tmp_path):
    answer = fetch_for_nodes(
        {"node": plan({**published, "requirements": []}, requirements=True)}, DownloadContext(str(tmp_path / "cache"))
    )
    assert ["einops" in error and "is not in the lock" in error for error in answer["nodes"]["node"]["errors"]] == [
        True
    ]
    assert index.requests == []


def test_the_facts_about_binaries_are_returned_once_for_each_wheel(published, plan, tmp_path):
    answer = fetch_for_nodes(
        {"node1": plan(published), "node2": plan(published)}, DownloadContext(str(tmp_path / "cache"))
    )
    [digest] = {wheel["sha256"] for node in answer["nodes"].values() for wheel in node["wheels"]}
    assert {key: facts["filename"] for key, facts in answer["facts"].items()} == {digest: published["filename"]}


def test_a_hostile_wheel_is_an_error_of_its_nodes_and_goes_to_no_node(server, published, plan, tmp_path):
    path = build_wheel(tmp_path / "hostile", version="6.6.6", extra=[("../evil.so", b"\x7fELF")])
    hostile = {**published, "url": server.serve_body(f"/{path.name}", path.read_bytes()), "filename": path.name}
    answer = fetch_for_nodes({"good": plan(published), "bad": plan(hostile)}, DownloadContext(str(tmp_path / "cache")))
    assert answer["nodes"]["good"]["errors"] == []
    assert (answer["nodes"]["bad"]["wheels"], answer["nodes"]["bad"]["files"]) == ([], [])
    assert ["../evil.so" in error and "Wanted by bad" in error for error in answer["nodes"]["bad"]["errors"]] == [True]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plan: plan["environment"]["platform"].update(system=5), "platform.system is 5, wanted is a system"),
        (
            lambda plan: plan["environment"]["platform"]["libc"].update(version="2.1000000"),
            "wanted is a version such as",
        ),
        (lambda plan: plan["environment"].pop("python"), "environment lacks python"),
        (lambda plan: plan.pop("wheels"), "plan lacks wheels"),
        (
            lambda plan: plan["wheels"].append({"url": 5, "filename": "a"}),
            r"plan.wheels\[1\].url is 5, wanted is a text",
        ),
        (
            lambda plan: plan["wheels"][0].update(size="many"),
            r"plan.wheels\[0\].size is 'many', wanted is a number of bytes",
        ),
        (lambda plan: plan["wheels"][0].update(url="https://[bad"), "could not be dealt with|cannot be"),
        (lambda plan: plan["wheels"][0].update(filename="-r.whl"), "is not the name of a wheel"),
        (
            lambda plan: plan["wheels"][0].update(requirements=[{"name": "-r"}]),
            r"plan.wheels\[0\].requirements\[0\] lacks filename",
        ),
        (
            lambda plan: plan["wheels"][0].update(
                requirements=[{"name": "einops", "version": "x", "filename": "e", "sha256": None, "size": None}]
            ),
            "What broken wants could not be dealt with.*InvalidVersion|wanted is a version|no einops",
        ),
    ],
)
def test_whatever_one_node_says_is_an_error_of_that_node_alone(damage, words, published, index, plan, tmp_path):
    broken = plan(dict(published), requirements=True)
    damage(broken)
    plans = {
        "before": plan(published, requirements=True),
        "broken": broken,
        "after": plan(published, requirements=True),
    }
    nodes = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))["nodes"]
    [error] = nodes["broken"]["errors"]
    assert re.search(words, error)
    for node in ("before", "after"):
        assert (nodes[node]["errors"], len(nodes[node]["files"])) == ([], 2)


@pytest.mark.parametrize(
    "line",
    [
        'einops; os_name ~= "x"',
        "einops (",
        'einops; python_version > "' + "9" * 4400 + '"',
        "einops; " + "(" * 3000 + 'os_name=="posix"' + ")" * 3000,
        f"einops=={'9' * 1900}",
    ],
    ids=range(5),
)
def test_a_wheel_with_a_requirement_that_means_nothing_is_an_error_of_those_that_want_it(
    line, server, published, index, plan, tmp_path
):
    path = build_wheel(tmp_path / "odd", name="mamba-ssm", version="2.2.0", requires=[line])
    url = server.serve_body(f"/{path.name}", path.read_bytes())
    odd = {"name": "mamba-ssm", "url": url, "filename": path.name, "sha256": None, "size": None}
    plans = {"both": plan(published, odd, requirements=True), "good": plan(published, requirements=True)}
    nodes = fetch_for_nodes(plans, DownloadContext(str(tmp_path / "cache")))["nodes"]
    assert (nodes["good"]["errors"], len(nodes["good"]["files"])) == ([], 2)
    [error] = nodes["both"]["errors"]
    assert len(error) < 10000
    assert path.name in error or "einops" in error

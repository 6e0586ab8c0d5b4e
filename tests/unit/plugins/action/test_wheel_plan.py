# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from github_server import Api, asset, release
from nodes import extension_wheel, stable_wheel
from venvs import site_packages
from wheels import as_wanted, build_sdist, build_wheel, sha256, tree_state

# What asks, shows, unpacks or reads binaries; a tenth of a second, and 7 MB of which each node's process on the control node
# gets a copy.
HEAVY = {
    "requests",
    "urllib3",
    "http.client",
    "ssl",
    "concurrent.futures",
    "html.parser",
    "tarfile",
    "tqdm",
    "elftools",
}
PLANNING = """
import json, sys
sys.path[:], environment, arguments = json.load(sys.stdin)
import ansible.plugins.action
before = set(sys.modules)
from ansible_collections.airgap.torch_extensions.plugins.action import torch_extension, wheel_fetch, wheel_plan
imported = set(sys.modules) - before
decision = wheel_plan._begin_decision("flash-attn==2.8.3", environment, arguments)
wheel = wheel_plan.choose_serving(decision, environment, None)
print(json.dumps([wheel["filename"], sorted(imported), sorted(set(sys.modules) - before), sorted(before)]))
"""


@pytest.fixture
def plan(on_node, venv, shelf, tmp_path):
    """Plans flash-attn for the environment, from a folder of wheels."""

    def plan(*options, **arguments):
        defaults = {"packages": ["flash-attn"], "python": str(venv), "source": [f"directory:{shelf}"]}
        defaults |= {"cache_dir": str(tmp_path / "cache"), "suggest": False}
        return on_node("wheel_plan", *options, **{**defaults, **arguments})

    return plan


def test_a_plan_has_the_nodes_environment_and_its_wheels_and_changes_nothing(plan, venv, torch_libraries, shelf):
    wheel = extension_wheel(shelf, torch_libraries, "2.6")
    before = tree_state(venv)
    planned = plan()
    assert tree_state(venv) == before
    assert planned["changed"] is False
    assert planned["environment"]["torch"]["version"] == "2.6.0+cu124"
    (item,) = planned["plan"]
    assert (item["filename"], item["action"], item["conflicts"]) == (wheel.name, "install", [])
    assert [each["filename"] for each in planned["wheels"]] == [wheel.name]
    assert not {"refused", "newer", "warnings"} & set(planned["wheels"][0])
    assert planned["requirements"] is True
    assert planned["report"][0].startswith("found: Python ")


def test_a_string_of_requirements_is_split_between_them_alone(plan, torch_libraries, shelf):
    extension_wheel(shelf, torch_libraries, "2.6")
    planned = plan(packages="flash-attn>=2.7,<2.9,causal-conv1d", refuse=False)
    assert [item["requirement"] for item in planned["plan"]] == ["flash-attn>=2.7,<2.9", "causal-conv1d"]
    assert [item["action"] for item in planned["plan"]] == ["install", "refuse"]


def test_a_conflict_fails_the_task_unless_refuse_is_false(plan, venv, torch_libraries, shelf):
    extension_wheel(shelf, torch_libraries, "2.5")
    refused = plan(match="exact")
    assert refused["failed"]
    assert f"Nothing was changed in {venv}." in refused["msg"]
    assert "There is one for torch 2.5." in refused["msg"]
    planned = plan(match="exact", refuse=False)
    assert (planned["failed"], planned["plan"][0]["action"], planned["wheels"]) == (False, "refuse", [])
    assert planned["plan"][0]["conflicts"][0] in refused["msg"]


def test_a_node_that_cannot_be_probed_fails_the_task(plan, tmp_path):
    failed = plan(python=str(tmp_path / "nowhere"))
    assert failed["failed"]
    assert "nowhere" in failed["msg"]


def test_without_choosing_a_plan_tells_what_no_choice_can_change_and_asks_no_source(plan, torch_libraries, server):
    unasked = {"choose": False, "source": [f"index:{server.url}/simple"], "mode": "pip_cache"}
    planned = plan(**unasked)
    assert (planned["plan"][0]["conflicts"], planned["plan"][0]["requirement"]) == ([], "flash-attn")
    assert (planned["changed"], planned["wheels"]) == (False, [])
    torch_libraries.with_name("version.py").write_text("__version__ = '2.6.0+cpu'\ncuda = None\nhip = None\n")
    [refused] = plan(**unasked, refuse=False)["plan"]
    assert "is built for the CPU only" in refused["conflicts"][0]
    failed = plan(**unasked)
    assert failed["failed"]
    assert refused["conflicts"][0] in failed["msg"]
    assert server.requests == []


def test_with_a_given_environment_the_node_is_not_contacted(on_node, shelf, environment, tmp_path):
    environment["distributions"]["flash-attn"] = "2.8.3"  # nobody knows from which wheel
    wheel = shelf / "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"wheel")
    other = shelf / "causal_conv1d-1.5.0+cu12torch2.1cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    other.write_bytes(b"wheel")
    planned = on_node(
        "wheel_plan",
        "-e",
        "ansible_connection=ssh ansible_host=nobody.invalid",
        packages=["flash-attn", "causal-conv1d"],
        environment=environment,
        source=[f"directory:{shelf}"],
        cache_dir=str(tmp_path / "cache"),
        refuse=False,
        suggest=False,
    )
    flash, conv = planned["plan"]
    assert (flash["action"], conv["action"]) == ("examine", "refuse")
    assert "1 that may serve was not tried, for only the node can tell" in conv["conflicts"][0]
    assert planned["environment"] == environment


def test_what_nobody_has_is_planned_to_be_built_and_the_node_says_what_it_has_for_that(plan, torch_libraries, shelf):
    (shelf / "flash_attn-2.8.3.tar.gz").write_text("sdist")
    sources = {"source": [f"directory:{shelf}", "build"], "build_archs": ["9.0"]}
    planned = plan(**sources)
    assert (planned["plan"][0]["action"], planned["wheels"], planned["changed"]) == ("build", [], False)
    (build,) = planned["builds"]
    assert (build["version"], build["build"]["architectures"]) == ("2.8.3", ["9.0"])
    assert os.path.isfile(planned["machine"]["cxx"]["path"])
    assert any(line.startswith("flash-attn 2.8.3: to be built") for line in planned["report"])
    assert plan(**sources, builder="b01")["machine"] is None


def test_for_a_node_that_could_not_install_it_nothing_is_built(plan, shelf, environment):
    (shelf / "flash_attn-2.8.3.tar.gz").write_text("sdist")
    sources = {"source": [f"directory:{shelf}", "build"], "refuse": False, "environment": environment}
    assert len(plan(**sources)["builds"]) == 1
    environment["installers"] = {"pip": None, "uv": None, "reason": None}
    planned = plan(**sources)
    assert planned["plan"][0]["conflicts"]
    assert planned["builds"] == []


def test_with_find_links_the_node_examines_its_folder_of_wheels(plan, on_node, venv, torch_libraries, shelf):
    extension_wheel(shelf, torch_libraries, "2.6")
    planned = plan(mode="find_links")
    assert (planned["plan"][0]["action"], planned["changed"]) == ("install", False)
    assert not any("pip install finds it" in line for line in planned["report"])
    placed = on_node(
        "torch_extension", python=str(venv), wheels=planned["wheels"], folder=str(shelf), mode="find_links"
    )
    assert placed["changed"]
    again = plan(mode="find_links")
    assert (again["plan"][0]["action"], again["wheels"]) == ("keep", [])
    assert f"pip install finds it in: {placed['find_links']}" in again["report"]
    assert any(line.startswith("flash-attn 2.8.3: kept") for line in again["report"])


def test_with_pip_cache_the_node_examines_its_cache(plan, torch_libraries, shelf, home):
    extension_wheel(shelf, torch_libraries, "2.6")
    arguments = {"mode": "pip_cache", "sdist_url": "https://mirror.example/flash_attn-2.8.3.tar.gz"}
    planned = plan(**arguments)
    assert (planned["plan"][0]["action"], planned["requirements"]) == ("install", False)
    assert planned["plan"][0]["pip_cache_path"].startswith(f"{home}/.cache/pip/wheels/")


def test_for_pips_cache_the_nodes_pip_is_asked_for_the_sdist_of_the_version_that_is_chosen(
    plan, torch_libraries, shelf, home, server, monkeypatch
):
    extension_wheel(shelf, torch_libraries, "2.6")
    index = server.serve_index(build_sdist(shelf.with_name("index"), "flash_attn", "2.8.3").parent)
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
    (item,) = plan(packages=["flash-attn>=2.8"], mode="pip_cache")["plan"]
    assert (item["version"], item["action"], item["conflicts"]) == ("2.8.3", "install", [])
    assert item["sdist_url"].startswith(f"{server.url}/files/flash_attn-2.8.3.tar.gz")
    assert item["pip_cache_path"].startswith(f"{home}/.cache/pip/wheels/")


def test_of_wheels_for_another_torch_a_proven_one_is_taken(plan, torch_libraries, shelf):
    misfit = extension_wheel(shelf, torch_libraries, "2.5", serves=False)
    fitting = extension_wheel(shelf, torch_libraries, "2.4")
    planned = plan()
    (item,) = planned["plan"]
    assert (item["filename"], item["action"], item["sha256"]) == (fitting.name, "install", sha256(fitting))
    assert item["ground"].endswith("this node has all that its binaries need, as was proven")
    assert [each["filename"] for each in item["refused"]] == [misfit.name]
    assert "_ZN2at4goneEv (at::gone)" in item["refused"][0]["reason"]
    assert [each["filename"] for each in planned["wheels"]] == [fitting.name]
    assert planned["changed"] is False, "it was here"


def test_a_wheel_that_tells_no_torch_and_needs_only_its_stable_part_serves_any_torch(plan, torch_libraries, shelf):
    wheel = stable_wheel(shelf, torch_libraries, requires=["torch>=2.5"])
    (item,) = plan()["plan"]
    assert (item["filename"], item["action"]) == (wheel.name, "install")
    assert item["ground"] == (
        f"its name says {wheel.name.removeprefix('flash_attn-2.8.3-').removesuffix('.whl')}; its METADATA requires torch>=2.5,"
        " and nothing tells for which torch it is; its binaries need only the part of torch that stays stable, which this torch"
        " has, as was proven"
    )


def test_what_the_node_has_found_unfit_is_not_chosen_again(plan, torch_libraries, shelf):
    better = extension_wheel(shelf, torch_libraries, "2.6", label="cu124torch2.6cxx11abiTRUE")
    other = extension_wheel(shelf, torch_libraries, "2.6")
    assert plan()["plan"][0]["filename"] == better.name
    unfit = [{"url": better.as_uri(), "filename": better.name, "reason": "it needs GLIBC_2.99 of libc.so.6"}]
    planned = plan(unfit=unfit)
    assert planned["plan"][0]["filename"] == other.name
    assert planned["plan"][0]["refused"][0] == {
        "reason": "it needs GLIBC_2.99 of libc.so.6",
        "count": 1,
        "filename": better.name,
    }
    assert planned["unfit"] == unfit


def test_if_no_wheel_for_another_torch_is_proven_each_is_named_with_its_reason(plan, torch_libraries, shelf):
    wheels = [extension_wheel(shelf, torch_libraries, torch, serves=False) for torch in ("2.5", "2.7")]
    pure = extension_wheel(shelf, torch_libraries, "2.4")
    pure.write_bytes(b"no archive")
    refused = plan()
    assert refused["failed"]
    for wheel in wheels:
        assert f"{wheel.name} was tried, and does not serve: does not fit: it needs a symbol" in refused["msg"]
    assert f"{pure.name} was tried, and whether it serves is not known: " in refused["msg"]


def test_a_wheel_for_another_torch_is_downloaded_for_the_proof_but_not_in_check_mode(
    plan, on_node, venv, torch_libraries, shelf, tls_server, tmp_path
):
    wheel = extension_wheel(shelf, torch_libraries, "2.5")
    file = f"/wheels/{wheel.name.replace('+', '%2B')}"
    tls_server.serve_body(file, wheel.read_bytes())
    tls_server.serve_page("/wheels/", f'<a href="{file}">a wheel whose hash nobody tells</a>')
    arguments = {"source": [f"index:{tls_server.url}/wheels/"]}
    foretold = plan("--check", **arguments)
    assert (foretold["plan"][0]["filename"], foretold["changed"]) == (wheel.name, False)
    assert "check mode does not download" in foretold["output"]
    assert file not in tls_server.requests
    planned = plan(**arguments)
    assert not planned["failed"], planned["msg"]
    assert (planned["wheels"][0]["filename"], planned["changed"]) == (wheel.name, True)
    assert tls_server.requests.count(file) == 1
    assert "its sha256" in planned["output"], "the first download tells it"
    installed = on_node("torch_extension", python=str(venv), wheels=planned["wheels"], folder=str(shelf))
    assert installed["changed"], installed
    kept = plan(**arguments, cache_dir=str(tmp_path / "another cache"))
    assert (kept["plan"][0]["action"], kept["changed"]) == ("keep", False), "it loads, whatever its wheel"
    assert tls_server.requests.count(file) == 1


def test_a_plan_from_cached_answers_imports_no_slow_modules(server, environment, tmp_path):
    name = "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    Api(server).serve_release(release(asset(name)))
    arguments = {
        "mode": "install",
        "source": ["release"],
        "place_urls": {},
        "suggest": True,
        "upgrade": False,
        "build_archs": [],
        "locking": False,
        "reinstall": False,
        "sha256": {},
        "match": "exact",
        "github_url": "https://github.com",
        "github_api_url": server.url,
        "cache_dir": str(tmp_path / "cache"),
        "max_age": 600,
    }

    def plan():
        stdin = json.dumps([sys.path, environment, arguments])
        done = subprocess.run(
            [sys.executable, "-c", PLANNING], input=stdin, stdout=subprocess.PIPE, text=True, check=True
        )
        planned, imported, later, by_ansible = json.loads(done.stdout)
        assert planned == name
        return HEAVY & set(imported), HEAVY & set(later), set(by_ansible)

    imported, later, by_ansible = plan()
    assert imported == set()
    assert later == {"requests", "urllib3", "http.client", "ssl"} - by_ansible
    assert plan()[:2] == (set(), set())


def test_a_version_that_another_package_does_without_is_planned_with_a_warning(
    plan, on_node, venv, torch_libraries, shelf
):
    metadata = site_packages(venv) / "transformer_engine-2.16.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: transformer-engine\nVersion: 2.16.1\n")
    wheel = extension_wheel(shelf, torch_libraries, "2.6", version="2.8.3.post2")
    planned = plan()
    assert [each["filename"] for each in planned["wheels"]] == [wheel.name]
    warning = "flash-attn 2.8.3.post2: Transformer Engine 2.16.1 on this node uses flash-attn up to 2.8.3"
    assert warning in " ".join(planned["output"].split())
    installed = on_node("torch_extension", python=str(venv), wheels=planned["wheels"], folder=str(shelf))
    assert installed["changed"], installed
    kept = plan()
    assert kept["plan"][0]["action"] == "keep"
    assert warning in " ".join(kept["output"].split())
    verified = on_node("torch_verify", python=str(venv))
    (package,) = verified["packages"]
    (remark,) = package["remarks"]
    assert f"{package['name']} {package['version']}: {remark}".startswith(warning)
    assert verified["ok"], "it is not broken"


def test_what_somebody_has_changed_is_planned_anew_with_the_file_until_it_is_whole_again(
    plan, on_node, venv, torch_libraries, shelf
):
    wheel = extension_wheel(shelf, torch_libraries, "2.6")
    arguments = {"python": str(venv), "folder": str(shelf)}
    assert on_node("torch_extension", wheels=plan()["wheels"], **arguments)["changed"]
    assert plan()["plan"][0]["action"] == "keep"
    with (site_packages(venv) / "flash_attn/__init__.py").open("a") as file:
        file.write("# patched\n")
    planned = plan()
    (item,) = planned["plan"]
    assert (item["action"], item["filename"]) == ("replace", wheel.name)
    assert item["reason"] == "flash-attn 2.8.3 is installed, but flash_attn/__init__.py is not as installed"
    foretold, done = (
        on_node("torch_extension", *how, wheels=planned["wheels"], **arguments) for how in (["--check"], [])
    )
    assert foretold["changed"]
    assert done["changed"], done["output"]
    assert done["report"][0] == f"flash-attn 2.8.3: replaced (found: {item['reason']})"
    assert plan()["wheels"] == []


@pytest.mark.parametrize("mode", ["install", "find_links", "pip_cache"])
def test_with_reinstall_what_is_there_is_planned_and_put_there_in_each_run(
    mode, plan, on_node, venv, torch_libraries, shelf
):
    extension_wheel(shelf, torch_libraries, "2.6")
    where = {"mode": mode, "sdist_url": "https://mirror.example/flash_attn-2.8.3.tar.gz"}
    arguments = {"python": str(venv), "folder": str(shelf), "mode": mode}
    assert on_node("torch_extension", wheels=plan(**where)["wheels"], **arguments)["changed"]
    assert plan(**where)["wheels"] == []
    for _run in range(2):
        (wheel,) = plan(reinstall=True, **where)["wheels"]
        assert wheel["action"] == "replace"
        assert wheel["reason"].endswith("; reinstall replaces it all the same")
        for how in (["--check"], []):
            done = on_node("torch_extension", *how, wheels=[wheel], reinstall=True, **arguments)
            assert done["changed"], done["output"]
    assert not on_node("torch_extension", wheels=[wheel], **arguments)["changed"]


def test_a_removal_is_planned_without_a_source_a_lock_or_torch(on_node, venv, packages, shelf, tmp_path):
    nothing = {"source": ["index:https://nobody.invalid/"], "lock": str(tmp_path / "none.yml"), "python": str(venv)}
    arguments = {**nothing, "packages": ["flash-attn==1.0", "causal-conv1d>=2"], "state": "absent"}
    absent = on_node("wheel_plan", **arguments)
    assert (absent["failed"], absent["changed"], absent["removals"]) == (False, False, []), absent["output"]
    assert [(each["name"], each["action"], each["conflicts"]) for each in absent["plan"]] == [
        ("flash-attn", "keep", []), ("causal-conv1d", "keep", [])
    ]  # fmt: skip
    assert absent["report"][1] == (f"flash-attn: nothing to remove (found: flash-attn is not installed in {packages})")
    wheel = build_wheel(shelf)
    assert on_node("torch_extension", python=str(venv), wheels=[as_wanted(wheel)], folder=str(shelf))["changed"]
    before = tree_state(venv)
    planned = on_node("wheel_plan", **arguments)
    assert tree_state(venv) == before
    assert [(each["name"], each["version"], each["action"]) for each in planned["plan"]] == [
        ("flash-attn", "2.8.3", "remove"), ("causal-conv1d", None, "keep")
    ]  # fmt: skip
    assert (planned["removals"], planned["wheels"], planned["staged"]) == (["flash-attn", "causal-conv1d"], [], [])
    removal = {"python": str(venv), "state": "absent", "packages": planned["removals"], "wheels": []}
    foretold = on_node("torch_extension", "--check", **removal)
    assert foretold["report"][0] == "flash-attn 2.8.3: would be removed (found: flash-attn 2.8.3 is installed)"
    done = on_node("torch_extension", **removal)
    assert (done["changed"], done["unfit"]) == (True, [])
    assert done["report"][0] == "flash-attn 2.8.3: removed (found: flash-attn 2.8.3 is installed)"
    assert on_node("wheel_plan", **arguments)["removals"] == []


def test_a_removal_that_cannot_be_done_fails_the_task_unless_refuse_is_false(on_node, venv, packages):
    info = packages / "flash_attn-2.8.3.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Name: flash-attn\nVersion: 2.8.3\n")
    for path in packages.glob("pip*"):
        path.unlink()
    arguments = {"python": str(venv), "packages": ["flash-attn"], "state": "absent"}
    refused = on_node("wheel_plan", **arguments)
    assert (refused["failed"], "has no pip, and" in refused["msg"]) == (True, True)
    told = on_node("wheel_plan", **arguments, refuse=False)
    assert (told["failed"], told["plan"][0]["action"], told["removals"]) == (False, "refuse", [])
    assert told["plan"][0]["conflicts"] == [refused["msg"]]
    assert told["report"][0].startswith("found: Python ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"packages": ["torch"]}, "torch"),
        ({"packages": ["flash-attn"], "environment": {"python": {}}}, "only the node itself can tell"),
    ],
    ids=["a stranger", "a survey"],
)
def test_what_cannot_be_planned_to_go_is_refused(arguments, words, on_node, venv):
    refused = on_node("wheel_plan", python=str(venv), state="absent", **arguments)
    assert refused["failed"]
    assert words in refused["msg"]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks survey, lock and bundle, with nodes that are this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from locks import environment_of_another_kind
from nodes import TAGS
from venvs import site_packages
from wheels import build_wheel, sha256

import ansible_collections

pytestmark = pytest.mark.slow  # they run playbooks


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder in which the operator stands."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def playbook(here):
    """Runs a playbook of the collection; exit status and what is said."""

    def playbook(name, *options, **variables):
        command = [Path(sys.executable).with_name("ansible-playbook"), f"airgap.torch_extensions.{name}", *options]
        collections = str(Path(next(iter(ansible_collections.__path__))).parent)
        environ = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"}
        given = {"torch_extension_packages": ["flash-attn==2.8.3"], **variables}
        command += ["-e", json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here, env=environ)
        return done.returncode, done.stdout + done.stderr

    return playbook


@pytest.fixture
def nodes(make_venv, make_torch, tmp_path):
    """An inventory of two nodes that are alike, one that is not, and one without an environment."""
    venv = make_venv(pip=True)
    make_torch(site_packages(venv))
    other = make_venv("other", pip=True)
    make_torch(
        site_packages(other), "__version__ = '2.7.0+cu126'\ncuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n"
    )
    pythons = {"n1": venv, "n2": venv, "n3": other, "n4": tmp_path / "nowhere"}
    common = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    lines = [f"{node} torch_extension_python={python} {common}\n" for node, python in pythons.items()]
    inventory = tmp_path / "nodes"
    inventory.write_text("".join(lines))
    return str(inventory)


@pytest.fixture
def github(server, tmp_path, monkeypatch):
    """A server with all wheels and an index; the variables that tell of it."""
    hashes = {}
    for torch in ("2.6", "2.7"):
        wheel = build_wheel(
            tmp_path / "published",
            label=f"cu12torch{torch}cxx11abiFALSE",
            requires=["torch", "einops"],
            tags=TAGS,
        )
        hashes[wheel.name] = sha256(wheel)
        server.serve_body(f"/Dao-AILab/flash-attention/releases/download/v2.8.3/{wheel.name}", wheel.read_bytes())
    build_wheel(tmp_path / "index", name="einops", version="0.8.1")
    monkeypatch.setenv("PIP_INDEX_URL", server.serve_index(tmp_path / "index"))
    return {
        "torch_extension_github_url": server.url,
        "torch_extension_sources": ["guess"],
        "torch_extension_sha256": hashes,
    }


@pytest.fixture
def survey(here, environment):
    """Writes a survey of two nodes that are alike and one that is not."""

    def survey(**more):
        kinds = [(["n1", "n2"], environment | more), (["n3"], environment_of_another_kind(environment) | more)]
        entries = [{"nodes": nodes, "packages": ["flash-attn==2.8.3"], "environment": kind} for nodes, kind in kinds]
        # without YAML aliases for the object that stands there twice
        data = json.loads(json.dumps({"survey_version": 1, "environments": entries}))
        (here / "environments.yml").write_text(yaml.safe_dump(data))
        return {"torch_extension_survey": "environments.yml"}

    return survey


def test_a_node_that_cannot_be_probed_keeps_the_lock_from_being_written(playbook, nodes, github, here):
    status, said = playbook("lock", "-i", nodes, **github)
    assert status != 0
    assert "n4: No interpreter at" in said
    assert "torch_extension_skip_refused: true, or --limit 'localhost,all,!n4'" in said
    assert not (here / "wheels.lock.yml").exists()


@pytest.mark.parametrize("with_survey", [False, True])
def test_refused_nodes_can_be_left_out_of_a_lock_and_are_named(with_survey, playbook, nodes, github, here, make_venv):
    """n4 has no environment, and n2 no torch."""
    venv = make_venv("without_torch", pip=True)
    Path(nodes).write_text(
        Path(nodes).read_text().replace("n2 torch_extension_python=", f"n2 torch_extension_python={venv} was=")
    )
    if with_survey:
        status, said = playbook("survey", "-i", nodes)
        assert status == 0, said
        assert "n2: nothing can be chosen: flash-attn==2.8.3 needs torch, and the environment has none." in said
        assert "n4: not in the survey: No interpreter at" in said
    given = {**github, **({"torch_extension_survey": "environments.yml"} if with_survey else {})}
    inventory = () if with_survey else ("-i", nodes)
    status, said = playbook("lock", *inventory, **given)
    assert status != 0
    assert "because an incomplete lock would look complete" in said
    assert not (here / "wheels.lock.yml").exists()
    status, said = playbook("lock", *inventory, **given, torch_extension_skip_refused=True)
    assert status == 0, said
    assert "left out: n2: flash-attn==2.8.3 needs torch" in said
    assert ("left out: n4: No interpreter" in said) == (not with_survey)
    locked = yaml.safe_load((here / "wheels.lock.yml").read_text())["environments"]
    assert [environment["torch"] for environment in locked] == ["2.6.0+cu124", "2.7.0+cu126"]


def test_nodes_that_cannot_be_reached_are_named_and_keep_the_lock_from_being_written(playbook, nodes, github, here):
    with Path(nodes).open("a") as inventory:
        inventory.write("n5 ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1\n")
    limit = ("--limit", "n1,n5")
    status, said = playbook("survey", "-i", nodes, *limit)
    assert status != 0
    assert "n5: not in the survey: it could not be reached." in said
    kinds = yaml.safe_load((here / "environments.yml").read_text())["environments"]
    assert [kind["nodes"] for kind in kinds] == [["n1"]]
    status, said = playbook("lock", "-i", nodes, *limit, **github)
    assert status != 0
    assert "n5: It could not be reached." in said
    assert not (here / "wheels.lock.yml").exists()


def test_a_survey_of_no_node_is_not_written(playbook, nodes, here):
    status, said = playbook("survey", "-i", nodes, "--limit", "n4")
    assert status != 0
    assert "No node could be surveyed, and nothing was written." in said
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "advice", "left"),
    [
        ("n1", "localhost,n1", "n1"),
        ("!n3", "localhost,all,!n3", "n1, n2"),
        ("all:!n3", "localhost:all:!n3", "n1, n2"),
        ("all[1:2]", "localhost,all[1:2]", "n2, n3"),
    ],
)
def test_a_limit_that_leaves_out_localhost_is_refused_with_the_one_that_chooses_among_the_nodes_of_a_survey(
    limit, advice, left, playbook, survey, github, here
):
    given = {**github, **survey(torch=None)}
    status, said = playbook("bundle", "--limit", limit, **given)
    assert status != 0
    assert f"--limit '{limit}' leaves out localhost" in said
    assert f"Write --limit '{advice}'" in said
    status, said = playbook("bundle", "--limit", advice, **given)
    assert status != 0
    assert f'"{left}: flash-attn==2.8.3 needs torch' in said
    assert [path.name for path in here.iterdir()] == ["environments.yml"]


def test_a_limit_that_leaves_no_node_of_the_survey_is_refused(playbook, survey, here):
    status, said = playbook("bundle", "--limit", "localhost,n9", **survey())
    assert status != 0
    assert "leaves none of the nodes of the survey, and nothing was done. These are in it: n1, n2, n3." in " ".join(
        said.split()
    )
    assert [path.name for path in here.iterdir()] == ["environments.yml"]


def test_without_nodes_there_is_no_success(playbook):
    for options, words in (((), "Name an inventory"), (("--limit", "n1"), "leaves out localhost")):
        status, said = playbook("lock", *options)
        assert status != 0
        assert words in said


@pytest.mark.parametrize(
    "text",
    [
        "- hosts: all\n",
        "survey_version: 2\nenvironments: [1]\n",
        "survey_version: 1\nenvironments: []\n",
        "survey_version: 1\nenvironments: [{nodes: [\"n1'; rm -rf ~; '\"], packages: [], environment: {}}]\n",
        "survey_version: 1\nenvironments: [{nodes: [-e, n1], packages: [], environment: {}}]\n",
        'survey_version: 1\nenvironments: [{nodes: ["n1\\e[2J"], packages: [], environment: {}}]\n',
        "survey_version: 1\nenvironments: [{nodes: &a [n1], packages: *a, environment: {}}]\n",
        None,
    ],
)
def test_what_is_no_survey_is_told(text, playbook, here):
    if text:
        (here / "environments.yml").write_text(text)
    status, said = playbook("lock", torch_extension_survey="environments.yml")
    assert status != 0
    assert f"{here / 'environments.yml'} is no survey" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (here / "wheels.lock.yml").exists()


def test_lock_and_bundle_are_written_of_what_nodes_return(playbook, nodes, github, here):
    for name, *options in (("lock", "-i", nodes, "--limit", "!n4"), ("bundle",)):
        status, said = playbook(name, *options, **github)
        assert status == 0, said
    assert f"{here / 'bundle'} was written: 2 kinds of nodes, 3 wheels, " in said
    locked = yaml.safe_load((here / "wheels.lock.yml").read_text())["environments"]
    assert [environment["torch"] for environment in locked] == ["2.6.0+cu124", "2.7.0+cu126"]
    wheels = {environment["wheels"][0]["filename"] for environment in locked}
    assert wheels == github["torch_extension_sha256"].keys()
    assert wheels <= {path.name for path in here.glob("bundle/wheels/*")}


def test_with_check_nothing_is_written_and_nothing_downloaded(playbook, nodes, github, here, home):
    for name in ("survey", "lock", "bundle"):
        playbook(name, "-i", nodes, "--limit", "!n4", "--check", **github)
    assert list(here.iterdir()) == []
    assert list(home.rglob("*.whl")) == []

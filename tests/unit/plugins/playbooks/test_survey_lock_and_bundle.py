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


def test_a_node_that_cannot_be_probed_keeps_the_lock_from_being_written(playbook, nodes, github, here):
    status, said = playbook("lock", "-i", nodes, **github)
    assert status != 0
    assert "n4 could not be planned for" in said
    assert "--limit" in said
    assert not (here / "wheels.lock.yml").exists()


@pytest.mark.parametrize(
    "text", ["- hosts: all\n", "survey_version: 2\nenvironments: [1]\n", "survey_version: 1\nenvironments: []\n", None]
)
def test_what_is_no_survey_is_told(text, playbook, here):
    if text:
        (here / "environments.yml").write_text(text)
    status, said = playbook("lock", torch_extension_survey="environments.yml")
    assert status != 0
    assert str(here / "environments.yml") in said
    assert "Traceback" not in said
    assert not (here / "wheels.lock.yml").exists()


def test_lock_and_bundle_are_written_of_what_nodes_return(playbook, nodes, github, here):
    for name, *options in (("lock", "-i", nodes, "--limit", "!n4"), ("bundle",)):
        status, said = playbook(name, *options, **github)
        assert status == 0, said
    locked = yaml.safe_load((here / "wheels.lock.yml").read_text())["environments"]
    assert [environment["torch"] for environment in locked] == ["2.6.0+cu124", "2.7.0+cu126"]
    wheels = {environment["wheels"][0]["filename"] for environment in locked}
    assert wheels == github["torch_extension_sha256"].keys()
    assert wheels <= {path.name for path in here.glob("bundle/wheels/*")}


def test_with_check_nothing_is_written(playbook, nodes, github, here, server):
    for name in ("survey", "lock", "bundle"):
        playbook(name, "-i", nodes, "--limit", "!n4", "--check", **github)
    assert list(here.iterdir()) == []
    assert server.requests == []

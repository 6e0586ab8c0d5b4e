# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which hosts of a site's inventory the playbooks go to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ansible_collections

pytestmark = pytest.mark.slow  # they run ansible-playbook

PLAYBOOKS = Path(__file__).parents[4] / "playbooks"
PLAYS = {path.stem: yaml.safe_load(path.read_text()) for path in PLAYBOOKS.glob("*.yml")}
TO_CONTROL_NODE = ("localhost", "{{ __torch_extension_control_node }}")
TO_NODES = sorted(
    name
    for name, plays in PLAYS.items()
    if any(play.get("hosts", "localhost") not in TO_CONTROL_NODE for play in plays)
)


@pytest.fixture
def list_hosts(tmp_path):
    """Lists the hosts that a playbook goes to, beside localhost; and what is said."""
    inventory = tmp_path / "inventory"
    inventory.write_text("[gpu]\ngpu[01:02]\n[storage]\nnfs01\n")
    collections = str(Path(next(iter(ansible_collections.__path__))).parent)
    environ = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"}

    def list_hosts(playbook, *options, inventory=str(inventory), action="--list-hosts"):
        command = [Path(sys.executable).with_name("ansible-playbook"), playbook, action, "-i", inventory, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environ)
        hosts = set(re.findall(r"^ {6}(\S+)$", done.stdout, re.MULTILINE)) - {"localhost"}
        return done.returncode, hosts, done.stdout + done.stderr

    return list_hosts


def test_there_are_playbooks_to_nodes():
    assert {"install_flash_attn", "lock", "plan", "survey", "verify"} <= set(TO_NODES)


@pytest.mark.parametrize("name", TO_NODES)
def test_a_playbook_goes_to_all_hosts_or_to_those_that_are_named_and_fails_where_there_are_none(list_hosts, name):
    playbook = f"airgap.torch_extensions.{name}"
    for option, hosts in (("", {"gpu01", "gpu02", "nfs01"}), ("gpu:!gpu02", {"gpu01"})):
        status, listed, said = list_hosts(playbook, "-e", f"torch_extension_hosts={option}")
        assert (status, listed) == (0, hosts), said
    status, listed, said = list_hosts(playbook, "-e", "torch_extension_hosts=gpus")
    assert status != 0
    assert listed == set()
    assert "torch_extension_hosts is 'gpus', which matches no host of the inventory." in said


def test_a_playbook_of_a_site_names_the_hosts(list_hosts, tmp_path):
    site = tmp_path / "site.yml"
    imported = {
        "ansible.builtin.import_playbook": "airgap.torch_extensions.verify",
        "vars": {"torch_extension_hosts": "gpu"},
    }
    site.write_text(yaml.safe_dump([imported]))
    assert list_hosts("site.yml")[:2] == (0, {"gpu01", "gpu02"})
    status, _hosts, said = list_hosts(
        "site.yml", inventory="localhost,", action="--syntax-check"
    )  # as ansible-lint does
    assert status == 0, said

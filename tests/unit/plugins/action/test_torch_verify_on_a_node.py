# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from nodes import extension_wheel
from venvs import site_packages
from wheels import as_wanted


@pytest.fixture
def verify(on_node, venv, torch_libraries):
    def verify(**arguments):
        result = on_node("torch_verify", python=str(venv), **arguments)
        assert not result["changed"]
        return result

    return verify


@pytest.fixture
def flash_attn(on_node, venv, torch_libraries, shelf):
    wheel = extension_wheel(shelf, torch_libraries, "2.6")
    installed = on_node("torch_extension", python=str(venv), wheels=[as_wanted(wheel)], folder=str(shelf))
    assert installed["changed"], installed["output"]


def test_a_node_without_extensions_is_well_unless_one_is_wanted(verify):
    result = verify()
    assert (result["ok"], result["packages"]) == (True, [])
    assert result["report"] == ["nothing installed", "torch 2.6.0+cu124, and no extension"]
    result = verify(packages=["flash-attn"])
    assert (result["ok"], result["report"][:2]) == (False, ["BROKEN", "flash-attn: it is not installed"])


def test_what_is_broken_fails_no_task_and_is_a_warning(flash_attn, verify, venv):
    assert verify(packages=["flash-attn==2.8.3"])["report"] == ["ok", "flash-attn 2.8.3: ok (files, wheel, import)"]
    with (site_packages(venv) / "flash_attn/__init__.py").open("a") as file:
        file.write("# patched\n")
    result = verify()
    assert (result["failed"], result["ok"]) == (False, False)
    fact = "flash-attn 2.8.3: flash_attn/__init__.py is not as installed"
    repair = "to repair it: run the role (playbook install_flash_attn) again, which replaces what is not whole"
    assert result["report"] == ["BROKEN", fact, repair]
    assert "BROKEN: flash-attn 2.8.3: flash_attn/__init__.py is not as installed" in " ".join(result["output"].split())


def test_a_requirement_of_the_command_line_may_have_a_comma(flash_attn, verify):
    assert verify(packages="flash-attn>=2.8,<2.9")["ok"]
    assert verify(packages="flash-attn>=2.7,<2.8")["report"][1] == "flash-attn 2.8.3: wanted is flash-attn>=2.7,<2.8"


def test_an_older_version_than_is_wanted_is_broken(flash_attn, verify):
    assert verify(packages="flash-attn>=2.8,<2.9")["report"][0] == "ok"
    assert verify(packages="flash-attn>=2.8.4,<3")["report"][:2] == [
        "BROKEN",
        "flash-attn 2.8.3: wanted is flash-attn>=2.8.4,<3",
    ]


def test_a_bad_requirement_is_refused_before_the_node_is_asked(on_node):
    refused = on_node("torch_verify", python="/nowhere", packages=["flash-atn"])
    assert refused["failed"]
    assert "flash-atn" in refused["msg"]
    assert "/nowhere" not in refused["msg"]

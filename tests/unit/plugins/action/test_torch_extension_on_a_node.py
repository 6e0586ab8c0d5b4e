# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from binaries import no_facts, read_facts
from nodes import extension_wheel
from wheels import as_wanted, build_wheel, sha256, tree_state


@pytest.fixture
def stage(home):
    return home / "stage"


@pytest.fixture
def install(on_node, venv, stage):
    """Brings files to the environment's node and installs them."""

    def install(*options, **arguments):
        return on_node("torch_extension", *options, python=str(venv), folder="~/stage", keep_files=False, **arguments)

    return install


def test_files_of_the_control_node_are_installed_and_no_copy_stays_on_the_node(install, venv, packages, shelf, stage):
    wheel, einops = build_wheel(shelf), build_wheel(shelf, name="einops", version="0.8.1")
    wanted, required = as_wanted(wheel, imports=["flash_attn", "einops"]), as_wanted(einops, name="einops")
    arguments = {
        "wheels": [wanted],
        "requirements": [{key: required[key] for key in ("name", "filename", "sha256")}],
        "files": [str(wheel), str(einops)],
    }
    before = tree_state(venv)
    foretold = install("--check", **arguments)
    assert (foretold["changed"], stage.exists(), tree_state(venv)) == (True, False, before)
    assert foretold["report"][0].startswith("flash-attn 2.8.3: would be installed")
    done = install(**arguments)
    assert (done["failed"], done["changed"]) == (False, True), done["output"]
    assert done["report"] == [
        "flash-attn 2.8.3: installed (found: flash-attn is not installed)",
        f"from: {wheel.name}",
        "why: unknown",
        "tried out: imported",
        f"with: {einops.name}",
    ]
    assert (packages / "flash_attn/__init__.py").exists()
    assert (packages / "einops/__init__.py").exists()
    assert not stage.exists()


def test_after_a_failed_installation_no_copy_stays_on_the_node(install, venv, shelf, stage):
    wheel = build_wheel(shelf, files={"flash_attn/__init__.py": "raise ImportError('no')\n"})
    before = tree_state(venv)
    failed = install(wheels=[as_wanted(wheel)], files=[str(wheel)])
    assert (failed["failed"], "does not load with" in failed["msg"]) == (True, True)
    assert (stage.exists(), tree_state(venv)) == (False, before)


def test_errors_of_the_download_fail_the_task_and_the_node_is_not_touched(install, shelf, stage):
    wheel = build_wheel(shelf)
    failed = install(wheels=[as_wanted(wheel)], files=[str(wheel)], errors=["The server is down.", "So is the other."])
    assert (failed["failed"], failed["msg"]) == (True, "The server is down.\nSo is the other.")
    assert not stage.exists()


def test_a_wheel_that_the_node_proves_not_to_fit_is_not_brought(install, venv, torch_libraries, shelf, stage):
    wheel = extension_wheel(shelf, torch_libraries, "2.6", serves=False)
    facts = read_facts(shelf.with_name("compiled") / "2.6.so", "flash_attn_2_cuda.so", filename=wheel.name)
    before = tree_state(venv)
    failed = install(wheels=[as_wanted(wheel)], files=[str(wheel)], facts={sha256(wheel): facts})
    assert failed["failed"]
    assert f"{wheel.name} does not fit {venv}/bin/python: it needs a symbol" in failed["msg"]
    assert "torch_extension_verify=none installs it all the same" in failed["msg"]
    assert failed["proofs"][0]["verdict"] == "does not fit"
    told = install(wheels=[as_wanted(wheel)], files=[str(wheel)], facts={sha256(wheel): facts}, tell_unfit=True)
    assert (told["failed"], told["changed"]) == (False, False)
    (unfit,) = told["unfit"]
    assert (unfit["filename"], unfit["reason"].startswith("it needs a symbol")) == (wheel.name, True)
    assert (stage.exists(), tree_state(venv)) == (False, before)
    done = install(wheels=[as_wanted(wheel)], files=[str(wheel)], facts={sha256(wheel): facts}, verify="none")
    assert (done["failed"], done["changed"], done["proofs"]) == (False, True, [])


def test_facts_in_another_form_are_refused(install, shelf, stage):
    wheel = build_wheel(shelf)
    failed = install(wheels=[as_wanted(wheel)], files=[str(wheel)], facts=[no_facts(filename=wheel.name)])
    assert (failed["failed"], "facts is list, wanted is the dictionary" in failed["msg"]) == (True, True), failed
    assert not stage.exists()


def test_a_proof_is_in_the_report(install, torch_libraries, shelf):
    wheel = build_wheel(shelf)
    other = no_facts(filename="other.whl", problems=["is not for this node"])
    facts = {"0" * 64: other, sha256(wheel): no_facts(filename=wheel.name)}
    done = install(wheels=[as_wanted(wheel)], files=[str(wheel)], facts=facts)
    assert [proof["verdict"] for proof in done["proofs"]] == ["fits"], done["output"]
    assert "proof: fits" in done["report"]


def test_files_need_a_folder(on_node, venv, shelf):
    wheel = build_wheel(shelf)
    failed = on_node("torch_extension", python=str(venv), wheels=[as_wanted(wheel)], files=[str(wheel)])
    assert (failed["failed"], "folder" in failed["msg"], "KeyError" in failed["output"]) == (True, True, False)


def test_a_file_that_is_missing_on_the_control_node_is_an_error_before_the_node_is_contacted(install, shelf, stage):
    wheel = build_wheel(shelf)
    wanted = as_wanted(wheel)
    wheel.unlink()
    failed = install(wheels=[wanted], files=[str(wheel)])
    assert (failed["failed"], failed["msg"]) == (
        True,
        f"There is no file {wheel} on the control node. Have wheel_fetch bring it there.",
    )
    assert not stage.exists()


def test_a_file_without_a_known_hash_is_brought_again_even_if_its_size_agrees(install, packages, shelf, stage):
    wheel = build_wheel(shelf)
    stage.mkdir(mode=0o700)
    (stage / wheel.name).write_bytes(bytes(wheel.stat().st_size))
    done = install(wheels=[{**as_wanted(wheel), "sha256": None}], files=[str(wheel)])
    assert (done["failed"], done["delivery"]["sent"]) == (False, True), done["output"]
    assert (packages / "flash_attn/__init__.py").exists()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import threading
import time

import pytest
from ansible.module_utils.basic import AnsibleModule
from binaries import no_facts
from wheels import LABEL, as_wanted, build_wheel, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.task import Task
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import system
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.cache import wheel_path
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.modules import torch_extension

pytestmark = pytest.mark.slow  # most of them run pip


@pytest.fixture
def venv(make_venv, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return make_venv(pip=True)


@pytest.fixture(autouse=True)
def gpus(monkeypatch):
    """The GPUs of this machine: none, until a test puts one in."""
    found = []
    monkeypatch.setattr(system, "read_gpus_and_driver", lambda run, which: (found, None, []))
    return found


@pytest.fixture
def deliver(tmp_path):
    return lambda **wheel: as_wanted(build_wheel(tmp_path / "delivered", **wheel))


def requirement(wheel):
    return {"name": "einops", "filename": wheel["filename"], "sha256": wheel["sha256"]}


def test_check_mode_tells_what_would_be_done_and_does_nothing(venv, deliver, run_module):
    einops = requirement(deliver(name="einops", version="0.8.1"))
    wheel = deliver(label=LABEL)
    before = tree_state(venv)
    result = run_module(torch_extension, check_mode=True, python=str(venv), wheels=[wheel], requirements=[einops])
    assert result["changed"]
    assert [(item["filename"], item["action"], item["reason"]) for item in result["wheels"]] == [
        (wheel["filename"], "install", "flash-attn is not installed")
    ]
    assert result["requirements"] == [einops["filename"]]
    assert result["diff"] == {
        "before": "flash-attn: flash-attn is not installed\n",
        "after": f"flash-attn: {wheel['filename']}\neinops: {einops['filename']}\n",
    }
    assert tree_state(venv) == before


def test_the_second_run_changes_nothing_and_needs_no_folder(venv, deliver, run_module, tmp_path):
    wheel, einops = deliver(label=LABEL), requirement(deliver(name="einops", version="0.8.1"))
    arguments = {"python": str(venv), "wheels": [wheel], "requirements": [einops]}
    first = run_module(torch_extension, **arguments, folder=str(tmp_path / "delivered"))
    assert (first["changed"], first["requirements"]) == (True, [einops["filename"]])
    after = tree_state(venv)
    second = run_module(torch_extension, **arguments)
    assert (second["changed"], second["requirements"]) == (False, [])
    assert [item["action"] for item in second["wheels"]] == ["keep"]
    assert second["diff"] == {"before": "", "after": ""}
    assert tree_state(venv) == after


def test_a_requirement_that_is_installed_in_any_version_is_left_alone(venv, deliver, run_module, tmp_path):
    folder = str(tmp_path / "delivered")
    old = {**deliver(name="einops", version="0.6"), "name": "einops", "version": "0.6", "imports": ["einops"]}
    run_module(torch_extension, python=str(venv), wheels=[old], folder=folder)
    new = requirement(deliver(name="einops", version="0.8.1"))
    result = run_module(torch_extension, python=str(venv), wheels=[deliver()], requirements=[new], folder=folder)
    assert (result["changed"], result["requirements"]) == (True, [])
    assert list(venv.rglob("einops-0.6.dist-info"))
    assert not list(venv.rglob("einops-0.8.1.dist-info"))


def test_in_check_mode_what_was_just_told_of_the_node_is_not_asked_for_again(venv, deliver, run_module, run, tmp_path):
    wheel = deliver(label=LABEL)
    told, _warnings = describe_environment(str(venv), ["*", "flash-attn"], run, os.environ)
    arguments = {"python": str(venv), "wheels": [wheel], "folder": str(tmp_path / "delivered"), "environment": told}
    run_module(torch_extension, **{**arguments, "environment": None})
    [foreseen] = run_module(torch_extension, check_mode=True, **arguments)["wheels"]
    assert foreseen["reason"] == "flash-attn is not installed", "as it was told"
    [done] = run_module(torch_extension, **arguments)["wheels"]
    assert done["action"] == "keep", "as it is"
    refused = run_module(torch_extension, check_mode=True, **{**arguments, "environment": {"python": {}}})
    assert refused["failed"]
    assert refused["msg"].startswith("environment lacks platform, torch, installers")


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_wheel_that_is_proven_not_to_fit_is_refused_before_anything_changes(
    check_mode, venv, deliver, run_module, tmp_path
):
    wheel = deliver(label=LABEL)
    facts = {wheel["sha256"]: no_facts(filename=wheel["filename"], version=1)}
    arguments = {"python": str(venv), "wheels": [wheel], "folder": str(tmp_path / "delivered")}
    unclear = run_module(torch_extension, check_mode=True, **arguments, facts=facts)
    assert [proof["verdict"] for proof in unclear["proofs"]] == ["cannot be told"]
    before = tree_state(venv)
    library = {"path": "x.so", "machine": "s390x", "needed": [], "runpath": [], "versions": {}, "undefined": []}
    misfit = no_facts(filename=wheel["filename"], libraries=[library])
    refused = run_module(torch_extension, check_mode=check_mode, **arguments, facts={wheel["sha256"]: misfit})
    assert refused["failed"]
    assert "does not fit" in refused["msg"]
    assert "it is for s390x" in refused["msg"]
    assert "Nothing was copied to this node or changed on it. Knobs: torch_extension_packages" in refused["msg"]
    assert [proof["verdict"] for proof in refused["proofs"]] == ["does not fit"]
    assert tree_state(venv) == before
    assert run_module(torch_extension, **arguments, facts={wheel["sha256"]: misfit}, verify="none")["proofs"] == []


def test_a_wheel_with_conflicts_is_refused(venv, deliver, run_module, tmp_path):
    wheel = {**deliver(), "conflicts": ["the wheel is built for CUDA 12, torch for CUDA 13.0"]}
    before = tree_state(venv)
    result = run_module(torch_extension, python=str(venv), wheels=[wheel], folder=str(tmp_path / "delivered"))
    assert result["failed"]
    assert "cannot serve this node: the wheel is built for CUDA 12, torch for CUDA 13.0" in result["msg"]
    assert tree_state(venv) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "folder does not say where on the node it is"),
        ({"folder": "/none"}, "cannot be read: No such file or directory"),
        ({"python": "/none", "folder": "/none"}, "No interpreter at /none"),
    ],
    ids=["no folder", "nothing delivered", "no environment"],
)
def test_what_cannot_be_done_is_a_failure_that_says_why(arguments, words, venv, deliver, run_module):
    result = run_module(torch_extension, **{"python": str(venv), "wheels": [deliver()], **arguments})
    assert result["failed"]
    assert words in result["msg"]


def test_a_wheel_that_does_not_load_is_installed_only_where_verification_is_off(venv, deliver, run_module, tmp_path):
    wheel = deliver(files={"flash_attn/__init__.py": "import nothing_of_this_name\n"})
    arguments = {"python": str(venv), "wheels": [wheel], "folder": str(tmp_path / "delivered")}
    assert "No module named 'nothing_of_this_name'" in run_module(torch_extension, **arguments)["msg"]
    assert run_module(torch_extension, **arguments, verify="none")["changed"]


def test_wheels_are_kept_for_pip_and_the_packages_left_alone(venv, deliver, run_module, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_CONFIG_FILE")
    einops = requirement(deliver(name="einops", version="0.8.1"))
    wheel = deliver(label=LABEL)
    arguments = {"python": str(venv), "wheels": [wheel], "requirements": [einops], "mode": "find_links"}
    folder = str(venv / "share/airgap.torch_extensions/wheels")
    before = tree_state(venv)
    foretold = run_module(torch_extension, check_mode=True, **arguments)
    assert tree_state(venv) == before
    done = run_module(torch_extension, **arguments, folder=str(tmp_path / "delivered"))
    assert {**done, "invocation": 0} == {**foretold, "invocation": 0}
    assert (done["changed"], done["requirements"], done["find_links"]) == (True, [einops["filename"]], folder)
    assert done["diff"][0]["after"] == f"flash-attn: {wheel['filename']}\neinops: {einops['filename']}\n"
    assert done["diff"][1]["after_header"] == str(venv / "pip.conf")
    assert done["diff"][1]["after"] == (venv / "pip.conf").read_text()
    assert folder in done["diff"][1]["after"]
    packages = str(venv / "lib")
    assert {path: state for path, state in tree_state(venv).items() if path.startswith(packages)} == {
        path: state for path, state in before.items() if path.startswith(packages)
    }
    again = run_module(torch_extension, **arguments)
    assert (again["changed"], again["wheels"][0]["action"], again["find_links"]) == (False, "keep", folder)
    assert again["diff"] == {"before": "", "after": ""}


def test_pips_cache_is_filled_and_the_environment_left_alone(venv, deliver, run_module, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    wheel = deliver(label=LABEL)
    sdist_url = "https://mirror.example/flash_attn-2.8.3.tar.gz"
    path = wheel_path(sdist_url, wheel["filename"], describe_environment(str(venv), [], run, os.environ)[0])
    wheel.update(sdist_url=sdist_url, pip_cache_path=path)
    before = tree_state(venv)
    arguments = {"python": str(venv), "wheels": [wheel], "folder": str(tmp_path / "delivered"), "mode": "pip_cache"}
    assert run_module(torch_extension, check_mode=True, **arguments)["changed"]
    assert not os.path.exists(path)
    assert [run_module(torch_extension, **arguments)["changed"] for _run in range(2)] == [True, False]
    assert os.path.exists(path)
    assert tree_state(venv) == before


@pytest.mark.parametrize("fails", [False, True], ids=["installed", "refused"])
def test_delivered_files_are_removed_if_they_are_not_to_be_kept(fails, venv, deliver, run_module, tmp_path):
    folder = tmp_path / "delivered"
    files = {"flash_attn/__init__.py": "raise ImportError('no')\n"} if fails else {"flash_attn/__init__.py": "V = 1\n"}
    arguments = {"python": str(venv), "wheels": [deliver(label=LABEL, files=files)], "folder": str(folder)}
    arguments["requirements"] = [requirement(deliver(name="einops", version="0.8.1"))]
    run_module(torch_extension, check_mode=True, **arguments, keep_files=False)
    assert len(list(folder.iterdir())) == 2
    result = run_module(torch_extension, **arguments, keep_files=False)
    assert result.get("failed", False) == fails
    assert not folder.exists()


def test_files_of_others_are_not_removed(venv, deliver, run_module, tmp_path):
    wheel = deliver(label=LABEL)
    (tmp_path / "delivered" / "other").touch()
    folder = str(tmp_path / "delivered")
    run_module(torch_extension, python=str(venv), wheels=[wheel], folder=folder, keep_files=False)
    assert os.listdir(folder) == ["other"]


def test_gpus_are_asked_for_where_there_are_none(venv, deliver, run_module, tmp_path):
    before = tree_state(venv)
    arguments = {"python": str(venv), "wheels": [deliver()], "folder": str(tmp_path / "delivered"), "verify": "gpu"}
    for check_mode in (True, False):
        result = run_module(torch_extension, check_mode=check_mode, **arguments)
        assert "verify is gpu, and nvidia-smi names no GPU on this node. Nothing was changed." in result["msg"]
    assert tree_state(venv) == before


@pytest.mark.parametrize(
    ("verify", "there", "way"),
    [("auto", [{}], "gpu"), ("auto", [], "import"), ("import", [{}], "import"), ("none", [{}], "none")],
)
def test_it_is_told_how_it_was_tried_out(verify, there, way, gpus, venv, deliver, run_module, tmp_path, monkeypatch):
    gpus += there
    good = {"device": "cuda:0", "name": "NVIDIA H200", "compute_capability": "9.0", "seconds": 0.5, "max_error": 0.001}
    monkeypatch.setattr(trial, "check_on_gpus", lambda *args: [{**good, "failure": None}])
    arguments = {"python": str(venv), "wheels": [deliver()], "folder": str(tmp_path / "delivered"), "verify": verify}
    foretold = run_module(torch_extension, check_mode=True, **arguments)["wheels"][0]
    assert (foretold["verify"], foretold["gpus"]) == (way, [])
    done = run_module(torch_extension, **arguments)["wheels"][0]
    assert (done["verify"], done["gpus"]) == (way, [{**good, "failure": None}] if way == "gpu" else [])


def test_what_fails_on_one_gpu_is_not_installed(gpus, venv, deliver, run_module, tmp_path, monkeypatch):
    gpus.append({})
    found = [
        {"device": f"cuda:{number}", "name": "Tesla V100", "compute_capability": "7.0", "failure": failure}
        for number, failure in enumerate(
            [None, "RuntimeError: CUDA error: no kernel image is available for execution on the device"]
        )
    ]
    monkeypatch.setattr(trial, "check_on_gpus", lambda *args: found)
    before = tree_state(venv)
    result = run_module(torch_extension, python=str(venv), wheels=[deliver()], folder=str(tmp_path / "delivered"))
    assert (
        "does not work on cuda:1 (Tesla V100, compute capability 7.0): RuntimeError: CUDA error: no kernel"
        in result["msg"]
    )
    assert "(it has no code for this GPU: take another version" in result["msg"]
    assert "Nothing was changed. Choose another version in torch_extension_packages" in result["msg"]
    assert tree_state(venv) == before


def test_a_package_without_a_check_is_imported(gpus, venv, deliver, run_module, tmp_path):
    gpus.append({})
    wheel = {**deliver(name="einops"), "name": "einops", "imports": ["einops"]}
    result = run_module(torch_extension, python=str(venv), wheels=[wheel], folder=str(tmp_path / "delivered"))
    assert (result["wheels"][0]["verify"], result["wheels"][0]["gpus"]) == ("import", [])


def test_leftovers_are_cleared_away_though_nothing_else_has_to_be_done(venv, deliver, run_module, packages):
    (packages / "~lash_attn").mkdir()
    (packages / ".torch_extension-x" / "new").mkdir(parents=True)
    left = [".torch_extension-x", "~lash_attn"]
    foretold = run_module(torch_extension, check_mode=True, python=str(venv), wheels=[])
    assert (foretold["changed"], foretold["leftovers"]) == (True, left)
    assert (packages / "~lash_attn").exists()
    done = run_module(torch_extension, python=str(venv), wheels=[])
    assert (done["changed"], done["leftovers"]) == (True, left)
    assert done["diff"]["before"] == "left by a killed run: .torch_extension-x\nleft by a killed run: ~lash_attn\n"
    assert not (packages / "~lash_attn").exists()
    again = run_module(torch_extension, python=str(venv), wheels=[])
    assert (again["changed"], again["leftovers"]) == (False, [])


@pytest.mark.parametrize("keeps", [False, True])
def test_what_lost_runs_have_brought_is_cleared_away_though_nothing_else_has_to_be_done(
    keeps, venv, deliver, run_module, tmp_path
):
    folder, part = tmp_path / "delivered", staging.part_name("flash_attn-1-py3-none-any.whl", "0" * 64)
    whole, mine = deliver()["filename"], deliver(version="1")["filename"]
    (folder / part).touch()
    arguments = {"python": str(venv), "wheels": [], "folder": str(folder), "keep_files": keeps, "staged": [part, whole]}
    left = [part] if keeps else [part, whole]
    foretold = run_module(torch_extension, check_mode=True, **arguments)
    assert (foretold["changed"], foretold["cleared"]) == (True, left)
    assert (folder / part).exists()
    done = run_module(torch_extension, **arguments)
    assert (done["changed"], done["cleared"]) == (True, left)
    assert sorted(path.name for path in folder.iterdir()) == sorted([mine, whole] if keeps else [mine])
    again = run_module(torch_extension, **arguments)
    assert (again["changed"], again["cleared"]) == (False, [])


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_part_of_what_comes_is_no_remains(check_mode, venv, deliver, run_module, tmp_path):
    """But where the wheel came another way, it is removed, too."""
    wheel, folder = deliver(), tmp_path / "delivered"
    part = folder / staging.part_name(wheel["filename"], wheel["sha256"])
    part.touch()
    arguments = {
        "wheels": [wheel],
        "folder": str(folder),
        "keep_files": False,
        "staged": [part.name, wheel["filename"]],
    }
    done = run_module(torch_extension, check_mode=check_mode, python=str(venv), **arguments)
    assert done["cleared"] == ([] if check_mode else [part.name])
    assert part.exists() == folder.exists() == check_mode


def test_what_others_read_too_is_not_removed_and_the_own_folder_is_cleared(venv, deliver, run_module, tmp_path):
    wheel, folder = deliver(label=LABEL), tmp_path / "own"
    einops = requirement(deliver(name="einops", version="0.8.1"))
    part = staging.part_name(wheel["filename"], wheel["sha256"])
    (tmp_path / "delivered" / part).touch()
    folder.mkdir()
    for name in (part, einops["filename"]):
        (folder / name).touch()
    shared = tree_state(tmp_path / "delivered")
    arguments = {
        "python": str(venv),
        "wheels": [wheel],
        "requirements": [einops],
        "folder": str(folder),
        "shared_folder": str(tmp_path / "delivered"),
        "keep_files": False,
        "staged": [part, einops["filename"]],
    }
    foretold = run_module(torch_extension, check_mode=True, **arguments)
    assert (foretold["changed"], folder.exists()) == (True, True)
    done = run_module(torch_extension, **arguments)
    assert (done["changed"], done["requirements"]) == (True, [einops["filename"]])
    assert done["cleared"] == [part]
    assert not folder.exists()
    assert tree_state(tmp_path / "delivered") == shared
    assert not run_module(torch_extension, **arguments)["changed"]


@pytest.mark.parametrize("mode", ["install", "find_links", "pip_cache"])
def test_wheels_come_from_subfolders_of_where_others_read_them_too(
    mode, venv, deliver, run_module, run, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    wheel = {**deliver(label=LABEL), "sdist_url": "https://mirror.example/flash_attn-2.8.3.tar.gz"}
    node = describe_environment(str(venv), [], run, os.environ)[0]
    wheel["pip_cache_path"] = wheel_path(wheel["sdist_url"], wheel["filename"], node)
    einops = requirement(deliver(name="einops", version="0.8.1"))
    for file in (wheel, einops):
        file["subfolder"] = file["sha256"][:16]
        (tmp_path / "delivered" / file["subfolder"]).mkdir()
        path = tmp_path / "delivered" / file["filename"]
        path.rename(path.parent / file["subfolder"] / path.name)
        build_wheel(tmp_path / "delivered", name=file["name"], version="0", label="namesake").rename(path)
    shared = tree_state(tmp_path / "delivered")
    folders = {"folder": str(tmp_path / "own"), "shared_folder": str(tmp_path / "delivered"), "keep_files": False}
    requirements = [] if mode == "pip_cache" else [einops]
    done = run_module(
        torch_extension, python=str(venv), wheels=[wheel], requirements=requirements, mode=mode, **folders
    )
    assert done.get("changed"), done
    assert tree_state(tmp_path / "delivered") == shared


def test_after_a_failure_what_others_read_too_is_still_there(venv, deliver, run_module, tmp_path):
    wheel = deliver(label=LABEL, files={"flash_attn/__init__.py": "raise ImportError('no')\n"})
    shared = tree_state(tmp_path / "delivered")
    folders = {"folder": str(tmp_path / "own"), "shared_folder": str(tmp_path / "delivered"), "keep_files": False}
    assert run_module(torch_extension, python=str(venv), wheels=[wheel], **folders)["failed"]
    assert tree_state(tmp_path / "delivered") == shared


def test_packages_are_removed_once_and_check_mode_foretells_it(venv, deliver, run_module, tmp_path):
    before = tree_state(venv)
    einops = requirement(deliver(name="einops", version="0.8.1"))
    wheel = deliver(label=LABEL, requires=["einops"])
    folder = str(tmp_path / "delivered")
    run_module(torch_extension, python=str(venv), wheels=[wheel], requirements=[einops], folder=folder)
    arguments = {"python": str(venv), "state": "absent", "packages": ["Flash_Attn"]}
    installed = tree_state(venv)
    foretold = run_module(torch_extension, check_mode=True, **arguments)
    assert foretold["environment"]["distributions"]["flash-attn"] == "2.8.3"
    assert tree_state(venv) == installed
    done = run_module(torch_extension, **arguments)
    assert {**done, "invocation": 0} == {
        **{key: value for key, value in foretold.items() if key != "environment"}, "invocation": 0
    }  # fmt: skip
    assert (done["changed"], done["requirements"], done["stays"]) == (True, ["einops 0.8.1"], [])
    assert done["diff"] == {"before": "flash-attn 2.8.3\neinops 0.8.1\n", "after": ""}
    assert tree_state(venv) == before
    again = run_module(torch_extension, **arguments)
    assert (again["changed"], again["packages"][0]["action"], again["diff"]["before"]) == (False, "keep", "")


@pytest.mark.parametrize("mode", ["find_links", "pip_cache"])
def test_what_was_put_in_place_is_removed_in_the_same_mode(mode, venv, deliver, run_module, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PIP_CONFIG_FILE")
    before = tree_state(venv)
    wheel = {**deliver(label=LABEL), "sdist_url": "https://mirror.example/flash_attn-2.8.3.tar.gz"}
    node = describe_environment(str(venv), [], run, os.environ)[0]
    wheel["pip_cache_path"] = wheel_path(wheel["sdist_url"], wheel["filename"], node)
    common = {"python": str(venv), "mode": mode}
    run_module(torch_extension, **common, wheels=[wheel], folder=str(tmp_path / "delivered"))
    foretold = run_module(torch_extension, check_mode=True, **common, state="absent", packages=["flash-attn"])
    done = run_module(torch_extension, **common, state="absent", packages=["flash-attn"])
    assert (foretold["changed"], done["changed"], done["packages"]) == (True, True, foretold["packages"])
    assert (str(venv / "pip.conf") in str(done["diff"])) == (mode == "find_links")
    assert tree_state(venv) == before
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not run_module(torch_extension, **common, state="absent", packages=["flash-attn"])["changed"]


def test_a_torch_that_is_broken_keeps_nothing_from_being_removed(
    venv, deliver, run_module, packages, tmp_path, monkeypatch
):
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, warning: warnings.append(warning))
    run_module(torch_extension, python=str(venv), wheels=[deliver()], folder=str(tmp_path / "delivered"))
    (packages / "torch").mkdir()
    done = run_module(torch_extension, python=str(venv), state="absent", packages=["flash-attn"])
    assert (done.get("failed", False), done["changed"]) == (False, True), done
    assert "torch is broken" in warnings[0]


def test_what_a_removal_that_was_killed_has_left_is_cleared_away_and_told(venv, packages, run_module):
    (packages / "~lash_attn").mkdir()
    arguments = {"python": str(venv), "state": "absent", "packages": ["flash-attn"]}
    for check_mode in (True, False):
        result = run_module(torch_extension, check_mode=check_mode, **arguments)
        assert (result["changed"], result["leftovers"]) == (True, ["~lash_attn"])
        assert result["diff"]["before"] == "left by a killed run: ~lash_attn\n"
    assert not run_module(torch_extension, **arguments)["changed"]


@pytest.mark.parametrize("keeps", [False, True])
def test_a_removal_clears_what_lost_runs_have_brought(keeps, venv, deliver, run_module, tmp_path):
    folder, part = tmp_path / "delivered", staging.part_name("flash_attn-1-py3-none-any.whl", "0" * 64)
    whole, other = deliver()["filename"], deliver(name="causal-conv1d")["filename"]
    (folder / part).touch()
    arguments = {"python": str(venv), "state": "absent", "packages": ["flash-attn"], "folder": str(folder)}
    foretold = run_module(torch_extension, check_mode=True, **arguments, keep_files=keeps)
    assert (foretold["changed"], foretold["cleared"]) == (True, [part] if keeps else [part, whole])
    assert run_module(torch_extension, **arguments, keep_files=keeps)["cleared"] == foretold["cleared"]
    assert sorted(os.listdir(folder)) == sorted([other, whole] if keeps else [other])
    assert not run_module(torch_extension, **arguments, keep_files=keeps)["changed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"state": "absent"}, "missing: packages"),
        ({"state": "present"}, "missing: wheels"),
        (
            {"state": "absent", "packages": ["torch", "flash-attn"]},
            "torch is none of the packages that this collection",
        ),
    ],
    ids=["nothing named", "no wheels", "a stranger"],
)
def test_what_a_state_needs_is_told(arguments, words, venv, run_module):
    before = tree_state(venv)
    result = run_module(torch_extension, python=str(venv), **arguments)
    assert result["failed"]
    assert words in result["msg"]
    assert tree_state(venv) == before


@pytest.mark.parametrize("damage", [lambda body: b"", lambda body: bytes(len(body)), None])
def test_a_delivered_file_that_is_not_what_was_brought_is_thrown_away_and_named(
    damage, venv, deliver, run_module, tmp_path
):
    wheel, einops = deliver(), requirement(deliver(name="einops", version="0.8.1"))
    path = tmp_path / "delivered" / wheel["filename"]
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    before = tree_state(venv)
    arguments = {"python": str(venv), "wheels": [wheel], "requirements": [einops], "folder": str(path.parent)}
    result = run_module(torch_extension, **arguments)
    assert (result["failed"], result["damaged"]) == (True, [wheel["filename"]])
    assert os.listdir(path.parent) == [einops["filename"]]
    assert tree_state(venv) == before


def test_what_fails_for_another_reason_has_no_damaged_files(venv, deliver, run_module, tmp_path):
    wheel = deliver(files={"flash_attn/__init__.py": "raise ImportError('no')"})
    arguments = {"python": str(venv), "wheels": [wheel], "folder": str(tmp_path / "delivered")}
    for keeps in (True, False):
        result = run_module(torch_extension, keep_files=keeps, **arguments)
        assert (result["failed"], result["damaged"]) == (True, [])


@pytest.mark.parametrize("mode", ["find_links", "pip_cache"])
def test_leftovers_of_other_modes_are_cleared_away_though_nothing_else_has_to_be_done(
    mode, venv, run_module, run, monkeypatch, tmp_path
):
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    folder = venv if mode == "find_links" else tmp_path / "cache" / "wheels" / "0a" / "1b" / "2c" / "3d"
    folder.mkdir(parents=True, exist_ok=True)
    left = folder / ".torch_extension-x"
    left.touch()
    arguments = {"python": str(venv), "wheels": [], "mode": mode}
    foretold = run_module(torch_extension, check_mode=True, **arguments)
    assert (foretold["changed"], foretold["leftovers"], left.exists()) == (True, [str(left)], True)
    done = run_module(torch_extension, **arguments)
    assert (done["changed"], done["leftovers"], left.exists()) == (True, [str(left)], False)
    again = run_module(torch_extension, **arguments)
    assert (again["changed"], again["leftovers"]) == (False, [])


def test_of_two_installations_at_once_the_second_finds_what_the_first_has_done(venv, deliver, tmp_path, run):
    """Each of them removes what was delivered, as the role has it."""
    wheel = deliver(files={"flash_attn/__init__.py": "import time; time.sleep(3)"})
    params = {
        "python": str(venv),
        "trusted_owners": [],
        "wheels": [wheel],
        "requirements": [],
        "facts": {},
        "environment": None,
        "mode": "install",
        "folder": str(tmp_path / "delivered"),
        "shared_folder": None,
        "keep_files": False,
        "staged": [],
        "reinstall": False,
        "verify": "import",
        "devices": [],
    }
    outcomes = []

    def install():
        task = Task(params, False, run, print)
        outcomes.append(task.perform()["wheels"][0]["action"])

    threads = [threading.Thread(target=install) for _number in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(1)
    for thread in threads:
        thread.join()
    assert outcomes == ["install", "keep"]

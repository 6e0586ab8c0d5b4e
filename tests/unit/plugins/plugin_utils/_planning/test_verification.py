# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.verification import (
    judge_packages,
    report_packages,
)

WHEEL = "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"


def described(reasons=(), remedy=None, **more):
    """A package as the node describes it."""
    package = {"name": "flash-attn", "version": "2.8.3", "filename": WHEEL, "verify": "import", "gpus": []}
    return {**package, "ok": not reasons, "reasons": list(reasons), "remedy": remedy, **more}


def gpu(number, seconds, name="NVIDIA H200"):
    device = {"device": f"cuda:{number}", "name": name, "compute_capability": "9.0"}
    return {**device, "seconds": seconds, "max_error": seconds / 100, "failure": None}


def judge(environment, *packages, wanted=(), match="exact"):
    return judge_packages(packages, wanted, environment, match)


def report(environment, *packages, **how):
    return report_packages(judge(environment, *packages, **how), environment)


@pytest.mark.parametrize(
    ("filename", "torch", "reasons"),
    [
        (WHEEL, {}, []),
        (WHEEL, {"version": "2.3.0+cu121"}, ["torch 2.2, this node has torch 2.3.0+cu121"]),
        (WHEEL, {"cuda": "13.0"}, ["CUDA 12, this node has CUDA 13.0"]),
        (WHEEL, {"cxx11_abi": True}, ["a torch with C++11 ABI FALSE, this node has TRUE"]),
        (WHEEL.replace("cp311", "cp310"), {}, ["Python cp310, this node has cp311"]),
        ("flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl", {}, []),
        (None, {}, []),
    ],
    ids=["fits", "torch", "CUDA", "ABI", "Python", "built on the node", "not recorded"],
)
def test_a_wheel_for_another_torch_is_known_by_its_name(filename, torch, reasons, environment):
    environment["torch"].update(torch)
    (package,) = judge(environment, described(filename=filename))
    assert package["reasons"] == [f"the wheel it was installed from is for {reason}" for reason in reasons]
    assert package["ok"] == (not reasons)


def test_a_wheel_for_another_torch_may_serve_where_the_import_is_the_proof(environment):
    environment["torch"].update(version="2.3.0+cu121", cuda="13.0")
    (package,) = judge(environment, described(), match="proven")
    assert package["reasons"] == ["the wheel it was installed from is for CUDA 12, this node has CUDA 13.0"]


def test_the_cause_comes_before_what_the_node_has_found_and_its_remedy_counts(environment):
    environment["torch"]["cuda"] = "13.0"
    (package,) = judge(environment, described(["it cannot be imported: no libcudart.so.12"], "reinstall it"))
    assert [reason.partition(":")[0] for reason in package["reasons"]] == [
        "the wheel it was installed from is for CUDA 12, this node has CUDA 13.0",
        "it cannot be imported",
    ]
    assert "takes a wheel for what the node has now" in package["remedy"]


def test_without_torch_nothing_works(environment):
    environment["torch"] = None
    assert report(environment, described()) == [
        "BROKEN",
        "flash-attn 2.8.3: it needs torch, and the environment has none",
        "to repair it: install torch, or name another environment in torch_extension_python",
    ]


@pytest.mark.parametrize("wanted", [["flash-attn"], ["flash_attn>=2.7", "flash-attn<2.9"], ["flash-attn == 2.8.3"]])
@pytest.mark.parametrize("version", ["2.8.3", "2.8.3+cu12torch2.2"])
def test_what_meets_the_requirements_is_well(version, wanted, environment):
    assert report(environment, described(version=version), wanted=wanted)[0] == "ok"


@pytest.mark.parametrize(
    ("wanted", "version", "reason"),
    [
        (["flash-attn==2.8.3"], "2.7.3", "wanted is flash-attn==2.8.3"),
        (["flash-attn==2.8.3"], "2.8.3.post1", "wanted is flash-attn==2.8.3"),
        (["flash-attn>=2", "flash-attn<2.8"], "2.8.3", "wanted is flash-attn<2.8"),
        (["flash-attn<2.8", "flash-attn>=2"], "2.8.3", "wanted is flash-attn<2.8"),
        (["flash-attn<2.8"], "unknown", "wanted is flash-attn<2.8"),
        (
            ["flash-attn==2.8.3+cu12torch2.3"],
            "2.8.3",
            "the wheel it was installed from bears the label +cu12torch2.2cxx11abifalse, and +cu12torch2.3 is asked for",
        ),
    ],
)
def test_what_does_not_meet_a_requirement_is_broken_and_the_role_replaces_it(wanted, version, reason, environment):
    assert report(environment, described(version=version), wanted=wanted) == [
        "BROKEN",
        f"flash-attn {version}: {reason}",
        "to repair it: run the role (playbook install_flash_attn) with these torch_extension_packages, which installs what is"
        " wanted",
    ]


def test_a_wanted_package_that_is_not_installed_is_broken(environment):
    flash_attn, xformers = judge(environment, described(), wanted=["xformers", "flash-attn"])
    assert (flash_attn["ok"], xformers["ok"], xformers["version"]) == (True, False, None)
    lines = report(environment, wanted=["flash-attn"])
    assert lines[:2] == ["BROKEN", "flash-attn: it is not installed"]
    assert lines[-1].startswith("to repair it: run the role (playbook install_flash_attn)")


def test_a_wanted_package_that_has_no_torch_either_lacks_that_first(environment):
    environment["torch"] = None
    assert report(environment, wanted=["flash-attn"])[1:] == [
        "flash-attn: it needs torch, and the environment has none",
        "flash-attn: it is not installed",
        "to repair it: install torch, or name another environment in torch_extension_python",
    ]


def test_a_requirement_of_an_unknown_package_is_refused(environment):
    with pytest.raises(TorchExtensionError, match="flash-atn"):
        judge(environment, wanted=["flash-atn"])


def test_a_node_without_extensions_has_nothing_installed_and_says_whether_torch_is(environment):
    assert report(environment) == ["nothing installed", "torch 2.2.0+cu121, and no extension"]
    environment["torch"] = None
    assert report(environment) == ["nothing installed", "no torch, and no extension"]


def test_nodes_that_differ_in_what_is_measured_have_the_same_report(environment):
    gpus = [gpu(0, 0.8), gpu(1, 0.9), gpu(2, 0.7, "NVIDIA L40S")]
    others = [{**each, "seconds": 1.5, "max_error": 0.01} for each in gpus]
    lines = report(environment, described(verify="gpu", gpus=gpus))
    assert lines == report(environment, described(verify="gpu", gpus=others))
    assert lines == [
        "ok",
        "flash-attn 2.8.3: ok (files, wheel, import, forward and backward on cuda:0, cuda:1 (NVIDIA H200), cuda:2 (NVIDIA L40S))",
    ]


def test_what_repairs_several_packages_is_said_once(environment):
    broken = [described(["it is not as installed"], "run it again", name=name) for name in ("flash-attn", "xformers")]
    assert report(environment, *broken)[3:] == ["to repair it: run it again"]

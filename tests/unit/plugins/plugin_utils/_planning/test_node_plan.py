# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.staging import part_name
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import node_plan

FLASH, CONV = "flash-attn==2.8.3", "causal-conv1d==1.5.0"


def wheel(name="flash-attn", action="install", **more):
    return {
        "name": name,
        "version": "2.8.3",
        "filename": f"{name}.whl",
        "action": action,
        "reason": "so it is",
        "conflicts": [],
        "requirements": [{"name": "einops"}],
        "refused": ["x"],
        "newer": ["x"],
        "warnings": ["x"],
        **more,
    }


def test_the_probe_covers_all_distributions_and_names_the_requested_ones():
    options = node_plan.probe_options(["Flash_Attn==2.8.3", "causal-conv1d>=1.5"], "install", None)
    assert options == (["*", "flash-attn", "causal-conv1d"], [])


def test_the_probe_leaves_out_terms_that_are_no_requirement_of_a_known_package():
    assert node_plan.probe_options(["numpy", "flash attn", FLASH], "pip_cache", None) == (["*", "flash-attn"], [FLASH])


@pytest.mark.parametrize(
    ("mode", "sdist_url", "sdists"),
    [
        ("install", None, []),
        ("find_links", None, []),
        ("pip_cache", None, [FLASH, CONV]),
        ("pip_cache", "", [FLASH, CONV]),
        ("pip_cache", {}, [FLASH, CONV]),
        ("pip_cache", {"Flash_Attn": "https://m.example/a.tar.gz"}, [CONV]),
        ("pip_cache", "https://m.example/a.tar.gz", []),
    ],
)
def test_the_probe_covers_sdists_only_for_pips_cache_and_without_an_sdist_url(mode, sdist_url, sdists):
    assert node_plan.probe_options([FLASH, CONV, "flash-attn>=2.7"], mode, sdist_url).sdists == sdists


def test_wheels_to_examine_are_those_whose_state_only_the_node_knows():
    plan = [wheel(), wheel("causal-conv1d", "examine"), wheel("mamba-ssm", "keep")]
    assert node_plan.wheels_to_examine(plan, "install") == [
        {
            "name": "causal-conv1d",
            "version": "2.8.3",
            "filename": "causal-conv1d.whl",
            "conflicts": [],
        }
    ]
    for mode in ("pip_cache", "find_links"):
        assert [each["name"] for each in node_plan.wheels_to_examine(plan, mode)] == [each["name"] for each in plan]


def test_actions_of_the_examination_replace_those_of_the_plan():
    plan = [wheel(), wheel("causal-conv1d", "examine")]
    examined = [{"filename": "causal-conv1d.whl", "action": "keep", "reason": "it can be imported", "verify": "import"}]
    assert node_plan.apply_examination(plan, examined) == [
        plan[0],
        {**plan[1], "action": "keep", "reason": "it can be imported"},
    ]
    assert plan[1]["action"] == "examine"


def test_a_plan_without_conflicts_is_not_refused():
    assert node_plan.explain_refusal([wheel()], "/opt/venv") is None


def test_a_refusal_names_each_wheel_with_its_conflicts():
    plan = [
        wheel(conflicts=["its place is taken. Free it.", "pip has no cache."]),
        wheel("causal-conv1d"),
        wheel("nonsense", version=None, conflicts=["nonsense is no package. See torch_extension_packages."]),
    ]
    assert node_plan.explain_refusal(plan, "/opt/venv") == (
        "flash-attn 2.8.3 cannot be installed in /opt/venv: its place is taken. Free it; pip has no cache.\n"
        "nonsense is no package. See torch_extension_packages.\n"
        "Nothing was changed in /opt/venv."
    )


def test_only_a_refused_guess_is_told_to_look_at_what_exists():
    conflicts = ["the wheel is for CUDA 12, torch for CUDA 13"]
    (line, _end) = node_plan.explain_refusal([wheel(conflicts=conflicts, source="guess")], "/opt/venv").splitlines()
    assert "Source release in torch_extension_sources" in line
    (line, _end) = node_plan.explain_refusal([wheel(conflicts=conflicts)], "/opt/venv").splitlines()
    assert "torch_extension" not in line


@pytest.mark.parametrize(("keep_files", "whole"), [(True, []), (False, ["wanted.whl"])])
def test_leftovers_are_all_parts_and_planned_wheels_that_are_not_to_stay(keep_files, whole):
    half = part_name("gone.whl", "0" * 64)
    staged = ["wanted.whl", half, "mine.whl", "notes.txt"]
    assert sorted(node_plan.list_leftovers([{"filename": "wanted.whl"}], staged, keep_files)) == sorted([*whole, half])


def planned(action, **more):
    return {"name": "flash-attn", "version": "2.8.3", "action": action, "conflicts": [], **more}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda node: node["python"].update(externally_managed=True), "EXTERNALLY-MANAGED"),
        (lambda node: node["python"]["access"].update(writable=False, is_owner=False, owner="svc"), "become_user: svc"),
        (lambda node: node["python"]["access"].update(read_only=True), "mounted read-only"),
        (lambda node: node["installers"].update(pip=None), "no pip, and this node has no uv"),
    ],
    ids=["PEP 668", "somebody else's", "read-only", "no installer"],
)
def test_what_stands_in_the_way_of_an_installation_is_refused_in_the_plan(change, words, environment):
    change(environment)
    for action in ("install", "replace"):
        (wheel,) = node_plan.refuse_obstacles([planned(action)], environment, "install")
        assert words in " ".join(wheel["conflicts"])
    for action, mode in (("keep", "install"), ("examine", "install"), ("install", "find_links")):
        assert node_plan.refuse_obstacles([planned(action)], environment, mode) == [planned(action)]


def test_an_environment_of_an_earlier_release_has_no_known_obstacles(environment):
    del environment["python"]["access"], environment["shadows"]
    assert node_plan.refuse_obstacles([planned("install")], environment, "install") == [planned("install")]


@pytest.mark.parametrize("action", ["install", "replace", "keep"])
def test_a_copy_that_comes_first_is_refused_with_both_paths(action, environment):
    file = "/home/trainer/.local/lib/python3.11/site-packages/flash_attn/__init__.py"
    environment["shadows"] = {
        "flash-attn": {"module": "flash_attn", "file": file, "version": "2.7.3", "place": "one user's own packages"}
    }
    environment["distributions"]["flash-attn"] = "2.8.3"
    (wheel,) = node_plan.refuse_obstacles([planned(action)], environment, "install")
    (conflict,) = wheel["conflicts"]
    assert conflict.startswith(
        f"flash-attn 2.7.3 in {file} (one user's own packages) comes before /opt/venv/lib/python3.11/site-"
    )


def test_a_copy_that_comes_first_and_is_the_wanted_version_may_stay(environment):
    environment["shadows"] = {
        "flash-attn": {
            "module": "flash_attn",
            "file": "/a/flash_attn/__init__.py",
            "version": "2.8.3",
            "place": "on PYTHONPATH",
        }
    }
    environment["distributions"]["flash-attn"] = "2.8.3"
    assert node_plan.refuse_obstacles([planned("keep")], environment, "install") == [planned("keep")]

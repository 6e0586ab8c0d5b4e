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


def test_a_node_is_asked_for_all_distributions_and_by_name_for_what_is_wanted():
    asked = node_plan.probe_options(["Flash_Attn==2.8.3", "causal-conv1d>=1.5"], "install", None)
    assert asked == (["*", "flash-attn", "causal-conv1d"], [])


def test_what_is_no_requirement_of_a_known_package_is_not_asked_for():
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
def test_a_nodes_pip_is_asked_for_sdists_only_where_they_count_and_nobody_has_told(mode, sdist_url, sdists):
    assert node_plan.probe_options([FLASH, CONV, "flash-attn>=2.7"], mode, sdist_url).sdists == sdists


def test_a_node_looks_closer_where_its_environment_does_not_tell_and_hears_no_more_than_it_needs():
    plan = [wheel(), wheel("causal-conv1d", "examine"), wheel("mamba-ssm", "keep")]
    assert node_plan.wheels_to_examine(plan, "install") == [
        {
            "name": "causal-conv1d",
            "version": "2.8.3",
            "filename": "causal-conv1d.whl",
            "action": "examine",
            "reason": "so it is",
            "conflicts": [],
            "requirements": None,
        }
    ]
    for mode in ("pip_cache", "find_links"):
        assert [each["name"] for each in node_plan.wheels_to_examine(plan, mode)] == [each["name"] for each in plan]


def test_what_a_node_found_out_takes_the_place_of_what_the_plan_said():
    plan = [wheel(), wheel("causal-conv1d", "examine")]
    examined = [{"filename": "causal-conv1d.whl", "action": "keep", "reason": "it can be imported", "verify": "import"}]
    assert node_plan.apply_examination(plan, examined) == [
        plan[0],
        {**plan[1], "action": "keep", "reason": "it can be imported"},
    ]
    assert plan[1]["action"] == "examine"


def test_what_nothing_speaks_against_is_not_refused():
    assert node_plan.explain_refusal([wheel()], "/opt/venv/bin/python") is None


def test_a_refusal_names_each_wheel_with_what_speaks_against_it_and_the_knobs():
    plan = [
        wheel(conflicts=["it is for CUDA 12.", "this torch is for CUDA 13."]),
        wheel("causal-conv1d"),
        wheel("nonsense", version=None, conflicts=["nobody knows it"]),
    ]
    assert node_plan.explain_refusal(plan, "/opt/venv/bin/python") == (
        "flash-attn 2.8.3 cannot be put into /opt/venv/bin/python: it is for CUDA 12.; this torch is for CUDA 13.\n"
        "nonsense cannot be put into /opt/venv/bin/python: nobody knows it.\n"
        "Nothing was changed on this node. Knobs: torch_extension_packages (another version), torch_extension_python"
        " (another environment)."
    )


def test_a_refusal_that_names_knobs_names_no_others():
    said = node_plan.explain_refusal([wheel(conflicts=["Set torch_extension_sources."])], "/opt/venv/bin/python")
    assert said.splitlines()[-1] == "Nothing was changed on this node."


@pytest.mark.parametrize(("keep_files", "whole"), [(True, []), (False, ["wanted.whl"])])
def test_what_runs_have_left_is_parts_of_anything_and_what_is_planned_if_it_is_not_to_stay(keep_files, whole):
    half = part_name("gone.whl", "0" * 64)
    there = ["wanted.whl", half, "mine.whl", "notes.txt"]
    assert sorted(node_plan.list_leftovers([{"filename": "wanted.whl"}], there, keep_files)) == sorted([*whole, half])

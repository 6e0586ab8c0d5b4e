# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import report_lines

WHEEL = {
    "name": "flash-attn",
    "version": "2.8.3",
    "filename": "flash.whl",
    "url": "https://gh.example/flash.whl",
    "ground": "the only wheel",
}
FOUND = "found: Python 3.11.2 (/opt/venv/bin/python), torch 2.2.0+cu121, CUDA 12.1, C++11 ABI False, x86_64, GPUs: none"


def outcome(action="install", **more):
    return {"filename": "flash.whl", "action": action, "reason": "so it was", **more}


def done(result=None, mode="install", predicts=False, wheels=(WHEEL,), **more):
    return report_lines.report_result(
        wheels, [], {"wheels": [result or outcome()], "requirements": [], "cleared": [], **more}, mode, predicts
    )


def test_a_line_says_what_a_node_is(environment):
    assert report_lines.report_plan(environment, []) == [FOUND]
    environment["gpus"] = [{"name": "NVIDIA H200"}, {"name": "Tesla T4"}]
    assert report_lines.report_plan(environment, [])[0].endswith("GPUs: NVIDIA H200, Tesla T4")


def test_a_node_without_torch_is_reported_too(environment):
    environment["torch"] = None
    assert report_lines.report_plan(environment, [])[0].endswith("torch none, x86_64, GPUs: none")


def test_of_a_plan_only_the_kept_wheels_are_reported(environment):
    plan = [{**WHEEL, "action": "keep", "reason": "from this wheel"}, {**WHEEL, "action": "install", "reason": "no"}]
    assert report_lines.report_plan(environment, plan) == [
        FOUND,
        "flash-attn 2.8.3: kept (found: from this wheel)",
        "from: https://gh.example/flash.whl",
        "why: the only wheel",
    ]


@pytest.mark.parametrize(
    ("action", "mode", "predicts", "what"),
    [
        ("install", "install", False, "installed"),
        ("install", "install", True, "would be installed"),
        ("replace", "install", False, "replaced"),
        ("replace", "install", True, "would be replaced"),
        ("keep", "install", False, "kept"),
        ("keep", "install", True, "kept"),
        ("install", "find_links", False, "put in place"),
        ("install", "pip_cache", True, "would be put in place"),
        ("replace", "pip_cache", False, "replaced"),
    ],
)
def test_a_wheel_is_reported_with_its_action_origin_and_ground(action, mode, predicts, what):
    assert done(outcome(action), mode, predicts) == [
        f"flash-attn 2.8.3: {what} (found: so it was)",
        "from: https://gh.example/flash.whl",
        "why: the only wheel",
    ]


def test_what_is_installed_is_reported_as_from_the_file_that_it_came_from():
    wheel = {name: WHEEL[name] for name in ("name", "version", "filename")}
    assert done(wheels=[wheel])[1:] == [f"from: {WHEEL['filename']}", "why: unknown"]


def test_and_where_that_is_not_recorded_the_report_says_so(environment):
    wheel = {
        "name": "flash-attn",
        "version": "2.8.3",
        "url": None,
        "filename": None,
        "action": "keep",
        "reason": "it works",
    }
    assert report_lines.report_plan(environment, [wheel])[2] == "from: nowhere that is recorded"


@pytest.mark.parametrize(
    ("verify", "line"),
    [
        ("gpu", "tried out: forward and backward on each GPU, against torch's own operators"),
        ("import", "tried out: imported"),
        ("none", "tried out: not at all"),
    ],
)
def test_the_trial_is_reported_with_a_line_for_each_gpu(verify, line):
    gpus = [{"device": "cuda:1", "name": "NVIDIA H200", "seconds": 0.8, "max_error": 0.00741}] * (verify == "gpu")
    gpu_lines = ["on cuda:1 (NVIDIA H200): forward and backward in 0.8 s, largest error 0.0074"] * (verify == "gpu")
    assert done(outcome(verify=verify, gpus=gpus))[3:] == [line, *gpu_lines]


def test_everything_else_is_reported_in_a_line_each():
    proofs = [{"verdict": "fits", "reasons": []}, {"verdict": "cannot be told", "reasons": ["is odd", "is damaged"]}]
    lines = done(
        proofs=proofs,
        requirements=["einops.whl"],
        leftovers=["~lash_attn"],
        cleared=[".flash.part"],
        find_links="/opt/venv/share/w",
    )
    assert lines[3:] == [
        "proof: fits",
        "proof: cannot be told (it is odd; it is damaged)",
        "with: einops.whl",
        "cleared away, for a run that broke off left it: ~lash_attn",
        "cleared away, for a run that broke off left it: .flash.part",
        "pip install finds it in: /opt/venv/share/w",
        "uv pip install finds it with: --no-index --find-links /opt/venv/share/w",
    ]


def test_what_could_not_be_found_out_is_not_reported_as_absent(environment):
    environment["torch"]["cxx11_abi"] = None
    environment["gpus"] = None
    assert report_lines.report_plan(environment, [])[0].endswith("C++11 ABI unknown, x86_64, GPUs: unknown")


@pytest.mark.parametrize(
    ("owner", "words"),
    [("user", "of this user alone: "), ("variable", "on PYTHONPATH: "), ("added", "added to the search path: ")],
)
def test_a_torch_that_is_not_the_environments_own_is_reported_with_its_place(owner, words, environment):
    folder = "/home/trainer/.local/lib/python3.11/site-packages"
    environment["torch"]["path"] = f"{folder}/torch"
    environment["python"]["search_path"].insert(0, {"folder": folder, "owner": owner})
    assert f"torch 2.2.0+cu121 ({words}{folder})" in report_lines.report_plan(environment, [])[0]


def test_check_mode_reports_nothing_as_done():
    wheel = {"name": "flash-attn", "version": "2.8.3", "filename": "f.whl"}
    outcome = {"filename": "f.whl", "action": "install", "reason": "flash-attn is not installed", "verify": "import"}
    result = {"wheels": [outcome], "requirements": ["einops.whl"], "cleared": ["old.part"]}
    lines = report_lines.report_result([wheel], [], result, "install", is_prediction=True)
    assert [line.split(":")[0] for line in lines if line.split(":")[0] not in ("from", "why")] == [
        "flash-attn 2.8.3",
        "would be tried out",
        "would come with",
        "would be cleared away, for a run that broke off left it",
    ]
    assert lines[0].startswith("flash-attn 2.8.3: would be installed")
    assert "would be tried out: import" in lines


@pytest.mark.parametrize(("size", "words"), [(250_300_000, " (250 MB)"), (None, "")])
def test_how_much_is_brought_is_reported_as_far_as_it_is_known(size, words):
    requirements = [{"filename": "einops.whl", "size": 64_200}]
    result = {"wheels": [outcome()], "requirements": ["einops.whl"], "cleared": []}
    lines = report_lines.report_result([{**WHEEL, "size": size}], requirements, result, "install", is_prediction=True)
    assert f"from: https://gh.example/flash.whl{words}" in lines
    assert "would come with: einops.whl (64 kB)" in lines
    result = {**result, "wheels": [outcome("keep")], "requirements": []}
    assert "from: https://gh.example/flash.whl" in report_lines.report_result(
        [{**WHEEL, "size": size}], [], result, "install", is_prediction=True
    ), "what is kept is not brought"


@pytest.mark.parametrize("predicts", [False, True])
def test_what_has_gone_and_what_stays_is_reported(predicts):
    removed = {"name": "flash-attn", "version": "2.8.3", "action": "remove", "reason": "flash-attn 2.8.3 is installed"}
    absent = {"name": "natten", "version": None, "action": "keep", "reason": "natten is not installed in /site"}
    result = {
        "packages": [removed, absent],
        "requirements": ["einops 0.8.1"],
        "stays": ["packaging 24.0 (timm 1.0.3 needs it)"],
        "leftovers": ["~lash_attn"],
        "cleared": [],
    }
    would = "would be " if predicts else ""
    assert report_lines.report_removal(result, predicts) == [
        f"flash-attn 2.8.3: {would}removed (found: flash-attn 2.8.3 is installed)",
        "natten: nothing to remove (found: natten is not installed in /site)",
        f"{'would go ' if predicts else ''}with: einops 0.8.1",
        "stays: packaging 24.0 (timm 1.0.3 needs it)",
        f"{would}cleared away, for a run that broke off left it: ~lash_attn",
    ]


def test_gpus_that_were_not_asked_for_are_not_mentioned(environment):
    del environment["gpus"]
    assert "GPUs" not in report_lines.report_plan(environment, [])[0]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet
from wheel_names import judge, wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, selection


@pytest.fixture
def environment(environment):
    """CUDA 12.6, torch 2.8 with the new C++ ABI, Python 3.11, glibc 2.36."""
    environment["torch"].update(version="2.8.0+cu126", cuda="12.6", cxx11_abi=True)
    return environment


def select(filenames, environment, specifier=""):
    return selection.select_wheels(judge(filenames, environment).candidates, SpecifierSet(specifier), environment)


def choose(filenames, environment, specifier=""):
    fitting = select(filenames, environment, specifier).fitting
    return fitting[0].asset.filename if fitting else None


def test_the_image_of_nvidia_takes_its_own_wheels_first_and_then_those_for_its_torch(environment):
    environment["torch"].update(version="2.8.0a0+5228986c39.nv25.05", cuda="12.9")
    environment["variables"] = {"NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "25.05"}
    own = wheel("cu12torch25.05cxx11abiTRUE")
    assert choose([wheel(), own], environment) == own
    assert choose([wheel(), wheel("cu12torch25.04cxx11abiTRUE")], environment) == wheel()


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (wheel(version="2.8.3.post1"), wheel()),
        (wheel(version="2.10.0"), wheel(version="2.9.0")),
        (wheel("cu126torch2.8"), wheel("cu124torch2.8")),
        (wheel("cu124torch2.8"), wheel("cu123torch2.8")),
        (wheel("cu123torch2.8"), wheel("cu12torch2.8cxx11abiTRUE")),
        (wheel("cu12torch2.8cxx11abiTRUE"), wheel("cu128torch2.8")),
        (wheel("cu128torch2.8"), wheel("cu129torch2.8")),
        (wheel("cu126torch2.8cxx11abiTRUE"), wheel("cu126torch2.8")),
        (wheel("cu12torch2.8.0+cu126cxx11abiTRUE"), wheel("cu12torch2.8.0cxx11abiTRUE")),
        (wheel("cu12torch2.8.0cxx11abiTRUE"), wheel("cu12torch2.8cxx11abiTRUE")),
        (wheel(), wheel(tags="cp39-abi3-linux_x86_64")),
        (wheel(tags="cp311-cp311-manylinux_2_28_x86_64"), wheel()),  # it promises the system that it needs
        (wheel(), wheel(tags="cp39-abi3-manylinux_2_28_x86_64")),
        (wheel(tags="2-cp311-cp311-linux_x86_64"), wheel(tags="1-cp311-cp311-linux_x86_64")),
        (wheel(tags="10-cp311-cp311-linux_x86_64"), wheel(tags="9-cp311-cp311-linux_x86_64")),
        (wheel(tags="1b-cp311-cp311-linux_x86_64"), wheel(tags="1-cp311-cp311-linux_x86_64")),
        (wheel(tags="1-cp311-cp311-linux_x86_64"), wheel()),
        (wheel(tags="cp311-cp311-manylinux_2_28_x86_64"), wheel(tags="cp311-cp311-manylinux_2_17_x86_64")),
    ],
)
def test_of_two_that_fit_the_nearer_is_chosen_in_any_order(better, worse, environment):
    assert choose([better, worse], environment) == better
    assert choose([worse, better], environment) == better


def test_of_two_files_of_one_name_the_one_of_the_newer_release_is_chosen(environment):
    assets = [judging.Asset(wheel(), f"https://gh.example/{tag}", release=tag) for tag in ("v0.9.1", "v0.9.2")]
    candidates = judging.judge_wheels("flash-attn", assets, environment).candidates
    best, other = selection.select_wheels(candidates, SpecifierSet(), environment).fitting
    assert best.asset.release == "v0.9.1"  # listed first
    assert selection.group_refusals(candidates, best, []) == [
        {"reason": f"it fits, but {wheel()} of {best.asset.url} is nearer", "count": 1, "filename": wheel()}
    ]
    assert other.asset.release == "v0.9.2"


@pytest.mark.parametrize(
    ("specifier", "version"),
    [
        ("", "2.8.3"),
        ("<2.8.3", "2.8.2"),
        (">=2.7,<2.8", "2.7.4.post1"),
        ("==2.7.*", "2.7.4.post1"),
        ("==2.7.4", None),
        ("==2.8.3", "2.8.3"),
        (">2.8.3", "2.9.0rc1"),  # there is no final one
        ("~=2.8.0", "2.8.3"),
        (">=3", None),
    ],
)
def test_the_newest_version_that_the_requirement_allows_is_taken(specifier, version, environment):
    names = [wheel(version=item) for item in ("2.7.4.post1", "2.8.2", "2.9.0rc1", "2.8.3")]
    assert choose(names, environment, specifier) == (wheel(version=version) if version else None)


def test_the_others_of_the_version_are_in_the_plan_with_their_reasons(environment):
    names = [wheel(), wheel(tags="cp39-abi3-linux_x86_64"), wheel("cu13torch2.8cxx11abiTRUE"), wheel(version="2.7.0")]
    candidates = judge(names, environment).candidates
    best = selection.select_wheels(candidates, SpecifierSet(), environment).fitting[0]
    assert selection.group_refusals(candidates, best, []) == [
        {"reason": f"it fits, but {names[0]} is nearer", "count": 1, "filename": names[1]},
        {"reason": "it is for CUDA 13, this node has CUDA 12.6", "count": 1, "filename": names[2]},
    ]
    assert selection.explain_choice(best, candidates) == (
        "its name says torch 2.8, CUDA 12, C++11 ABI TRUE, cp311-cp311-linux_x86_64; 2 of 3 wheels of 2.8.3 fit"
    )


def filenames_to_prove(filenames, environment, specifier=""):
    return [candidate.asset.filename for candidate in select(filenames, environment, specifier).provable]


def for_torch(torch, version="2.8.3", label="cu12torch{}cxx11abiTRUE"):
    return wheel(label.format(torch), version)


def test_to_prove_comes_the_newest_version_first_then_the_nearest_older_torch_then_newer_ones(environment):
    names = [
        *(for_torch(torch, "2.8.2") for torch in ("2.9", "2.7")),
        *(for_torch(torch) for torch in ("2.10", "2.9", "2.6")),
    ]
    wanted = [for_torch("2.6"), for_torch("2.9"), for_torch("2.10"), for_torch("2.7", "2.8.2")]
    assert filenames_to_prove(names, environment) == filenames_to_prove(names[::-1], environment) == wanted


def test_wheels_with_other_mismatches_or_another_major_of_torch_are_not_tried(environment):
    names = [
        for_torch("2.7", label="cu13torch{}cxx11abiTRUE"),
        for_torch("2.7", label="cu12torch{}cxx11abiFALSE"),
        wheel("cu12torch2.7cxx11abiTRUE", tags="cp312-cp312-linux_x86_64"),
        wheel("cu13torch25.09cxx11abiTRUE"),
        wheel("rocm6.4torch2.7"),
        for_torch("1.13"),
        for_torch("3.7"),
        wheel(),  # it fits
    ]
    assert filenames_to_prove(names, environment) == []
    assert filenames_to_prove([*names, for_torch("2.7")], environment) == [for_torch("2.7")]


def test_a_wheel_that_says_nothing_of_torch_is_listed_apart(environment):
    selected = select([wheel("", version="2.8.2"), wheel(""), wheel("", tags="cp312-cp312-linux_x86_64")], environment)
    assert (selected.fitting, selected.provable) == ([], [])
    assert [candidate.asset.filename for candidate in selected.untold] == [wheel(""), wheel("", version="2.8.2")]


def test_refusals_are_grouped_by_reason_with_the_most_frequent_first(environment):
    pythons = [wheel(tags=f"cp3{minor}-cp3{minor}-linux_x86_64") for minor in (8, 9, 10, 12, 13, 14)]
    torches = [wheel(f"cu12torch2.{minor}cxx11abiTRUE") for minor in range(9, 30)]
    cuda = [wheel(f"cu13torch2.8cxx11abi{abi}") for abi in ("TRUE", "FALSE")]
    candidates = judge([wheel(), *pythons, *torches, *cuda], environment).candidates
    misnamed = [judging.Misnamed(f"flash_attn-{number}.whl", "it has another form") for number in range(30)]
    groups = selection.group_refusals(candidates, candidates[0], misnamed)
    assert [(group["reason"], group["count"]) for group in groups[:2]] == [
        ("it has another form", 30),
        ("it is for CUDA 13, this node has CUDA 12.6", 2),
    ]
    assert sum(group["count"] for group in groups) == len(candidates) - 1 + len(misnamed)
    assert len(groups) == 13
    assert groups[-1]["reason"] == "17 more reasons"


def test_of_one_torch_the_best_is_tried(environment):
    names = [for_torch("2.7"), wheel("cu126torch2.7cxx11abiTRUE"), wheel("cu124torch2.7cxx11abiTRUE")]
    assert filenames_to_prove(names, environment) == filenames_to_prove(names[::-1], environment) == [names[1]]


def test_another_patch_of_torch_is_the_nearest_that_there_is(environment):
    assert filenames_to_prove([for_torch("2.7"), for_torch("2.8.1")], environment) == [
        for_torch("2.8.1"),
        for_torch("2.7"),
    ]


def test_not_more_are_tried_than_are_worth_a_download_each(environment):
    names = [for_torch(f"2.{minor}") for minor in range(1, 8)]
    assert filenames_to_prove(names, environment) == [for_torch(f"2.{minor}") for minor in (7, 6, 5, 4)]


@pytest.mark.parametrize(
    ("specifier", "versions"),
    [
        ("", ["2.8.3", "2.8.2"]),
        ("<2.8.3", ["2.8.2"]),
        (">2.8.3", ["2.9.0rc1"]),
        ("==2.9.0rc1", ["2.9.0rc1"]),
        (">=3", []),
    ],
)
def test_only_versions_that_the_requirement_allows_are_tried(specifier, versions, environment):
    names = [for_torch("2.7", version) for version in ("2.8.2", "2.9.0rc1", "2.8.3")]
    assert filenames_to_prove(names, environment, specifier) == [for_torch("2.7", version) for version in versions]


def test_a_wheel_says_in_its_name_for_what_it_was_built(environment):
    (image, rocm, untold) = judge(
        [wheel("cu13torch25.09cxx11abiFALSE"), wheel("rocm6.4torch2.8cxx11abiTRUE"), wheel("cu126torch2.8")],
        environment,
    ).candidates
    tags = "cp311-cp311-linux_x86_64"
    assert selection.describe_label(image) == f"its name says NVIDIA's image 25.09, CUDA 13, C++11 ABI FALSE, {tags}"
    assert selection.describe_label(rocm) == f"its name says torch 2.8, ROCm 6.4, C++11 ABI TRUE, {tags}"
    assert selection.describe_label(untold) == f"its name says torch 2.8, CUDA 12.6, an untold C++11 ABI, {tags}"

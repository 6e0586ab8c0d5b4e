# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import selection
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import Asset

TAGS = "cp311-cp311-linux_x86_64"


@pytest.fixture
def environment(environment):
    """CUDA 12.6, torch 2.8 with the new C++ ABI, Python 3.11, glibc 2.36."""
    environment["torch"].update(version="2.8.0+cu126", cuda="12.6", cxx11_abi=True)
    return environment


def wheel(label="cu12torch2.8cxx11abiTRUE", version="2.8.3", tags=TAGS, name="flash_attn"):
    return f"{name}-{version}+{label}-{tags}.whl"


def judge(filenames, environment, name="flash-attn"):
    return selection.judge_wheels(name, [Asset(item, f"https://gh.example/{item}") for item in filenames], environment)


def choose(filenames, environment, specifier=""):
    choice = selection.choose_best(judge(filenames, environment), SpecifierSet(specifier), environment)
    return choice and choice.best.asset.filename


def mismatches(filename, environment):
    return [str(mismatch) for mismatch in judge([filename], environment)[0].mismatches]


@pytest.mark.parametrize(
    "filename",
    [
        wheel(),
        wheel("cu126torch2.8"),
        wheel("cu12torch2.8.0cxx11abiTRUE"),
        wheel("cu12torch2.8.0+cu126cxx11abiTRUE"),
        wheel("cu123torch2.8cxx11abiTRUE"),
        wheel("cu129torch2.8"),
        wheel(tags="cp39-abi3-linux_x86_64"),
        wheel(tags="cp310.cp311-cp310.cp311-linux_x86_64"),
        wheel(tags="cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64"),
        wheel(tags="cp311-cp311-manylinux2014_x86_64"),
    ],
)
def test_a_wheel_fits_when_each_of_its_parts_does(filename, environment):
    assert mismatches(filename, environment) == []


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        (wheel("cu12torch2.9cxx11abiTRUE"), "it is for torch 2.9, this node has torch 2.8.0+cu126"),
        (wheel("cu12torch2.8.1cxx11abiTRUE"), "it is for torch 2.8.1, this node has torch 2.8.0+cu126"),
        (wheel("cu12torch2.8.0+cu128cxx11abiTRUE"), "it is for torch 2.8.0+cu128, this node has torch 2.8.0+cu126"),
        (
            wheel("cu12torch2.8.0.dev20250101cxx11abiTRUE"),
            "it is for torch 2.8.0.dev20250101, this node has torch 2.8.0+cu126",
        ),
        (wheel("cu13torch2.8cxx11abiTRUE"), "it is for CUDA 13, this node has CUDA 12.6"),
        (wheel("cu118torch2.8cxx11abiTRUE"), "it is for CUDA 11, this node has CUDA 12.6"),
        (wheel("rocm6.4torch2.8"), "it is for ROCm 6.4, this node has CUDA 12.6"),
        (wheel("cu12torch2.8cxx11abiFALSE"), "it is for a torch with C++11 ABI FALSE, this node has TRUE"),
        (
            wheel("cu13torch25.09cxx11abiTRUE"),
            "it is for NVIDIA's image 25.09, this node has torch 2.8.0+cu126 and no such image",
        ),
        (wheel(tags="cp310-cp310-linux_x86_64"), "it is for Python cp310, this node has cp311"),
        (wheel(tags="cp312-abi3-linux_x86_64"), "it is for Python cp312-abi3, this node has cp311"),
        (wheel(tags="cp311-cp311t-linux_x86_64"), "it is for Python cp311-cp311t, this node has cp311"),
        (
            wheel(tags="cp311-cp311-linux_aarch64"),
            "it is for platform linux_aarch64, this node has linux x86_64, glibc 2.36",
        ),
        (
            wheel(tags="cp311-cp311-manylinux_2_38_x86_64"),
            "it is for platform manylinux_2_38_x86_64, this node has linux x86_64, glibc 2.36",
        ),
        (wheel(tags="cp311-cp311-win_amd64"), "it is for platform win_amd64, this node has linux x86_64, glibc 2.36"),
        (f"flash_attn-2.8.3-{TAGS}.whl", "it is for torch (its name does not tell), this node has 2.8.0+cu126"),
    ],
)
def test_a_mismatch_says_what_the_node_has(filename, reason, environment):
    assert reason in mismatches(filename, environment)


def test_all_mismatches_are_reported(environment):
    filename = wheel("cu118torch2.1cxx11abiFALSE", tags="cp39-cp39-linux_aarch64")
    assert [item.part for item in judge([filename], environment)[0].mismatches] == [
        *("torch", "CUDA", "a torch with C++11 ABI", "Python", "platform")
    ]


@pytest.mark.parametrize(
    ("version", "cuda", "abi", "label", "fits"),
    [
        ("2.5.1+cu124", "12.4", False, "cu124torch2.5", True),
        ("2.5.1+cu124", "12.4", True, "cu124torch2.5", False),  # NVIDIA's image, or a build of the site's own
        ("2.6.0+cu126", "12.6", True, "cu126torch2.6", True),
        ("2.6.0+cu126", "12.6", True, "cu124torch2.6", False),
        ("2.6.0+cu124", "12.4", False, "cu12torch2.6", True),  # cannot be told
        ("2.8.0", "12.6", None, "cu12torch2.8cxx11abiFALSE", True),
    ],
)
def test_a_name_without_abi_counts_as_built_for_torch_of_the_package_index(
    version, cuda, abi, label, fits, environment
):
    environment["torch"].update(version=version, cuda=cuda, cxx11_abi=abi)
    assert (mismatches(wheel(label), environment) == []) == fits


def test_the_image_of_nvidia_takes_its_own_wheels_first_and_then_those_for_its_torch(environment):
    environment["torch"].update(version="2.8.0a0+5228986c39.nv25.05", cuda="12.9")
    environment["variables"] = {"NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "25.05"}
    own = wheel("cu12torch25.05cxx11abiTRUE")
    assert choose([wheel(), own], environment) == own
    assert choose([wheel(), wheel("cu12torch25.04cxx11abiTRUE")], environment) == wheel()


def test_rocm_needs_its_own_minor(environment):
    environment["torch"].update(version="2.8.0+rocm6.4", cuda=None, hip="6.4.43482-0f2d60242")
    assert choose([wheel("rocm6.3torch2.8"), wheel("rocm64torch2.8cxx11abiTRUE")], environment) == wheel(
        "rocm64torch2.8cxx11abiTRUE"
    )
    assert choose([wheel("rocm6.3torch2.8"), wheel()], environment) is None


def test_a_wheel_for_glibc_does_not_serve_musl(environment):
    environment["platform"]["libc"] = {"name": "musl", "version": "1.2"}
    assert mismatches(wheel(), environment) == [
        "it is for glibc (all wheels so named are linked with it), this node has musl"
    ]


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
        (wheel(), wheel(tags="cp311-cp311-manylinux_2_28_x86_64")),
        (wheel(tags="cp311-cp311-manylinux_2_28_x86_64"), wheel(tags="cp311-cp311-manylinux_2_17_x86_64")),
    ],
)
def test_of_two_that_fit_the_nearer_is_chosen_in_any_order(better, worse, environment):
    assert choose([better, worse], environment) == better
    assert choose([worse, better], environment) == better


def test_of_two_files_of_one_name_the_one_of_the_newer_release_is_chosen(environment):
    assets = [Asset(wheel(), f"https://gh.example/{tag}", release=tag) for tag in ("v0.9.1", "v0.9.2")]
    choice = selection.choose_best(
        selection.judge_wheels("flash-attn", assets, environment), SpecifierSet(), environment
    )
    assert choice.best.asset.release == "v0.9.1"  # listed first


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


def test_a_newer_version_without_a_wheel_for_the_node_is_reported(environment):
    names = [wheel("cu12torch2.9cxx11abiTRUE", "2.9.0"), wheel("cu12torch2.10cxx11abiTRUE", "2.9.0"), wheel()]
    choice = selection.choose_best(judge(names, environment), SpecifierSet(), environment)
    assert choice.best.asset.filename == wheel()
    assert choice.newer == [
        {"version": "2.9.0", "reason": "none of its 2 wheels fits. There is one for torch 2.10 or 2.9."}
    ]


def test_the_others_of_the_version_are_in_the_plan_with_their_reasons(environment):
    names = [wheel(), wheel(tags="cp39-abi3-linux_x86_64"), wheel("cu13torch2.8cxx11abiTRUE"), wheel(version="2.7.0")]
    choice = selection.choose_best(judge(names, environment), SpecifierSet(), environment)
    assert choice.refused == [
        {"filename": names[1], "reasons": [f"it fits, but {names[0]} is nearer"]},
        {"filename": names[2], "reasons": ["it is for CUDA 13, this node has CUDA 12.6"]},
    ]
    assert choice.ground == (
        "its name says torch 2.8, CUDA 12, C++11 ABI TRUE, cp311-cp311-linux_x86_64; 2 of 3 wheels of 2.8.3 fit"
    )


def test_files_of_other_packages_and_other_kinds_are_ignored(environment):
    names = [wheel(name="flash_attn_3"), "flash_attn-2.8.3.tar.gz", "notes.txt", wheel(version="nightly"), wheel()]
    assert [item.asset.filename for item in judge(names, environment, "Flash_Attn")] == [wheel()]


def test_where_nothing_fits_the_nearest_is_described(environment):
    names = [
        *(wheel(f"cu12torch{torch}cxx11abiTRUE") for torch in ("2.4", "2.7", "2.10", "2.9")),
        wheel(tags="cp312-cp312-linux_x86_64"),
        wheel("cu13torch2.9cxx11abiTRUE"),
        wheel(version="2.7.4.post1"),
        wheel(version="2.6.3"),
    ]
    assert selection.describe_nearest(judge(names, environment), SpecifierSet("==2.8.3")) == [
        "There is one for torch 2.10, 2.9, 2.7 or 2.4.",
        "There is one for Python cp312.",
        "For this node as it is there is a wheel of version 2.7.4.post1 and 2.6.3.",
    ]


def test_several_mismatches_of_one_wheel_are_described_together(environment):
    names = [wheel("cu13torch2.9cxx11abiTRUE"), wheel("cu13torch2.10cxx11abiTRUE", tags="cp39-cp39-linux_x86_64")]
    assert selection.describe_nearest(judge(names, environment), SpecifierSet()) == [
        "There is one for torch 2.9 and CUDA 13."
    ]


def test_a_long_list_is_cut(environment):
    names = [wheel(f"cu12torch2.{minor}cxx11abiTRUE") for minor in range(10, 30)]
    assert selection.describe_nearest(judge(names, environment), SpecifierSet()) == [
        "There is one for torch 2.29, 2.28, 2.27, 2.26, 2.25, 2.24 and 14 more."
    ]


def test_without_wheels_there_is_no_nearest(environment):
    assert selection.describe_nearest([], SpecifierSet()) == []


def test_the_node_is_described_by_all_that_counts(environment):
    assert selection.describe_node(environment) == (
        "Python cp311, torch 2.8.0+cu126 (CUDA 12.6, C++11 ABI TRUE), linux x86_64, glibc 2.36"
    )


def filenames_to_prove(filenames, environment, specifier=""):
    found = selection.provable_wheels(judge(filenames, environment), SpecifierSet(specifier), environment)
    return [candidate.asset.filename for candidate in found]


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


def test_a_wheel_whose_name_says_nothing_of_torch_is_not_tried(environment):
    assert filenames_to_prove([f"flash_attn-2.8.3-{TAGS}.whl"], environment) == []


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
    )
    tags = "cp311-cp311-linux_x86_64"
    assert selection.describe_label(image) == f"its name says NVIDIA's image 25.09, CUDA 13, C++11 ABI FALSE, {tags}"
    assert selection.describe_label(rocm) == f"its name says torch 2.8, ROCm 6.4, C++11 ABI TRUE, {tags}"
    assert selection.describe_label(untold) == f"its name says torch 2.8, CUDA 12.6, an untold C++11 ABI, {tags}"

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from wheel_names import judge, wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels


@pytest.fixture
def environment(environment):
    """CUDA 12.6, torch 2.8 with the new C++ ABI, Python 3.11, glibc 2.36."""
    environment["torch"].update(version="2.8.0+cu126", cuda="12.6", cxx11_abi=True)
    return environment


def mismatches(filename, environment, **more):
    (candidate,) = judging.judge_wheels(
        "flash-attn", [judging.Asset(filename, more.pop("url", "https://gh.example/x"), **more)], environment
    ).candidates
    return [str(mismatch) for mismatch in candidate.mismatches]


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
        (wheel("cpu"), "its label says that it has no GPU code"),
        (wheel("x.cu12torch2.8"), "its label 'x.cu12torch2.8' is of a form that this collection does not know"),
        (wheel("cu128torch210"), "its label 'cu128torch210' says torch 210, which may be 2.10 or 2.1.0"),
        (
            wheel("das.opt1.dtk2604.torch251"),
            "its label 'das.opt1.dtk2604.torch251' is of the fork of torch by Hygon (DCU)",
        ),
    ],
)
def test_a_mismatch_says_what_the_node_has(filename, reason, environment):
    assert reason in mismatches(filename, environment)


def test_all_mismatches_are_reported(environment):
    filename = wheel("cu118torch2.1cxx11abiFALSE", tags="cp39-cp39-linux_aarch64")
    assert [item.part for item in judge([filename], environment).candidates[0].mismatches] == [
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


def test_rocm_needs_its_own_minor(environment):
    environment["torch"].update(version="2.8.0+rocm6.4", cuda=None, hip="6.4.43482-0f2d60242")
    assert mismatches(wheel("rocm64torch2.8cxx11abiTRUE"), environment) == []
    assert mismatches(wheel("rocm6.3torch2.8"), environment) == [
        "it is for ROCm 6.3, this node has ROCm 6.4.43482-0f2d60242"
    ]
    assert mismatches(wheel(), environment) == ["it is for CUDA 12, this node has ROCm 6.4.43482-0f2d60242"]


def test_a_wheel_for_glibc_does_not_serve_musl(environment):
    environment["platform"]["libc"] = {"name": "musl", "version": "1.2"}
    assert mismatches(wheel(), environment) == [
        "it is for glibc (all wheels so named are linked with it), this node has musl"
    ]


def test_files_of_other_packages_and_other_kinds_are_ignored(environment):
    names = [wheel(name="flash_attn_3"), "flash_attn-2.8.3.tar.gz", "notes.txt", wheel()]
    judgement = judge(names, environment, "Flash_Attn")
    assert [item.asset.filename for item in judgement.candidates] == [wheel()]
    assert judgement.misnamed == []


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        (wheel().replace("+", "%2B"), f"its plus is written as in a URL; rename it to {wheel()}"),
        (wheel().replace(".whl", " (1).whl"), f"a browser has numbered it; rename it to {wheel()}"),
        (wheel(version="HEAD"), "'HEAD' in it is no version"),
        (
            "flash_attn-2.8.3-cp311-cp311-linux_x86_64-torch210.whl",
            "it has not the form name-version-python-abi-platform.whl",
        ),
        ("flash_attn.whl", "it has not the form name-version-python-abi-platform.whl"),
    ],
)
def test_a_file_that_looks_like_a_wheel_of_the_package_is_told_with_what_is_wrong(filename, reason, environment):
    judgement = judge([filename], environment)
    assert (judgement.candidates, judgement.misnamed) == ([], [judging.Misnamed(filename, reason)])


def test_a_wheel_that_tells_no_torch_has_no_mismatch_for_it_and_says_so(environment):
    (candidate,) = judge([wheel("")], environment).candidates
    assert (candidate.mismatches, candidate.tells_torch) == ((), False)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://a.example/whl/cu128/flash-attn/", None),
        ("https://a.example/whl/cu130/flash-attn/", "it is for CUDA 13, this node has CUDA 12.6"),
        ("https://a.example/whl/torch-2.9.0%2Bcu126.html", "it is for torch 2.9, this node has torch 2.8.0+cu126"),
        ("https://a.example/whl/torch-2.8.1%2Bcu126.html", None),
        ("/srv/wheels/cu126/torch2.9", "it is for torch 2.9, this node has torch 2.8.0+cu126"),
    ],
)
def test_what_the_name_does_not_tell_the_address_may(address, reason, environment):
    assert mismatches(wheel(""), environment, address=address) == ([reason] if reason else [])


def test_the_address_of_the_file_and_the_tag_of_its_release_count_too(environment):
    assert mismatches(wheel(""), environment, url="https://a.example/whl/cu130/x.whl") == [
        "it is for CUDA 13, this node has CUDA 12.6"
    ]
    assert mismatches(wheel(""), environment, release="v2.8.3-cu12-torch2.11") == [
        "it is for torch 2.11, this node has torch 2.8.0+cu126"
    ]


@pytest.mark.parametrize(
    ("label", "address", "contradiction"),
    [
        ("cu126torch2.8", "/whl/cu129/", None),  # of one major version: the page of CUDA 12.9 has others, too
        ("cu118torch2.8", "/whl/cu129/", "its name says CUDA 11.8, and its address says CUDA 12.9"),
        ("cu126torch2.8.1", "/whl/torch-2.8.0+cu126.html", None),
        ("cu126torch2.8", "/whl/torch-2.9.0+cu126.html", "its name says torch 2.8, and its address says torch 2.9"),
        ("cpu", "/whl/cu126/", "its name says CPU, and its address says CUDA"),
    ],
)
def test_a_name_and_an_address_that_disagree_are_refused_with_both(label, address, contradiction, environment):
    found = mismatches(wheel(label), environment, address=address)
    assert (contradiction in found) if contradiction else not any("address" in reason for reason in found)


@pytest.mark.parametrize(
    ("torch", "version"),
    [
        ("2.8.0+cu126", "2.8.0+cu126"),
        ("2.8.0a0+50eac811a6.nv25.09", "2.8.0a0+50eac811a6.nv25.9"),
        ("2.8.0.our_build", "2.8.0"),
        ("v2.8-patched", "2.8"),
        ("2.8.0+", "2.8.0"),
    ],
)
def test_a_version_of_torch_that_is_none_of_pep_440_counts_by_its_numbers(torch, version, environment):
    environment["torch"]["version"] = torch
    assert str(judging.parse_torch_version(torch)) == version
    assert mismatches(wheel("cu12torch2.8cxx11abiTRUE"), environment) == []


def test_a_version_of_torch_without_numbers_is_refused_in_words():
    with pytest.raises(TorchExtensionError, match="its version is 'main', which begins with no number"):
        judging.parse_torch_version("main")


def test_claims_are_put_together_and_the_first_of_each_kind_counts():
    name, page = labels.Label("CUDA", "12"), labels.Label("CUDA", "12.8", labels.Torch("2.8"))
    label, contradictions = judging.combine(("its name", name), ("its address", page))
    assert (label, contradictions) == (labels.Label("CUDA", "12.8", labels.Torch("2.8")), [])


@pytest.mark.parametrize(
    "odd",
    [
        f"flash_attn-{'1' * 5000}-cp311-cp311-linux_x86_64.whl",
        f"flash_attn-2.8.3+cu12torch2.{'1' * 5000}-cp311-cp311-linux_x86_64.whl",
        f"flash_attn-2.8.3-{'1' * 5000}-cp311-cp311-linux_x86_64.whl",
        f"flash_attn-2.8.3+{'1.' * 3000}1-cp311-cp311-linux_x86_64.whl",
        f"flash_attn-2.8.3-{'cp311.' * 50000}cp311-cp311-linux_x86_64.whl",
    ],
)
def test_a_name_of_thousands_of_digits_does_not_hide_the_good_wheel_beside_it(odd, environment):
    good = "flash_attn-2.5.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
    judged = judging.judge_wheels(
        "flash-attn",
        [judging.Asset(odd, "https://x.example/a"), judging.Asset(good, "https://x.example/b")],
        environment,
    )
    assert [(each.asset.filename, each.mismatches) for each in judged.candidates] == [(good, ())]
    [misnamed] = judged.misnamed
    assert misnamed.reason == f"its name has {len(odd)} characters"
    assert len(misnamed.filename) < 200

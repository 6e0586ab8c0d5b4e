# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.utils import parse_wheel_filename

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import labels
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.labels import (
    CUDA,
    ROCM,
    Label,
    NvidiaImage,
    Torch,
)

TAGS = "cp311-cp311-linux_x86_64"

# Names of files that are on GitHub, found in public scripts and in doc/packages.md of mjun0812's repository.
OFFICIAL = {
    f"flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-{TAGS}.whl": Label(CUDA, "12", Torch("2.8"), True),
    f"flash_attn-2.8.3.post1+cu12torch2.6cxx11abiFALSE-{TAGS}.whl": Label(CUDA, "12", Torch("2.6"), False),
    f"causal_conv1d-1.1.3.post1+cu118torch2.1cxx11abiFALSE-{TAGS}.whl": Label(CUDA, "11.8", Torch("2.1"), False),
    f"mamba_ssm-2.3.1+cu13torch2.10cxx11abiTRUE-{TAGS}.whl": Label(CUDA, "13", Torch("2.10"), True),
    f"mamba_ssm-1.1.1+cu118torch1.12cxx11abiFALSE-{TAGS}.whl": Label(CUDA, "11.8", Torch("1.12"), False),
    f"transformer_engine_torch-2.11.0+cu12torch2.8.0+cu129cxx11abiTRUE-{TAGS}.whl": Label(
        CUDA, "12", Torch("2.8.0+cu129"), True
    ),
    f"transformer_engine_torch-2.12.0+cu13torch26.01cxx11abiTRUE-{TAGS}.whl": Label(
        CUDA, "13", NvidiaImage("26.01"), True
    ),
}
COMMUNITY = {
    f"flash_attn-1.0.9+cu121torch2.1-{TAGS}.whl": Label(CUDA, "12.1", Torch("2.1"), None),
    f"flash_attn-2.7.4+cu126torch2.6-{TAGS}.whl": Label(CUDA, "12.6", Torch("2.6"), None),
    "flash_attn-2.8.3+cu132torch2.14-cp314-cp314t-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl": Label(
        CUDA, "13.2", Torch("2.14"), None
    ),
    "flash_attn-2.8.3+cu128torch2.5-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl": Label(
        CUDA, "12.8", Torch("2.5"), None
    ),
    "flash_attn-2.8.3+cu130torch2.10-cp312-cp312-manylinux_2_34_aarch64.whl": Label(CUDA, "13.0", Torch("2.10"), None),
    "flash_attn_3-3.0.0+cu132torch2.13gite2743ab-cp39-abi3-linux_x86_64.whl": Label(CUDA, "13.2", Torch("2.13"), None),
    f"flash_attn-2.8.4+rocm7.2torch2.14git4a948e9-{TAGS}.whl": Label(ROCM, "7.2", Torch("2.14"), None),
}


@pytest.mark.parametrize(("filename", "label"), {**OFFICIAL, **COMMUNITY}.items())
def test_a_published_name_says_for_what_it_was_built(filename, label):
    assert labels.parse_filename(filename).label == label


@pytest.mark.parametrize(
    ("local", "label"),
    [
        ("rocm62torch2.4cxx11abiTRUE", Label(ROCM, "6.2", Torch("2.4"), True)),
        ("hip624torch2.4cxx11abiFALSE", Label(ROCM, "6.2", Torch("2.4"), False)),
        ("cu12.8torch2.7.0", Label(CUDA, "12.8", Torch("2.7.0"), None)),
        ("cu128torch2.7.0.dev20250301", Label(CUDA, "12.8", Torch("2.7.0.dev20250301"), None)),
        ("cu12torch2.8.0.cu129cxx11abiTRUE", Label(CUDA, "12", Torch("2.8.0+cu129"), True)),
        ("CU12torch2.8CXX11ABItrue", Label(CUDA, "12", Torch("2.8"), True)),
    ],
)
def test_other_spellings_are_understood(local, label):
    assert labels.parse_filename(f"flash_attn-2.8.3+{local}-{TAGS}.whl").label == label


# Labels as they are published, each with the place whose grammar reads it; docs/choosing.md names the places.
OF_PLACES = {
    ("cu.13.0.torch.2.12", None): Label(CUDA, "13.0", Torch("2.12")),  # Astral
    ("cu.12.4.torch.2.6.0", None): Label(CUDA, "12.4", Torch("2.6.0")),
    ("cu.13.0", None): Label(CUDA, "13.0"),
    ("1300811.cu12.8torch2.10.0cxx11abiTRUE", None): Label(CUDA, "12.8", Torch("2.10.0"), True),
    ("cu12.8.0torch2.8.0cxx11abiTRUE", None): Label(CUDA, "12.8", Torch("2.8.0"), True),
    ("cu128.torch27", "cosmos"): Label(CUDA, "12.8", Torch("2.7")),
    ("cu128.torch271", "cosmos"): Label(CUDA, "12.8", Torch("2.7.1")),
    ("cu126.torch260", "cosmos"): Label(CUDA, "12.6", Torch("2.6.0")),
    ("cu130.torch210", "cosmos"): Label(CUDA, "13.0", Torch("2.10")),
    ("torch210cu121", "natten"): Label(CUDA, "12.1", Torch("2.1.0")),
    ("torch2100cu128", "natten"): Label(CUDA, "12.8", Torch("2.10.0")),
    ("torch2130cu132", "natten"): Label(CUDA, "13.2", Torch("2.13.0")),
    ("torch1110cpu", "natten"): Label("CPU", None, Torch("1.11.0")),
    ("pt212cu130", "pyg"): Label(CUDA, "13.0", Torch("2.12")),
    ("pt28cu128", "pyg"): Label(CUDA, "12.8", Torch("2.8")),
    ("pt113cu117", "pyg"): Label(CUDA, "11.7", Torch("1.13")),
    ("pt28cpu", "pyg"): Label("CPU", None, Torch("2.8")),
    ("cu128.torch2.10.0", None): Label(CUDA, "12.8", Torch("2.10.0")),  # exllamav3
    ("cu130torch29", None): Label(CUDA, "13.0", Torch("2.9")),
    ("cu128torch280", None): Label(CUDA, "12.8", Torch("2.8.0")),
    ("cu130torch2100", None): Label(CUDA, "13.0", Torch("2.10.0")),
    ("cu130", None): Label(CUDA, "13.0"),  # vllm, flashinfer
    ("rocm700", None): Label(ROCM, "7.0"),
    ("cpu", None): Label("CPU"),
    ("1408756", None): Label(),  # flash_mla: a commit
    ("35c4bc8", None): Label(),
    ("5d4b92a5.d20251029", None): Label(),  # xformers
    ("", None): Label(),
}


@pytest.mark.parametrize(("local", "place"), OF_PLACES)
def test_a_label_is_read_as_the_place_that_publishes_it_means_it(local, place):
    plus = f"+{local}" if local else ""
    parsed = labels.parse_filename(f"flash_attn-2.8.3{plus}-{TAGS}.whl", place)
    assert (parsed.version, parsed.label) == ("2.8.3", OF_PLACES[local, place])


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        ("cu12torch", "is of a form that this collection does not know"),
        ("torch2.8", "is of a form that this collection does not know"),
        ("x.cu12torch2.8", "is of a form that this collection does not know"),
        ("pt212cu130", "is of a form that this collection does not know"),  # PyG's, in another place
        ("cu130.torch210.gb300", "is of a form that this collection does not know"),
        ("cu130.torch210", "says torch 210, which may be 2.10 or 2.1.0"),
        ("cu130torch2999", "says torch 2999, which may be no version of torch"),
        ("metax3.7.1.3", "is of the fork of torch by MetaX"),
        ("das.opt1.dtk2604.torch251", "is of the fork of torch by Hygon (DCU)"),
        ("corex.4.4.0", "is of the fork of torch by Iluvatar CoreX"),
        ("ali.10.ppu2.0.0.cu129", "is of the fork of torch by T-Head (PPU)"),
    ],
)
def test_a_label_that_is_not_understood_is_said_to_be_just_that(local, reason):
    label = labels.parse_filename(f"flash_attn-2.8.3+{local}-{TAGS}.whl").label
    assert label == labels.Unreadable(local, reason)


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("https://download.pytorch.org/whl/cu130/flash-attn-3/", Label(CUDA, "13.0")),
        ("https://wheels.astral.sh/simple/cu132/flash-attn/", Label(CUDA, "13.2")),
        ("https://data.pyg.org/whl/torch-2.12.0%2Bcu130.html", Label(CUDA, "13.0", Torch("2.12"))),
        ("https://data.pyg.org/whl/torch-2.12.0+cpu.html", Label("CPU", None, Torch("2.12"))),
        ("https://a.example/torch-2.8.0_cu128.html", Label(CUDA, "12.8", Torch("2.8"))),
        ("https://a.example/mmcv/dist/cu121/torch2.4/index.html", Label(CUDA, "12.1", Torch("2.4"))),
        ("https://a.example/packaging/wheels/py310_cu121_pyt241/download.html", Label(CUDA, "12.1", Torch("2.4"))),
        ("https://a.example/packaging/wheels/py310_cu121_pyt210/download.html", Label(CUDA, "12.1", Torch("2.1"))),
        ("https://a.example/cosmos-dependencies/cu130_torch210/simple/apex/", Label(CUDA, "13.0", Torch("2.10"))),
        ("https://a.example/whl/pt24cu124", Label(CUDA, "12.4", Torch("2.4"))),
        ("v2.8.3-cu12-torch2.11", Label(CUDA, "12", Torch("2.11"))),
        ("https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.3", Label()),
        ("/srv/wheels", Label()),
        (None, Label()),
    ],
)
def test_an_address_tells_what_its_segments_do(address, label):
    assert labels.parse_address(address) == label


def test_the_last_segment_of_the_first_address_counts():
    assert labels.parse_address("/srv/cu121/new/cu126", "/whl/cu130/torch2.9/") == Label(CUDA, "12.6", Torch("2.9"))


@pytest.mark.parametrize("filename", ["flash_attn-2.8.3.tar.gz", "../a-1-py3-none-any.whl", "a.whl", ""])
def test_another_file_name_is_refused(filename):
    with pytest.raises(TorchExtensionError, match="is not the name of a wheel"):
        labels.parse_filename(filename)


@pytest.mark.parametrize("filename", [*OFFICIAL, *COMMUNITY])
def test_the_name_for_pip_is_valid_and_has_the_same_label(filename):
    name = labels.pip_filename(filename)
    parse_wheel_filename(name)
    assert labels.parse_filename(name).label == labels.parse_filename(filename).label
    assert (name == filename) == (filename.count("+") < 2)


@pytest.mark.parametrize(
    ("torch", "cuda", "abi"),
    [
        *[("1.12", "11.6", False), ("2.5", "12.4", False), ("2.6", "12.4", False), ("2.6", "11.8", False)],
        *[("2.6", "12.6", True), ("2.6", "12", None), ("2.7", "12.8", True), ("2.10", "13.0", True)],
    ],
)
def test_the_abi_of_torch_on_the_package_index_is_that_of_its_libraries(torch, cuda, abi):
    assert labels.pip_torch_abi(torch, cuda) is abi

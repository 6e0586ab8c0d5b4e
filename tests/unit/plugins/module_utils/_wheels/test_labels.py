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


@pytest.mark.parametrize(
    "version", ["2.8.3", "2.8.3+cpu", "2.8.3+cu12", "2.8.3+torch2.8", "2.8.3+cu12torch", "2.8.3+x.cu12torch2.8"]
)
def test_a_version_in_another_form_has_no_label(version):
    built = labels.parse_filename(f"flash_attn-{version}-{TAGS}.whl")
    assert (built.version, built.label) == ("2.8.3", None)


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

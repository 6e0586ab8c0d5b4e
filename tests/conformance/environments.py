# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nodes on which table and ``setup.py`` are compared, as ``torch_info`` would describe them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

# The +label is no promise about the CUDA beside it: upstream reads torch.version.cuda.
TORCH_VERSIONS = (
    "1.12.0+cu113",
    "2.0.1+cu117",
    "2.1.0",
    "2.1.2+cu118",
    "2.2.0a0+81ea7a4",
    "2.5.1.post300",
    "2.7.0.dev20250301+cu126",
    "2.9.0a0+50eac811a6.nv25.09",
    "2.11.0+cu130",
)
CUDA_VERSIONS = ("10.2", "11.3", "11.8", "12.1", "12.9", "13.0", "14.0")
# The last two are what builds of AMD and of distributions say.
HIP_VERSIONS = ("5.7.31921-d1770ee1b", "6.0.32830", "6.2.41133-dd7f95766", "7.0.51831-", "AMD 6.4.43483-a187df25c")
PYTHON_VERSIONS = ("3.8.18", "3.9.2", "3.10.12", "3.11.2", "3.12.3", "3.13.1", "3.14.0")
PLATFORMS = (
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("linux", "arm64"),
    ("linux", "ppc64le"),
    ("win32", "AMD64"),
    ("freebsd", "amd64"),
)
PREFIXES = ("FLASH_ATTENTION", "CAUSAL_CONV1D", "MAMBA", "FAST_HADAMARD_TRANSFORM", "NVTE_PYTORCH")
NVIDIA_IMAGE = {"NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "25.09", "CUDA_VERSION": "13.0.1.012"}


def of_all(switch: str, value: str = "TRUE") -> dict[str, str]:
    """Set a switch for all packages at once: each looks at its own only."""
    return {f"{prefix}_{switch}": value for prefix in PREFIXES}


LOCAL_VERSIONS = (
    *("FLASH_ATTN_LOCAL_VERSION", "CAUSAL_CONV1D_LOCAL_VERSION", "MAMBA_LOCAL_VERSION"),
    "FAST_HADAMARD_TRANSFORM_LOCAL_VERSION",
)
TRITON = {"FLASH_ATTENTION_TRITON_AMD_ENABLE": "TRUE"}
VARIABLES = (
    {},
    of_all("FORCE_CXX11_ABI"),
    of_all("FORCE_CXX11_ABI", "true"),
    of_all("FORCE_CXX11_ABI", "1"),
    of_all("SKIP_CUDA_BUILD"),
    {**of_all("FORCE_CXX11_ABI"), **of_all("SKIP_CUDA_BUILD")},
    {**of_all("FORCE_CXX11_ABI"), **of_all("SKIP_CUDA_BUILD", "True")},
    of_all("FORCE_BUILD"),
    of_all("FORCE_BUILD", "1"),
    of_all("FORCE_BUILD", ""),
    of_all("LOCAL_VERSION", "site.1"),  # NVTE_PYTORCH_… and FLASH_ATTENTION_…: no such variables
    dict.fromkeys(LOCAL_VERSIONS, "site.1"),
    dict.fromkeys(LOCAL_VERSIONS, ""),
    {"BUILD_TARGET": "auto"},
    {"BUILD_TARGET": "cuda"},
    {"BUILD_TARGET": "rocm"},
    {"BUILD_TARGET": "rocm", **of_all("SKIP_CUDA_BUILD")},
    {"BUILD_TARGET": "cpu"},
    {"BUILD_TARGET": ""},
    NVIDIA_IMAGE,
    {**NVIDIA_IMAGE, "CUDA_VERSION": "12.8.1", "NVIDIA_PYTORCH_VERSION": "24.12"},
    {**NVIDIA_IMAGE, **of_all("FORCE_CXX11_ABI")},
    {**NVIDIA_IMAGE, "NVIDIA_PRODUCT_NAME": "CUDA"},
    {"NVIDIA_PRODUCT_NAME": "PyTorch"},
    {"NVIDIA_PYTORCH_VERSION": "25.09"},
    {"CUDA_VERSION": "11.8.0"},
    TRITON,
    {**TRITON, **of_all("FORCE_CXX11_ABI")},
    {**TRITON, **of_all("FORCE_CXX11_ABI"), "FLASH_ATTENTION_SKIP_CK_BUILD": "TRUE"},
    {**TRITON, **of_all("FORCE_CXX11_ABI"), "FLASH_ATTENTION_SKIP_CK_BUILD": "FALSE"},
    {**of_all("FORCE_CXX11_ABI"), "FLASH_ATTENTION_SKIP_CK_BUILD": "TRUE"},
    {"NVTE_RELEASE_BUILD": "0"},
    {"NVTE_RELEASE_BUILD": "1"},
    {"NVTE_NO_LOCAL_VERSION": "1"},
)

CUDA_TORCH = {"version": "2.6.0+cu124", "cuda": "12.4", "hip": None, "cxx11_abi": False}
ROCM_TORCH = {"version": "2.6.0+rocm6.2.4", "cuda": None, "hip": "6.2.41134-65d174c3e", "cxx11_abi": False}
CPU_TORCH = {"version": "2.6.0+cpu", "cuda": None, "hip": None, "cxx11_abi": False}


def environments() -> Iterator[dict]:
    """Every torch on one platform, every platform with one torch, and every set of variables with each kind of torch."""
    for version, (cuda, hip), cxx11_abi in product(TORCH_VERSIONS, _gpus(), (False, True)):
        yield _environment({"version": version, "cuda": cuda, "hip": hip, "cxx11_abi": cxx11_abi})
    for torch, python, platform in product((CUDA_TORCH, ROCM_TORCH), PYTHON_VERSIONS, PLATFORMS):
        yield _environment(torch, python, platform)
    for torch, cxx11_abi, variables in product((CUDA_TORCH, ROCM_TORCH, CPU_TORCH), (False, True), VARIABLES):
        yield _environment({**torch, "cxx11_abi": cxx11_abi}, variables=variables)
    for platform in (*PLATFORMS, ("darwin", "arm64")):
        yield _environment(CPU_TORCH, platform=platform)
        yield _environment(None, platform=platform)


def _gpus() -> Iterator[tuple[str | None, str | None]]:
    yield from ((cuda, None) for cuda in CUDA_VERSIONS)
    yield from ((None, hip) for hip in HIP_VERSIONS)
    yield None, None


def _environment(
    torch: dict | None,
    python: str = "3.11.2",
    platform: tuple[str, str] = ("linux", "x86_64"),
    variables: dict[str, str] | None = None,
) -> dict:
    tag = "cp{}{}".format(*python.split("."))
    system, machine = platform
    return {
        "python": {"version": python, "tag": tag, "abi": tag, "implementation": "cpython"},
        "platform": {"system": system, "machine": machine, "libc": {"name": "glibc", "version": "2.36"}},
        "torch": torch,
        "variables": variables or {},
    }

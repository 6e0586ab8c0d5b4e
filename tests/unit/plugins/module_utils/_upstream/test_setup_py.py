# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import (
    PACKAGES,
    VARIABLES,
    variable_names,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.setup_py import (
    NoGuessError,
    find_conflicts,
    guess_wheel,
)

DAO_FLASH = "https://github.com/Dao-AILab/flash-attention/releases/download"

# Printed by real installations: package, version, Python, torch, CUDA, C++11 ABI, "Guessing wheel URL: …".
OBSERVED = (
    *(
        ("flash-attn", *row[:-1], f"{DAO_FLASH}/v{row[0]}/flash_attn-{row[0]}+{row[-1]}.whl")
        for row in (
            ("2.5.3", "3.11", "2.2.0+cu121", "12.1", False, "cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64"),
            ("2.8.3", "3.11", "2.11.0+cu130", "13.0", True, "cu12torch2.11cxx11abiTRUE-cp311-cp311-linux_x86_64"),
            ("2.8.3", "3.12", "2.9.0+cu128", "12.8", True, "cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64"),
            ("2.8.3", "3.11", "2.8.0+cu129", "12.9", True, "cu12torch2.8cxx11abiTRUE-cp311-cp311-win_amd64"),
            ("2.8.3", "3.10", "1.12.0+cu113", "11.3", False, "cu11torch1.12cxx11abiFALSE-cp310-cp310-linux_x86_64"),
            ("2.8.3.post1", "3.12", "2.11.0+cu130", "13.0", True, "cu13torch2.11cxx11abiTRUE-cp312-cp312-linux_x86_64"),
            ("2.8.0.post2", "3.13", "2.6.0+cu124", "12.4", False, "cu12torch2.6cxx11abiFALSE-cp313-cp313-linux_x86_64"),
            ("2.7.2.post1", "3.10", "2.4.0+cu121", "12.1", False, "cu12torch2.4cxx11abiFALSE-cp310-cp310-linux_x86_64"),
            ("2.3.3", "3.10", "2.0.1+cu117", "11.7", False, "cu117torch2.0cxx11abiFALSE-cp310-cp310-linux_x86_64"),
            ("2.3.2", "3.10", "2.6.0+cu124", "12.4", False, "cu124torch2.6cxx11abiFALSE-cp310-cp310-linux_x86_64"),
        )
    ),
    (
        *("mamba-ssm", "2.2.4", "3.10", "2.7.0+cu128", "12.8", True),
        "https://github.com/state-spaces/mamba/releases/download/v2.2.4/"
        "mamba_ssm-2.2.4+cu12torch2.7cxx11abiTRUE-cp310-cp310-linux_x86_64.whl",
    ),
    (
        *("fast-hadamard-transform", "1.1.0", "3.12", "2.9.0+cu128", "12.8", True),
        "https://github.com/Dao-AILab/fast-hadamard-transform/releases/download/v1.1.0/"
        "fast_hadamard_transform-1.1.0+cu122torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
    ),
    (
        *("transformer-engine-torch", "2.16.0", "3.11", "2.12.0+cu130", "13.0", True),
        "https://github.com/NVIDIA/TransformerEngine/releases/download/v2.16.0/"
        "transformer_engine_torch-2.16.0+cu13torch2.12.0+cu130cxx11abiTRUE-cp311-cp311-linux_x86_64.whl",
    ),
)


def node(
    torch="2.6.0+cu124",
    cuda="12.4",
    hip=None,
    cxx11_abi=False,
    python="3.11.2",
    machine="x86_64",
    system="linux",
    variables=None,
    **python_facts,
):
    tag = "cp{}{}".format(*python.split("."))
    return {
        "python": {"version": python, "tag": tag, "abi": tag, "implementation": "cpython", **python_facts},
        "platform": {"system": system, "machine": machine, "libc": {"name": "glibc", "version": "2.36"}},
        "torch": torch and {"version": torch, "cuda": cuda, "hip": hip, "cxx11_abi": cxx11_abi},
        "variables": variables or {},
    }


def refusal(name, version, environment):
    with pytest.raises(NoGuessError) as caught:
        guess_wheel(name, version, environment)
    return str(caught.value)


def found_conflicts(name, version, environment):
    return find_conflicts(guess_wheel(name, version, environment), environment)


@pytest.mark.parametrize(("name", "version", "python", "torch", "cuda", "cxx11_abi", "url"), OBSERVED)
def test_guess_is_what_a_real_installation_asked_for(name, version, python, torch, cuda, cxx11_abi, url):
    system = "windows" if url.endswith("win_amd64.whl") else "linux"
    environment = node(torch, cuda, cxx11_abi=cxx11_abi, python=f"{python}.1", system=system)
    assert guess_wheel(name, version, environment).url == url


def test_guess_tells_the_parts_of_the_file_name():
    assert guess_wheel("Flash_Attn", "2.5.3", node("2.2.0+cu121", "12.1")) == (
        "flash-attn",
        "2.5.3",
        "flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl",
        f"{DAO_FLASH}/v2.5.3/flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl",
        "cu122",
        "2.2",
        False,
        "cp311",
        "linux_x86_64",
    )


@pytest.mark.parametrize("mirror", ["https://mirror.example/github/", "https://mirror.example/https://github.com"])
def test_url_starts_with_the_mirror(mirror):
    url = guess_wheel("mamba-ssm", "2.2.4", node(), github_url=mirror).url
    assert url.startswith(f"{mirror.rstrip('/')}/state-spaces/mamba/releases/download/v2.2.4/mamba_ssm-2.2.4+")


def test_version_may_be_spelled_in_other_ways():
    assert guess_wheel("flash-attn", "v2.7.4-1", node()).version == "2.7.4.post1"


def test_missing_variables_are_no_variables():
    environment = node()
    del environment["variables"]
    assert guess_wheel("flash-attn", "2.8.3", environment) == guess_wheel("flash-attn", "2.8.3", node())


@pytest.mark.parametrize(
    ("version", "cuda", "label"),
    [
        ("2.2.2", "11.8", "cu118"),
        ("2.2.3.post2", "11.8", "cu122"),
        ("2.3.0", "11.8", "cu122"),
        ("2.3.1.post1", "11.8", "cu118"),
        ("2.3.1.post1", "12.1", "cu122"),
    ],
)
def test_torch_2_1_has_its_own_label(version, cuda, label):
    assert guess_wheel("flash-attn", version, node("2.1.2", cuda)).label == label
    assert guess_wheel("flash-attn", version, node("2.0.1", cuda)).label == f"cu{cuda.replace('.', '')}"


@pytest.mark.parametrize(
    ("name", "version", "label"), [("flash-attn", "2.8.3", "rocm62"), ("mamba-ssm", "2.2.4", "hip62")]
)
def test_rocm_has_a_label_of_its_own(name, version, label):
    rocm = node("2.6.0+rocm6.2.4", cuda=None, hip="6.2.41134-65d174c3e")
    assert guess_wheel(name, version, rocm).label == label
    assert found_conflicts(name, version, rocm) == []


def test_nvidia_container_names_its_own_release_instead_of_torch():
    image = {"NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "25.09"}
    assert guess_wheel("mamba-ssm", "2.2.6.post3", node(variables=image)).torch == "25.09"
    assert guess_wheel("mamba-ssm", "2.2.5", node(variables=image)).torch == "2.6"
    assert guess_wheel("flash-attn", "2.8.3", node(variables=image)).torch == "2.6"


def test_local_version_goes_into_tag_and_file_name():
    wheel = guess_wheel("flash-attn", "2.8.3", node(variables={"FLASH_ATTN_LOCAL_VERSION": "site.1"}))
    assert "/v2.8.3+site.1/flash_attn-2.8.3+site.1+cu12torch" in wheel.url
    assert wheel.version == "2.8.3"


def test_forced_abi_is_skipped_with_the_build():
    forced = {"FLASH_ATTENTION_FORCE_CXX11_ABI": "TRUE"}
    assert guess_wheel("flash-attn", "2.8.3", node(variables=forced)).cxx11_abi
    skipped = {**forced, "FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"}
    assert not guess_wheel("flash-attn", "2.8.3", node(variables=skipped)).cxx11_abi


@pytest.mark.parametrize(
    ("name", "version", "environment", "words"),
    [
        ("apex", "0.1", node(), ["apex", "flash-attn, causal-conv1d"]),
        ("xformers", "0.0.28", node(), ["xformers downloads no wheel", "torch_extension_sources"]),
        ("flash-attn", "2.6.0", node(), ["2.6.0", "2.5.8", "2.5.9.post1", "2.6.0.post1", "2.6.1"]),
        ("flash-attn", "0.1", node(), ["0.1", "0.2.0"]),
        ("flash-attn", "99.1", node(), ["99.1", PACKAGES["flash-attn"].versions[-1], "this collection can guess"]),
        ("flash-attn", "newest", node(), ["newest is not a version"]),
        ("flash-attn", "2.0.5", node(), ["asks for no wheel", "2.0.6"]),
        ("transformer-engine-torch", "2.7.0", node(), ["asks for no wheel", "2.8.0"]),
        ("flash-attn", "2.8.3", node(torch=None), ["needs torch", "torch_extension_python"]),
        ("flash-attn", "2.8.3", node("2.6.0+cpu", cuda=None), ["2.6.0+cpu", "CPU only", "built for CUDA"]),
        ("flash-attn", "2.6.1", node("2.4.0+rocm6.1", None, "6.1.40091-a8dbc0c19"), ["ROCm", "crashes", "2.6.2"]),
        ("transformer-engine-torch", "2.16.0", node("2.4.0+rocm6.1", None, "6.1.40091"), ["ROCm", "CUDA only"]),
        ("causal-conv1d", "1.7.0", node("2.4.0+rocm6.1", None, "6.1.40091-"), ["6.1.40091-", "crashes"]),
        ("causal-conv1d", "1.5.3.post1", node(cuda="14.0"), ["CUDA 14.0", "11, 12 and 13"]),
        ("transformer-engine-torch", "2.16.0", node(cuda="11.8"), ["CUDA 11.8", "12 and 13"]),
        ("transformer-engine-torch", "2.9.0", node(python="3.9.2"), ["Python 3.9", "3.10 or newer"]),
        ("flash-attn", "2.8.3", node(torch="unknown"), ["unknown"]),
        ("flash-attn", "2.8.3", node(cuda="twelve"), ["twelve"]),
        ("flash-attn", "2.8.3", node(cxx11_abi=None), ["C++11 ABI", "torch_info"]),
        ("flash-attn", "2.8.3", node(system="darwin", machine="arm64"), ["darwin", "Linux"]),
        (
            "flash-attn",
            "2.8.3",
            node(variables={"FLASH_ATTENTION_FORCE_BUILD": "TRUE"}),
            ["FLASH_ATTENTION_FORCE_BUILD=TRUE", "unset it"],
        ),
        ("flash-attn", "2.8.3", node(variables={"BUILD_TARGET": "cpu"}), ["BUILD_TARGET=cpu", "cuda or rocm"]),
        ("flash-attn", "2.8.3", node(variables={"BUILD_TARGET": "rocm"}), ["BUILD_TARGET=rocm", "not built for ROCm"]),
        (
            "transformer-engine-torch",
            "2.16.0",
            node(variables={"NVTE_RELEASE_BUILD": "1"}),
            ["NVTE_RELEASE_BUILD=1", "unset it"],
        ),
    ],
)
def test_no_guess_says_what_was_seen_and_what_is_wanted(name, version, environment, words):
    message = refusal(name, version, environment)
    assert [word for word in words if word not in message] == []
    assert message.endswith(".")


def test_switch_that_is_not_exactly_true_is_off():
    assert guess_wheel("flash-attn", "2.8.3", node(variables={"FLASH_ATTENTION_FORCE_BUILD": "1"}))


def test_transformer_engine_2_9_downloads_in_spite_of_a_forced_build():
    forced = node(variables={"NVTE_PYTORCH_FORCE_BUILD": "TRUE"})
    assert guess_wheel("transformer-engine-torch", "2.9.0", forced)
    assert "NVTE_PYTORCH_FORCE_BUILD" in refusal("transformer-engine-torch", "2.10.0", forced)


def test_no_guess_is_an_error_of_this_collection():
    assert issubclass(NoGuessError, TorchExtensionError)


def test_fitting_wheel_has_no_conflicts():
    assert found_conflicts("flash-attn", "2.8.3", node()) == []


@pytest.mark.parametrize(
    ("version", "environment", "sentence"),
    [
        ("2.8.3", node("2.11.0", "13.0"), "the wheel is built for CUDA 12, torch for CUDA 13.0"),
        ("2.2.5", node("2.1.2+cu118", "11.8", python="3.10.1"), "the wheel is built for CUDA 12, torch for CUDA 11.8"),
        ("2.5.6", node(machine="aarch64"), "the wheel is for linux_x86_64, the node is aarch64"),
        ("2.8.3", node(machine="ppc64le"), "the node is ppc64le, and wheels are published for x86_64 and aarch64 only"),
        ("2.8.3", node(system="windows"), "the node runs windows, and wheels are published for Linux only"),
        ("2.8.3", node(python="3.8.18"), "flash-attn 2.8.3 requires Python >=3.9, the interpreter is 3.8.18"),
        ("2.8.3", node(implementation="pypy"), "the wheel is for CPython, the interpreter is pypy"),
        (
            "2.8.3",
            node(python="3.13.1", abi="cp313t"),
            "the wheel is for cp313, the interpreter is free-threaded (cp313t)",
        ),
        (
            "2.8.3",
            node(variables={"FLASH_ATTENTION_FORCE_CXX11_ABI": "TRUE"}),
            "the wheel is built with the C++11 ABI because FLASH_ATTENTION_FORCE_CXX11_ABI is TRUE, torch without",
        ),
    ],
)
def test_conflict_says_why_the_wheel_cannot_serve(version, environment, sentence):
    assert found_conflicts("flash-attn", version, environment) == [sentence]


def test_wheel_for_glibc_conflicts_with_musl():
    environment = node()
    environment["platform"]["libc"] = {"name": "musl", "version": "1.2"}
    assert found_conflicts("flash-attn", "2.8.3", environment) == ["the wheel is linked with glibc, the node has musl"]


def test_nvidia_container_without_its_release_conflicts():
    environment = node(variables={"NVIDIA_PRODUCT_NAME": "PyTorch"})
    (sentence,) = found_conflicts("causal-conv1d", "1.6.0", environment)
    assert "NVIDIA_PYTORCH_VERSION is not set" in sentence


def test_prerelease_python_satisfies_requires_python():
    assert found_conflicts("flash-attn", "2.8.3", node(python="3.14.0rc1")) == []


def test_linux_arm64_is_aarch64():
    assert found_conflicts("causal-conv1d", "1.7.0", node(machine="arm64")) == []


@pytest.mark.parametrize("name", [name for name, package in PACKAGES.items() if package.versions])
def test_rows_start_at_known_versions_in_order(name):
    package = PACKAGES[name]
    columns = [value for value in package if value and isinstance(value[0], tuple)]
    assert len(columns) >= 5
    for column in columns:
        ages = [package.versions.index(first) for first, _value in column]
        assert ages == sorted(set(ages))


def test_variables_to_probe_are_those_of_all_packages():
    assert {"BUILD_TARGET", "FLASH_ATTN_LOCAL_VERSION", "MAMBA_FORCE_BUILD", "NVIDIA_PRODUCT_NAME"} <= set(VARIABLES)
    assert "MAMBA_FORCE_BUILD" not in variable_names(PACKAGES["flash-attn"])


def test_module_can_be_imported_without_packaging(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.specifiers", None)
    without = runpy.run_path(setup_py.__file__)
    assert without["HAS_PACKAGING"] is False
    assert "packaging" in str(without["PACKAGING_IMPORT_ERROR"])


@pytest.mark.parametrize("module", ["setup_py.py", "packages.py"])
def test_sources_are_python_3_8(module):
    ast.parse(Path(setup_py.__file__).with_name(module).read_text(encoding="utf-8"), feature_version=(3, 8))

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import tarfile

import pytest
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import toolkit


@pytest.fixture
def cuda(tmp_path):
    """What is there after NVIDIA's compiler was unpacked."""
    home = tmp_path / "cuda"
    for path in (
        "bin/nvcc",
        "bin/cudafe++",
        "bin/fatbinary",
        "bin/ptxas",
        "bin/crt/link.stub",
        "nvvm/bin/cicc",
        "nvvm/libdevice/libdevice.10.bc",
        "include/cuda.h",
        "include/cccl/cub/cub.cuh",
        "lib/libcudart.so.13",
    ):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(path)
    return home


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def test_wheels_of_the_compiler_become_a_cuda_home(tmp_path, folder):
    files = {"nvidia/cu13/bin/nvcc": "nvcc", "nvidia/cu13/include/a.h": "a"}
    wheels = [
        build_wheel(tmp_path, "nvidia-cuda-nvcc", "13.0.88", files=files),
        build_wheel(tmp_path, "nvidia-nvvm", "13.0.88", files={"nvidia/cu13/nvvm/bin/cicc": "cicc"}),
    ]
    toolkit.unpack_cuda(map(str, wheels), str(folder))
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["bin/nvcc", "include/a.h", "nvvm/bin/cicc"]


def test_archives_of_the_compiler_become_a_cuda_home(tmp_path, folder):
    archives = []
    for component, path in (("cuda_nvcc", "bin/nvcc"), ("cuda_cudart", "lib/libcudart.so")):
        stem = f"{component}-linux-x86_64-12.8.93-archive"
        (tmp_path / stem / os.path.dirname(path)).mkdir(parents=True)
        (tmp_path / stem / path).write_text(component)
        (tmp_path / stem / path).chmod(0o755)
        archives.append(str(tmp_path / f"{stem}.tar.xz"))
        with tarfile.open(archives[-1], "w:xz") as archive:
            archive.add(tmp_path / stem, stem)
    toolkit.unpack_cuda(archives, str(folder))
    assert (folder / "bin/nvcc").read_text() == "cuda_nvcc"
    assert os.access(folder / "bin/nvcc", os.X_OK)
    assert (folder / "lib/libcudart.so").read_text() == "cuda_cudart"


def test_the_toolkit_has_what_the_linker_looks_for_and_the_front_of_nvcc(cuda, folder, tmp_path):
    torch = tmp_path / "site-packages/nvidia/cublas"
    for path in ("include/cublas.h", "lib/libcublas.so.12"):
        (torch / path).parent.mkdir(parents=True)
        (torch / path).write_text(path)
    toolkit.link_toolkit(str(cuda), [str(torch)], str(folder), "/job/bin/nvcc")
    assert os.readlink(folder / "bin/nvcc") == "/job/bin/nvcc"
    assert (folder / "bin/ptxas").read_text() == "bin/ptxas"
    assert (folder / "include/cuda.h").exists()
    assert (folder / "nvvm/bin/cicc").exists()
    for name in ("libcudart.so", "libcudart.so.13"):
        assert (folder / "lib64" / name).read_text() == (folder / "lib" / name).read_text() == "lib/libcudart.so.13"
    assert (folder / "lib64/libcublas.so").read_text() == "lib/libcublas.so.12"


def test_a_library_that_has_its_links_keeps_them(cuda, folder):
    (cuda / "lib64").mkdir()
    (cuda / "lib64/libcudart.so").symlink_to("../lib/libcudart.so.13")
    toolkit.link_toolkit(str(cuda), [], str(folder), "/job/bin/nvcc")
    assert os.readlink(folder / "lib64/libcudart.so") == f"{cuda}/lib64/libcudart.so"


def test_nvcc_finds_fronts_for_its_parts(cuda, folder):
    toolkit.link_compiler(str(cuda), str(folder), "/job/bin")
    links = {str(path.relative_to(folder)): os.readlink(path) for path in folder.rglob("*") if path.is_symlink()}
    fronts = {part: f"/job/bin/{os.path.basename(part)}" for part in toolkit.NVCC_PARTS}
    assert {part: links[part] for part in toolkit.NVCC_PARTS} == fronts
    assert links["bin/nvcc"] == f"{cuda}/bin/nvcc"
    assert (folder / "bin/crt/link.stub").read_text() == "bin/crt/link.stub"
    assert (folder / "nvvm/libdevice/libdevice.10.bc").exists()
    assert links["include"] == f"{cuda}/include"


def test_headers_are_those_of_the_compiler_before_those_that_torch_brings(cuda, tmp_path):
    site = tmp_path / "site-packages"
    for name in ("cu13", "cusparselt"):
        (site / "nvidia" / name / "include").mkdir(parents=True)
    (site / "nvidia/cu13/include/cccl").mkdir()
    (site / "nvidia/nccl/lib").mkdir(parents=True)
    found = toolkit.find_nvidia_folders([str(tmp_path / "none"), str(site)])
    assert found == [f"{site}/nvidia/cu13", f"{site}/nvidia/cusparselt"]
    assert toolkit.include_path(str(cuda), found) == [
        f"{cuda}/include",
        f"{cuda}/include/cccl",
        f"{site}/nvidia/cu13/include",
        f"{site}/nvidia/cu13/include/cccl",
        f"{site}/nvidia/cusparselt/include",
    ]

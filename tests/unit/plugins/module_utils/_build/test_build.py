# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real file of CUDA, compiled by NVIDIA's compiler from the index, and what a build is made of."""

from __future__ import annotations

import pytest
from builds import cuda_compiler, make_sdist
from venvs import site_packages

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.build import count_jobs, label_filename
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.facts import read_facts

CUDA_SETUP = """
import os, subprocess
from setuptools import setup, Extension
from setuptools.command.build_ext import build_ext

class Build(build_ext):
    def build_extension(self, extension):
        target, folder = os.path.abspath(self.get_ext_fullpath(extension.name)), os.path.abspath(self.build_temp)
        for path in (os.path.dirname(target), folder):
            os.makedirs(path, exist_ok=True)
        nvcc, built = os.path.join(os.environ["CUDA_HOME"], "bin", "nvcc"), os.path.join(folder, "k.o")
        gencode = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in (75, 80, 90, 100)]
        options = ["-O2", "-lineinfo", "-std=c++17", "-Xcompiler", "-fPIC", "--threads", "4"]
        subprocess.run([nvcc, "-c", os.path.abspath("k.cu"), "-o", built, *options, *gencode], check=True)
        subprocess.run([os.environ["CXX"], "-shared", built, "-o", target, f"-L{os.environ['CUDA_HOME']}/lib64", "-lcudart"], check=True)

setup(name="small-cuda", version="0.1", ext_modules=[Extension("small_cuda", ["k.cu"])], cmdclass={"build_ext": Build})
"""
KERNEL = """
#include <cuda/std/cstdint>
static_assert(__cplusplus >= 202002L);
namespace { __device__ cuda::std::int32_t table[4]; }
static __global__ void kernel(int* out) { *out = table[threadIdx.x]; }
extern "C" const char* run(int* out) { kernel<<<1, 4>>>(out); return __FILE__; }
"""


@pytest.mark.slow
def test_a_file_is_compiled_for_our_architectures_alone_and_to_the_same_bytes_elsewhere(
    builds, make_venv, make_torch, tmp_path
):
    venv = make_venv()
    make_torch(site_packages(venv), version="__version__ = '2.14.1+cu130'\ncuda: Optional[str] = '13.0'\n")
    builds.python = str(venv)
    sdist = make_sdist(tmp_path, {"setup.py": CUDA_SETUP, "k.cu": KERNEL}, "small_cuda-0.1")
    digests = []
    for folder in (builds.folder, tmp_path / "another" / "folder"):
        builds.folder = folder
        toolchain = {"wheels": [builds.bring(path) for path in cuda_compiler()]}
        more = {"toolchain": toolchain, "archs": ["9.0", "12.0+PTX"], "cxx_standard": "c++20"}
        done = builds.build(builds.make_job(sdist, f"in-{folder.name}", name="small-cuda", **more))
        assert done["state"] == "finished", done
        digests.append(done["wheel"]["sha256"])
        builds.end_all()
    assert done["compilers"]["nvcc"].startswith("13.0.")
    facts = read_facts(done["wheel"]["path"])
    assert facts["architectures"] == {"sass": ["90", "120"], "ptx": ["120"]}
    assert facts["cuda"] == "13"
    assert facts["problems"] == []
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("cores", "memory", "per_job", "jobs"),
    [(16, 64000, 4000, 16), (16, 9000, 4000, 2), (16, 3000, 4000, 1), (4, 9000, 0, 4)],
)
def test_as_many_compilers_run_as_cores_and_memory_allow(cores, memory, per_job, jobs):
    assert count_jobs(cores, memory, per_job) == jobs


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (None, "p-1.0-cp311-cp311-linux_x86_64.whl"),
        ("cu13", "p-1.0+cu13-cp311-cp311-linux_x86_64.whl"),
    ],
)
def test_a_label_goes_into_the_name_of_the_file(label, name):
    assert label_filename("p-1.0-cp311-cp311-linux_x86_64.whl", label) == name


def test_a_label_goes_behind_one_that_is_there():
    assert label_filename("p-1.0+a-py3-none-any.whl", "cu13") == "p-1.0+a.cu13-py3-none-any.whl"

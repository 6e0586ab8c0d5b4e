# SPDX-License-Identifier: GPL-3.0-or-later
"""As upstream's setup.py does it: architectures of its own choice, and an attempt to download a wheel unless it is told to build."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import torch
from packaging.version import Version, parse
from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CUDAExtension
from wheel.bdist_wheel import bdist_wheel

VERSION = "1.7.0"
FORCE_BUILD = os.getenv("CAUSAL_CONV1D_FORCE_BUILD", "FALSE") == "TRUE"

release = subprocess.check_output([f"{CUDA_HOME}/bin/nvcc", "-V"], text=True).split("release ")[1].split(",")[0]
architectures = ["-gencode", "arch=compute_75,code=sm_75", "-gencode", "arch=compute_80,code=sm_80"]
if parse(release) >= Version("11.8"):
    architectures += ["-gencode", "arch=compute_90,code=sm_90"]


class CachedWheelsCommand(bdist_wheel):
    def run(self):
        if not FORCE_BUILD:
            torch_version = parse(torch.__version__)
            python = f"cp{sys.version_info.major}{sys.version_info.minor}"
            urllib.request.urlretrieve(
                f"https://github.com/Dao-AILab/causal-conv1d/releases/download/v{VERSION}/causal_conv1d-{VERSION}"
                f"+cu{parse(torch.version.cuda).major}torch{torch_version.major}.{torch_version.minor}"
                f"cxx11abi{str(torch._C._GLIBCXX_USE_CXX11_ABI).upper()}-{python}-{python}-linux_x86_64.whl",
                "downloaded.whl",
            )
        super().run()


setup(
    name="causal_conv1d",
    version=VERSION,
    packages=["causal_conv1d"],
    ext_modules=[
        CUDAExtension(
            name="causal_conv1d_cuda",
            sources=["csrc/causal_conv1d.cpp", "csrc/causal_conv1d_fwd.cu"],
            extra_compile_args={"cxx": ["-O1"], "nvcc": ["-O3", "--threads", "4", *architectures]},
            include_dirs=[Path(__file__).resolve().parent / "csrc"],
        )
    ],
    cmdclass={"bdist_wheel": CachedWheelsCommand, "build_ext": BuildExtension},
    python_requires=">=3.9",
    install_requires=["torch"],
)

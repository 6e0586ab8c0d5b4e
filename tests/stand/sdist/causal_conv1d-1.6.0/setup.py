# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small C++ files and no CUDA: what can be stopped in the middle, and goes on from the objects that are there."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

PARTS = 16

setup(
    name="causal_conv1d",
    version="1.6.0",
    packages=["causal_conv1d"],
    ext_modules=[
        CppExtension(
            "causal_conv1d_cuda",
            ["csrc/causal_conv1d.cpp", *(f"csrc/part_{part:02}.cpp" for part in range(1, PARTS + 1))],
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    python_requires=">=3.9",
    install_requires=["torch"],
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the stand's flash_attn, as upstream's setup.py does: with torch's own extension builder."""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

READY = "flash_attn_2_cuda.abi3.so"  # compiled before, be it for another machine


class TakeReady(build_ext):
    def build_extension(self, ext):
        self.copy_file(READY, self.get_ext_fullpath(ext.name))


extension = {}
if os.path.exists(READY):
    extension = {
        "ext_modules": [Extension("flash_attn_2_cuda", [], py_limited_api=True)],
        "cmdclass": {"build_ext": TakeReady},
    }
elif os.environ["STAND_WHEEL_KIND"] == "lying":
    extension = {"ext_modules": [Extension("flash_attn_2_cuda", ["flash_attn_2_cuda.c"])]}
if os.environ["STAND_WHEEL_KIND"] == "stable":
    from torch.utils.cpp_extension import library_paths

    module = Extension(
        "flash_attn_2_cuda",
        ["flash_attn_2_cuda.c"],
        libraries=["torch_cpu"],
        library_dirs=library_paths(),
        py_limited_api=True,
    )
    extension = {"ext_modules": [module]}
if os.environ["STAND_WHEEL_KIND"] in ("real", "wrong"):
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    arguments = ["-g0", "-O1", *(["-DSTAND_WRONG"] if os.environ["STAND_WHEEL_KIND"] == "wrong" else [])]
    extension = {
        "ext_modules": [CppExtension("flash_attn_2_cuda", ["flash_attn_2_cuda.cpp"], extra_compile_args=arguments)],
        "cmdclass": {"build_ext": BuildExtension.with_options(use_ninja=False)},
    }

setup(
    name="flash_attn",
    version=os.environ["STAND_WHEEL_VERSION"],  # without the label, which only the file name has
    packages=["flash_attn"],
    install_requires=["torch", "einops"],
    **extension,
)

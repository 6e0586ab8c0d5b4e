# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real environment with a small torch whose libraries are real ones, and wheels of an extension compiled for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from binaries import compile_library
from venvs import site_packages
from wheels import build_wheel

TAG = "cp{}{}".format(*sys.version_info[:2])
TAGS = f"{TAG}-{TAG}-linux_{os.uname().machine}"
C10 = """
#include <string>
namespace c10 {
struct SourceLocation { const char *function, *file; unsigned line; };
struct Error { Error(SourceLocation, std::string); std::string message; };
}
"""
_USE = 'extern "C" void *probe() { return new c10::Error({"", "", 0}, "no"); }\n'
#: of torch's stable C interface
_SHIM = 'extern "C" int aoti_torch_get_dim(void *tensor, long *dimensions)'
_USE_SHIM = f'{_SHIM};\nextern "C" int probe() {{ return aoti_torch_get_dim(nullptr, nullptr); }}\n'
_GONE = "namespace at { int gone(); } int use = at::gone();\n"


def put_torch(venv: Path) -> Path:
    """Put torch 2.6 for CUDA 12.4 into an environment. Returns the folder of its libraries."""
    torch = site_packages(venv) / "torch"
    lib = torch / "lib"
    lib.mkdir(parents=True)
    (torch / "__init__.py").touch()
    (torch / "version.py").write_text("__version__ = '2.6.0+cu124'\ncuda = '12.4'\nhip = None\n")
    error = "c10::Error::Error(SourceLocation, std::string text) : message(text) {}\n"
    compile_library(lib / "libc10.so", C10 + error + _SHIM + "{ return 0; }\n", soname="libc10.so")
    compile_library(lib / "libtorch_global_deps.so", "", language="c")
    linked = (f"-L{lib}", "-Wl,--no-as-needed", "-lc10", "-Wl,-rpath,$ORIGIN/lib")
    compile_library(torch / "_C.cpython-xyz.so", "", *linked, language="c")
    return lib


def extension_wheel(folder: Path, lib: Path, torch: str, serves: bool = True, **more) -> Path:
    """A wheel of flash-attn for some torch, with a library.

    :param serves: whether this torch has all that the library needs
    """
    library = folder.with_name("compiled") / f"{torch}.so"
    compile_library(library, C10 + _USE + ("" if serves else _GONE), f"-L{lib}", "-lc10")
    member = ("flash_attn_2_cuda.so", library.read_bytes())
    return build_wheel(folder, **{"label": f"cu12torch{torch}cxx11abiTRUE", "tags": TAGS, "extra": [member], **more})


def stable_wheel(folder: Path, lib: Path, **more) -> Path:
    """A wheel of flash-attn without a label, whose library needs only what torch keeps stable."""
    library = compile_library(folder.with_name("compiled") / "stable.so", _USE_SHIM, f"-L{lib}", "-lc10")
    member = ("flash_attn_2_cuda.abi3.so", library.read_bytes())
    tags = f"cp39-abi3-linux_{os.uname().machine}"
    return build_wheel(folder, **{"tags": tags, "extra": [member], **more})

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The C++ compilers and the nvcc of a machine."""

from __future__ import annotations

import glob
import os
import re
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run

#: where NVIDIA's own installers put CUDA
_CUDA_HOME = "/usr/local/cuda"
_MAX_GCC = re.compile(r"__GNUC__ > (\d+)")
_NEWEST_GCC, _OLDEST_GCC = 20, 8  # of those whose commands have the version in their name
HOST_CONFIG = "include/crt/host_config.h"


class Compiler(t.NamedTuple):
    """A compiler."""

    path: str
    version: str  # "12.2.0"

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


class Pair(t.NamedTuple):
    """The compilers for C and C++ of one version."""

    cc: Compiler | None
    cxx: Compiler


class Nvcc(t.NamedTuple):
    """NVIDIA's compiler."""

    path: str
    home: str
    version: str  # of CUDA: "13.0"
    build: str  # "13.0.88"
    max_gcc: int | None  # the newest major version of gcc that it takes


def find_pairs(search_path: str, run: Run) -> list[Pair]:
    """The compilers of a machine: first the one that is meant by default, then others whose names have a version, newest first."""
    suffixes = ["", *(f"-{version}" for version in range(_NEWEST_GCC, _OLDEST_GCC - 1, -1))]
    names = [(f"gcc{suffix}", f"g++{suffix}") for suffix in suffixes]
    found: dict[str, Pair] = {}
    for cc_name, cxx_name in [*names[:1], ("cc", "c++"), *names[1:], ("clang", "clang++")]:
        cxx = _find(cxx_name, search_path, run)
        if cxx is not None:
            found.setdefault(os.path.realpath(cxx.path), Pair(_find(cc_name, search_path, run), cxx))
    return list(found.values())


def _find(name: str, search_path: str, run: Run) -> Compiler | None:
    path = shutil.which(name, path=search_path)
    if path is None:
        return None
    for question in (["-dumpfullversion", "-dumpversion"], ["-dumpversion"]):
        status, out, _err = run([path, *question])
        if status == 0 and re.fullmatch(r"\d+(\.\d+)*", out.strip()):
            return Compiler(path, out.strip())
    return None


def find_nvcc(search_path: str, environ: t.Mapping[str, str], run: Run) -> Nvcc | None:
    """The nvcc of a machine, as torch looks for it: by variables, on the PATH, and where NVIDIA puts it."""
    on_path = shutil.which("nvcc", path=search_path)
    homes = [environ.get("CUDA_HOME"), environ.get("CUDA_PATH")]
    homes += [os.path.dirname(os.path.dirname(os.path.realpath(on_path))) if on_path else None, _CUDA_HOME]
    versions = sorted(glob.glob(f"{_CUDA_HOME}-*"), key=lambda path: [int(n) for n in re.findall(r"\d+", path)])
    for home in dict.fromkeys([*homes, *reversed(versions)]):
        found = look_at_nvcc(home, run) if home else None
        if found:
            return found
    return None


def look_at_nvcc(home: str, run: Run) -> Nvcc | None:
    """The nvcc of a CUDA home, or None if there is none that runs, or no headers: a script elsewhere may stand for nvcc."""
    path = os.path.join(home, "bin", "nvcc")
    try:
        with open(os.path.join(home, HOST_CONFIG), encoding="utf-8", errors="replace") as file:
            max_gcc = parse_max_gcc(file.read())
    except OSError:
        return None
    _status, out, _err = run([path, "--version"])
    release = re.search(r"release (\d+\.\d+), V(\d+(?:\.\d+)+)", out)
    return Nvcc(path, home, release[1], release[2], max_gcc) if release else None


def parse_max_gcc(host_config: str) -> int | None:
    """The newest major version of gcc that an nvcc takes, from its header ``crt/host_config.h``."""
    limit = _MAX_GCC.search(host_config)
    return int(limit[1]) if limit else None


def is_repeatable(nvcc: str, run: Run) -> bool:
    """Whether an nvcc has the options that make it write the same each time."""
    _status, out, _err = run([nvcc, "--help"])
    return "--frandom-seed" in out and "--objdir-as-tempdir" in out

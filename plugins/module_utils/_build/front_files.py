# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Write the fronts of the compilers into the folder of a build."""

from __future__ import annotations

import os
import shlex
import sys
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import (
    fronts,
    own_sources,
    toolkit,
    unpacking,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.compilers import Pair
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder, write_json

# Names that stand in what is built for the folders of this machine.
_SOURCES_NAME, _PACKAGES_NAME, _CUDA_NAME, _FOLDER_NAME = "/build", "/packages", "/cuda", "/job"


def write_fronts(
    folder: JobFolder,
    pair: Pair,
    cuda: str | None,
    is_repeatable: bool,
    packages: t.Iterable[str],
    source: str,
    archs: t.Iterable[str],
    standard: str | None,
) -> None:
    """Write them, and what they read.

    :param cuda: a CUDA home, or None
    :param is_repeatable: whether its nvcc is (``compilers.is_repeatable``)
    :param packages: folders of Python packages, whose headers are read
    :param source: the folder of what is built
    :param archs: architectures of GPUs: "9.0", "12.0+PTX"
    :param standard: of C++, the oldest to compile with; None for any
    """
    unpacking.remove(folder.bin)
    host = os.path.join(folder.bin, "host", "g++")  # nvcc knows compilers by their names
    os.makedirs(os.path.dirname(host))
    script = os.path.join(folder.bin, "fronts.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(own_sources.read_source(fronts.__name__) or "")
    programs = {"c++": pair.cxx.path, "host": pair.cxx.path, "cc": (pair.cc or pair.cxx).path}
    maps = [(folder.path, _FOLDER_NAME), *((path, _PACKAGES_NAME) for path in packages)]
    if cuda:
        programs["nvcc"] = os.path.join(folder.compiler, "bin", "nvcc")
        programs.update({os.path.basename(part): os.path.join(cuda, part) for part in toolkit.NVCC_PARTS})
        maps += [(path, _CUDA_NAME) for path in (cuda, folder.toolkit, folder.compiler)]
    settings = {
        "compiled": folder.compiled,
        "standard": standard,
        "maps": [*maps, (source, _SOURCES_NAME)],
        "archs": [arch.replace(".", "") for arch in archs],
        "repeatable": is_repeatable,
        "host": host,
        "programs": programs,
    }
    write_json(os.path.join(folder.bin, "fronts.json"), settings)
    for program in programs:
        path = host if program == "host" else os.path.join(folder.bin, program)
        _write_front(path, script, program)
    for alias, program in (("g++", "c++"), ("gcc", "cc")):
        os.symlink(program, os.path.join(folder.bin, alias))


def _write_front(path: str, script: str, program: str) -> None:
    command = " ".join(map(shlex.quote, (sys.executable, "-IS", script, program)))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {command} "$@"\n')
    os.chmod(path, 0o700)

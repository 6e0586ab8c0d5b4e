# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What packages need to be built from source, as data: one row per package, and sensible defaults for those without one.

Source of every row: ``setup.py`` (for transformer-engine-torch also ``build_tools/``) in the sdists on the package index, the newest of
which were flash-attn 2.8.3.post2, causal-conv1d 1.7.0, mamba-ssm 2.3.2.post1, fast-hadamard-transform 1.1.0 and
transformer-engine-torch 2.20.2. ``tests/conformance`` holds the names of variables and the paths against all of them. Each of these
``setup.py`` runs ``CUDA_HOME/bin/nvcc -V`` for the version and none runs ``nvidia-smi``; all but transformer-engine-torch's fail
without an nvcc. What a row takes for memory and time is measured where it says so, else estimated.
"""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple, Sequence, TypeVar

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.version import Version

T = TypeVar("T")
D = TypeVar("D")

ON = "TRUE"  # upstream ignores "true" and "1"

#: From which torch (major.minor) on its own headers need which C++, oldest first. 2.13: std::strong_ordering in
#: c10/util/intrusive_ptr.h. A package may ask for more, but not for less.
CXX_STANDARDS = (("2.13", "c++20"),)

#: Which setuptools torch/utils/cpp_extension.py can do with, from which torch (major.minor) on. Before 2.2 it imports packaging from
#: pkg_resources, which setuptools 70 has not; bdist_wheel moved from wheel 0.46 to setuptools 70.1. The others are in its METADATA.
SETUPTOOLS = (
    ("0.0", ("setuptools<70", "wheel<0.46")),
    ("2.2", ("setuptools<82",)),
    ("2.14", ("setuptools>=77.0.3",)),
)

#: What each build takes, whatever the sdist says: pip builds, setuptools and wheel are what setup.py imports, torch runs ninja.
REQUIREMENTS = ("pip", "setuptools", "wheel", "ninja", "packaging")

#: The archive of a tag on GitHub, which has no submodules.
TAG_ARCHIVE = "{repository}/archive/refs/tags/v{version}.tar.gz"


class Build(NamedTuple):
    """The facts of one package."""

    #: variables that make setup.py compile, and do nothing else
    environ: tuple[tuple[str, str], ...] = ()
    #: the same, where the headers of CUDA come from wheels (a toolkit has all of them)
    environ_without_toolkit: tuple[tuple[str, str], ...] = ()
    #: beside REQUIREMENTS and what pyproject.toml of the sdist lists
    requirements: tuple[str, ...] = ()
    #: takes the architectures as in "90;120"; packages without one have their own list, or torch's TORCH_CUDA_ARCH_LIST
    archs_variable: str | None = None
    cxx_standards: tuple[tuple[str, str], ...] = CXX_STANDARDS
    #: of memory that a compiler takes at most, with NVCC_THREADS=1
    memory_per_job_mib: int = 3072
    #: of one core, for each architecture; None if nobody knows
    core_minutes_per_arch: int | None = None
    #: of one core, whatever the architectures
    core_minutes: int = 0
    #: free disk for the unpacked sdist and the objects
    disk_mib: int = 2048
    #: paths below the top of the sdist without which nothing can be compiled: (first version, paths), oldest first
    contents: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: OWNER/NAME on GitHub, the archives of whose tags have these contents
    repository: str | None = None


DEFAULT = Build()

BUILDS = {
    "flash-attn": Build(
        environ=(("FLASH_ATTENTION_FORCE_BUILD", ON),),
        # setup_requires has it since 2.5.4, which setuptools would download
        requirements=("psutil",),
        # since 2.7.3; what is neither 80, 90, 100 nor 120 is left out, and then -gencode is missing
        archs_variable="FLASH_ATTN_CUDA_ARCHS",
        # upstream's own rule is 9 GB a job with four threads
        memory_per_job_mib=4096,
        core_minutes_per_arch=216,  # estimated: 72 files, three minutes each
        disk_mib=4096,
        # a submodule: sdists have it, archives of tags have not
        contents=(("2.0.0.post1", ("csrc/flash_attn", "csrc/cutlass/include/cutlass/cutlass.h")),),
    ),
    "causal-conv1d": Build(
        environ=(("CAUSAL_CONV1D_FORCE_BUILD", ON),),
        memory_per_job_mib=2048,
        core_minutes_per_arch=11,  # measured: 1.7.0, torch 2.14.1, sm_90, two jobs, 5 min 40 s
        # sdists have it since 1.5.2
        contents=(("1.0.0", ("csrc/causal_conv1d.cpp",)),),
        repository="Dao-AILab/causal-conv1d",
    ),
    "mamba-ssm": Build(
        environ=(("MAMBA_FORCE_BUILD", ON),),
        memory_per_job_mib=3072,
        core_minutes_per_arch=45,  # estimated: nine files, five minutes each
        # sdists have it since 2.2.5
        contents=(("1.0.1", ("csrc/selective_scan/selective_scan.cpp",)),),
        repository="state-spaces/mamba",
    ),
    "fast-hadamard-transform": Build(
        environ=(("FAST_HADAMARD_TRANSFORM_FORCE_BUILD", ON),),
        memory_per_job_mib=2048,
        core_minutes_per_arch=5,  # estimated: one file
        # no sdist has it
        contents=(("1.0.0.post1", ("csrc/fast_hadamard_transform.cpp",)),),
        repository="Dao-AILab/fast-hadamard-transform",
    ),
    "transformer-engine-torch": Build(
        environ=(
            ("NVTE_PYTORCH_FORCE_BUILD", ON),
            # else the commit of a Git repository around the folder becomes a part of the version
            ("NVTE_NO_LOCAL_VERSION", "1"),
            # nccl_ep.h is in no sdist
            ("NVTE_WITH_NCCL_EP", "0"),
        ),
        # the headers of cuDNN and cuBLAS lie beside torch then
        environ_without_toolkit=(("NVTE_BUILD_USE_NVIDIA_WHEELS", "1"),),
        archs_variable="NVTE_CUDA_ARCHS",
        memory_per_job_mib=2048,
        core_minutes_per_arch=0,  # it is C++ alone: its kernels are in transformer-engine-cu13
        core_minutes=40,  # estimated: some forty files
        contents=(("1.9.0", ("csrc", "common_headers/common/common.h")),),
    ),
}


def find_build(name: str) -> Build:
    """What a package needs.

    :param name: normalised
    """
    return BUILDS.get(name, DEFAULT)


def cxx_standard(build: Build, torch: str) -> str | None:
    """The C++ that sources have to be compiled as with a version of torch; None if what setup.py says will do."""
    return _row_for(torch, build.cxx_standards, None)


def list_requirements(build: Build, torch: str) -> tuple[str, ...]:
    """What is to be in the environment of a build with a version of torch, beside what the sdist itself lists."""
    return (*REQUIREMENTS, *_row_for(torch, SETUPTOOLS, ()), *build.requirements)


def _row_for(torch: str, rows: Sequence[tuple[str, T]], default: D) -> T | D:
    """The value of the last row whose torch is not newer."""
    found: T | D = default
    for first, value in rows:
        if _major_minor(torch) >= _major_minor(first):
            found = value
    return found


def _major_minor(version: str) -> list[int]:
    """Of builds before a release, too, which have its headers. Of what begins with no such numbers, nothing."""
    match = re.match(r"v?(\d{1,9})\.(\d{1,9})", version)
    return [int(number) for number in match.groups()] if match else []


def required_contents(build: Build, version: str) -> tuple[str, ...]:
    """The paths without which a version cannot be compiled, as far as anybody knows."""
    found: tuple[str, ...] = ()
    for first, paths in build.contents:
        if Version(version) >= Version(first):
            found = paths
    return found


def tag_archive(build: Build, version: str) -> str | None:
    """The path on GitHub of the sources of a version that are complete where the sdist is not; None if there are none."""
    return TAG_ARCHIVE.format(repository=build.repository, version=version) if build.repository else None


def format_archs(archs: Sequence[str]) -> str:
    """Architectures such as 9.0 and 12.0+PTX as ``archs_variable`` takes them: 90;120."""
    return ";".join(dict.fromkeys(arch.partition("+")[0].replace(".", "") for arch in archs))


def make_environ(build: Build, archs: Sequence[str], has_toolkit: bool = True) -> dict[str, str]:
    """The variables of the environment that a package is built in, beside those of all builds.

    :param has_toolkit: whether CUDA's headers come from a whole toolkit
    """
    environ = dict(build.environ)
    if not has_toolkit:
        environ.update(build.environ_without_toolkit)
    if build.archs_variable and archs:
        environ[build.archs_variable] = format_archs(archs)
    return environ


def estimate_core_minutes(build: Build, archs: Sequence[str]) -> int | None:
    """For how many minutes one core is at work; None if nobody knows."""
    if build.core_minutes_per_arch is None:
        return None
    return build.core_minutes + build.core_minutes_per_arch * len(archs)

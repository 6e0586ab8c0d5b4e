# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""How a wheel is built on a machine: against which torch, with which compilers, for which GPUs."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import join_names
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds as table
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import (
    MAX_NODES,
    Build,
    explain_unable,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.following import format_time
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import (
    describe_architectures,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import BuildKind, glibc_numbers

#: where a toolchain comes from: it is on the builder, from the index, from NVIDIA's archives; or none is needed
FOUND, WHEELS, ARCHIVES, NONE = "found", "wheels", "archives", "none"
_WORDS = {WHEELS: "brought as wheels", ARCHIVES: "brought as NVIDIA's archives"}
_FIRST_CUDA_ON_INDEX = 13

Machine = t.Mapping[str, t.Any]


class Limits(t.NamedTuple):
    """What the operator allows a build."""

    time_limit: int = 240 * 60  # seconds
    jobs: int = 0  # compilers at once; 0: as many as cores and memory allow


class Materials(t.NamedTuple):
    """The files of a build on the control node."""

    sdist: File
    requirements: list[File]
    torch: list[File]  # empty where the builder has the right one
    toolchain: list[File]  # empty where the builder has one, or none is wanted

    def files(self) -> list[File]:
        """All of them, each once."""
        return list(dict.fromkeys([self.sdist, *self.requirements, *self.torch, *self.toolchain]))


class Method(t.NamedTuple):
    """How a wheel is built on a machine."""

    brings_torch: bool
    toolchain: str  # FOUND, WHEELS, ARCHIVES or NONE
    nvcc: str | None  # its version, or as much of it as is known before it is there
    nvcc_home: str | None  # of FOUND
    cxx: str
    jobs: int
    minutes: int | None  # about how long it takes; None if nobody knows


def choose_method(
    build: Build, machine: Machine, uses_cuda: bool, cuda_place: str, limits: Limits = Limits()
) -> Method:
    """Choose how to build on a machine.

    :param machine: as build_job has described it
    :param uses_cuda: whether anything of it is compiled for GPUs
    :param cuda_place: a mirror or a folder of NVIDIA's archives; empty, if the operator names none
    :raises TorchExtensionError: if it cannot be built there
    """
    _check_machine(build, machine)
    if uses_cuda and not build.architectures:
        raise TorchExtensionError(
            f"{build.name} {build.version} is compiled for GPUs, and none of {join_names(build.nodes, MAX_NODES)} says which it has. Set"
            " torch_extension_build_archs, such as ['9.0'] for an H100 or H200."
        )
    facts, major = table.find_build(build.name), build.cuda.partition(".")[0]
    nvcc = machine["nvcc"]
    home = None
    if not uses_cuda:
        toolchain, version = NONE, None
    elif nvcc and nvcc["version"].partition(".")[0] == major:
        toolchain, version, home = FOUND, nvcc["version"], nvcc["home"]
    elif cuda_place or int(major) < _FIRST_CUDA_ON_INDEX:
        toolchain, version = ARCHIVES, build.cuda
    else:
        toolchain, version = WHEELS, build.cuda
    jobs = limits.jobs or max(1, min(machine["cores"], machine["memory_mib"] // facts.memory_per_job_mib))
    core_minutes = table.estimate_core_minutes(facts, build.architectures)
    return Method(
        brings_torch=not _has_torch(build, machine),
        toolchain=toolchain,
        nvcc=version,
        nvcc_home=home,
        cxx=machine["cxx"]["version"],
        jobs=jobs,
        minutes=None if core_minutes is None else max(1, round(core_minutes / jobs)),
    )


def _check_machine(build: Build, machine: Machine) -> None:
    """
    :raises TorchExtensionError: if what is built there could not serve the nodes, or nothing can be compiled
    """
    python, kind = machine["python"], BuildKind(**build.kind)
    where = f"{build.name} {build.version} cannot be built on {build.builder}"
    if machine["machine"] != kind.machine:
        raise TorchExtensionError(
            f"{where}: that is {machine['machine']}, and {join_names(build.nodes, MAX_NODES)} want it for {kind.machine}. Name another machine in"
            " torch_extension_builder."
        )
    if python["abi"] != kind.python:
        raise TorchExtensionError(
            f"{where}: {python['executable']} there is Python {python['abi']}, wanted is {kind.python}, as {join_names(build.nodes, MAX_NODES)} have it."
            " Name another interpreter in torch_extension_build_python, or another machine in torch_extension_builder."
        )
    if build.libc and machine["libc"] and glibc_numbers(machine["libc"]) > glibc_numbers(build.libc):
        raise TorchExtensionError(
            f"{where}: its glibc is {machine['libc']}, and what is compiled with that does not load with glibc {build.libc}, which"
            f" {join_names(build.nodes, MAX_NODES)} have. Name a machine with an older one in torch_extension_builder."
        )
    unable = explain_unable(machine)
    if unable:
        raise TorchExtensionError(
            f"{where}: it has {unable}. Install that there, or name another machine in torch_extension_builder."
        )


def check_room(build: Build, machine: Machine) -> None:
    """Refuse a build for which the machine is too small before anything is brought; build_job looks again before it begins.

    :raises TorchExtensionError: if there is too little disk, or too little memory for one compiler
    """
    row, package = table.find_build(build.name), f"{build.name} {build.version}"
    if row.disk_mib > machine["free_mib"]:
        raise TorchExtensionError(
            f"{machine['folder']} on {build.builder} has {machine['free_mib']} MiB free, a build of {package} wants {row.disk_mib} MiB. Make"
            " room there, set torch_extension_build_dir, or name another machine in torch_extension_builder."
        )
    # of a machine that Slurm allocates nothing is known yet
    if not build.is_slurm and row.memory_per_job_mib > machine["memory_mib"]:
        raise TorchExtensionError(
            f"{build.builder} has {machine['memory_mib']} MiB of memory free, one compiler of {package} wants"
            f" {row.memory_per_job_mib} MiB. Free some, or name another machine in torch_extension_builder."
        )


def _has_torch(build: Build, machine: Machine) -> bool:
    """Whether the torch of the environment on the builder is one like that of the nodes."""
    torch = machine["torch"]
    if not torch:
        return False
    environment = {
        "python": machine["python"],
        "platform": {"machine": machine["machine"]},
        "torch": {"hip": None, **torch},
    }
    return BuildKind.of(environment) == BuildKind(**build.kind)


def make_job(
    build: Build, method: Method, epoch: int, materials: Materials, limits: Limits, slurm_options: list[str]
) -> dict[str, t.Any]:
    """What build_job is told.

    :param epoch: of the files in the wheel, in seconds
    """
    row = table.find_build(build.name)
    toolchain: dict[str, dict[str, t.Any] | None] = {
        NONE: None,
        FOUND: {"home": method.nvcc_home},
        WHEELS: {"wheels": _describe(materials.toolchain)},
        ARCHIVES: {"archives": _describe(materials.toolchain)},
    }
    return {
        "id": build.id,
        "name": build.name,
        "version": build.version,
        "sdist": _describe([materials.sdist])[0],
        "requirements": _describe(materials.requirements),
        "torch": _describe(materials.torch),
        "toolchain": toolchain[method.toolchain],
        "archs": build.architectures if method.toolchain != NONE else [],
        "cxx_standard": table.cxx_standard(row, build.torch),
        "environ": table.make_environ(row, build.architectures, has_toolkit=method.toolchain != WHEELS),
        "epoch": epoch,
        "time_limit": limits.time_limit,
        "jobs": limits.jobs,
        "memory_per_job_mib": row.memory_per_job_mib,
        "disk_mib": row.disk_mib,
        "label": BuildKind(**build.kind).label,
        "slurm": {"options": slurm_options} if build.is_slurm else None,
    }


def describe_estimate(method: Method) -> str:
    """About how long a build takes, as the end of a sentence; empty if nobody knows."""
    if method.minutes is None:
        return ""
    compilers = "one compiler" if method.jobs == 1 else f"{method.jobs} compilers"
    return f", in about {format_time(method.minutes * 60)} with {compilers} at once"


def describe_build(build: Build, method: Method, done: str, duration: str) -> str:
    """What is built, where and how, in a line.

    :param done: "would be built" or "built"
    :param duration: the end of the sentence
    """
    gpus = f" for {describe_architectures(build.architectures)}" if method.toolchain != NONE else ""
    compilers = f"g++ {method.cxx}"
    if method.toolchain != NONE:
        compilers = f"nvcc {method.nvcc} ({_WORDS.get(method.toolchain, f'in {method.nvcc_home}')}) and {compilers}"
    torch = f"torch {build.torch}{', brought' if method.brings_torch else ''}"
    machine = f"a machine that Slurm on {build.builder} allocates" if build.is_slurm else build.builder
    return (
        f"{build.name} {build.version}: {done} on {machine} from {build.sdist['filename']} against {torch}{gpus}, with {compilers}"
        f"{duration}"
    )


def _describe(files: t.Iterable[File]) -> list[dict[str, str]]:
    return [{"filename": file.name, "sha256": str(file.sha256)} for file in files]

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Refuse a build that cannot work, before anything of it starts."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import compilers, machine
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.builder import Builder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder, list_files
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256

_OTHER_BUILDER = "choose another builder (torch_extension_builder)"
_OTHER_COMPILER = "name an environment module that brings one (torch_extension_build_module)"
_FIRST_GCC = {"c++20": 10, "c++23": 11}  # that knows the standard by this name
_OLDEST_GCC = 8  # that knows -ffile-prefix-map
_NVCC_NAME = re.compile(r"(?:nvidia_)?cuda_nvcc(?:_cu\d+)?-(?:linux-\w+-)?(\d+\.\d+)((?:\.\d+)*)")
_MAX_TEXT = 1 << 20  # bytes of a file that is read; real ones have some hundred
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*= *['\"](\d+\.\d+)", re.MULTILINE)


class Tools(t.NamedTuple):
    """What is compiled with."""

    pair: compilers.Pair
    nvcc: compilers.Nvcc | None  # without a path where it is yet to be unpacked


def check_files(job: t.Mapping[str, t.Any], folder: JobFolder) -> None:
    """
    :raises TorchExtensionError: if a file has not been brought, or is another one
    """
    for file in list_files(job):
        if not re.fullmatch(r"[0-9a-f]{64}", file["sha256"]) or os.path.basename(file["filename"]) != file["filename"]:
            raise TorchExtensionError(
                f"job names a file {file['filename']!r} with sha256 {file['sha256']!r}, wanted are a name without a folder and 64 hexadecimal digits."
            )
        check_sha256(folder.delivered(file), file["sha256"])


def check_disk(job: t.Mapping[str, t.Any], folder: JobFolder) -> None:
    """
    :raises TorchExtensionError: if there is too little room, or no program runs from it
    """
    if machine.is_noexec(folder.path):
        raise TorchExtensionError(
            f"{folder.folder} on this node is mounted noexec, and a build runs programs from there. Set torch_extension_build_dir to a"
            " folder elsewhere."
        )
    free, lacking = machine.free_mib(folder.path), job["disk_mib"] - machine.folder_size_mib(folder.path)
    if lacking > free:
        raise TorchExtensionError(
            f"{folder.folder} on this node has {free} MiB free, a build of {job['name']} {job['version']} wants {lacking} MiB. Make room"
            f" there, set torch_extension_build_dir, or {_OTHER_BUILDER}."
        )


def check_memory(job: t.Mapping[str, t.Any]) -> None:
    """
    :raises TorchExtensionError: if there is too little memory for one compiler
    """
    available = machine.available_memory_mib()
    if job["memory_per_job_mib"] > available:
        raise TorchExtensionError(
            f"This node has {available} MiB of memory free, one compiler of {job['name']} {job['version']} wants"
            f" {job['memory_per_job_mib']} MiB. Free some, or {_OTHER_BUILDER}."
        )


def check_tools(job: t.Mapping[str, t.Any], folder: JobFolder, builder: Builder) -> Tools:
    """The compilers for a job.

    :raises TorchExtensionError: if there are none that can do it, or they do not go together
    """
    _check_python(builder)
    nvcc = _find_nvcc(job["toolchain"], folder, builder)
    _check_cuda(job, folder, builder, nvcc)
    return Tools(_choose_pair(builder, nvcc, job["cxx_standard"]), nvcc)


def _check_python(builder: Builder) -> None:
    if not builder.has_python_headers:
        python = builder.interpreter
        raise TorchExtensionError(
            f"The headers of Python {python.version} are missing on this node: there is no Python.h in"
            f" {' or '.join(builder.python_headers) or 'any folder that Python names'}. Install them (python3-dev, python3-devel), set"
            f" torch_extension_build_python to a Python {python.version.rpartition('.')[0]} that has them, or {_OTHER_BUILDER}."
        )


def _choose_pair(builder: Builder, nvcc: compilers.Nvcc | None, standard: str | None) -> compilers.Pair:
    """The first compilers that can do it, by default those that the machine uses itself."""
    if not builder.pairs:
        raise TorchExtensionError(
            f"There is no C++ compiler on this node: no g++, c++ or clang++ in {builder.environ['PATH']}. Install g++, {_OTHER_COMPILER},"
            f" or {_OTHER_BUILDER}."
        )
    complaints = [(pair, _judge(pair.cxx, nvcc, standard)) for pair in builder.pairs]
    fitting = [pair for pair, complaint in complaints if complaint is None]
    if fitting:
        return fitting[0]
    raise TorchExtensionError(
        f"{complaints[0][1]}. Install such a version beside it, {_OTHER_COMPILER}, or {_OTHER_BUILDER}."
    )


def _judge(cxx: compilers.Compiler, nvcc: compilers.Nvcc | None, standard: str | None) -> str | None:
    """Why a compiler cannot do it, without a full stop; None if it can."""
    if "clang" in os.path.basename(os.path.realpath(cxx.path)):
        return None  # whose versions count otherwise
    if nvcc and nvcc.max_gcc and cxx.major > nvcc.max_gcc:
        return f"{cxx.path} on this node is version {cxx.version}, nvcc {nvcc.version} takes g++ up to {nvcc.max_gcc}"
    least = _FIRST_GCC.get(standard or "", _OLDEST_GCC)
    if cxx.major < least:
        who = standard if standard in _FIRST_GCC else "a build"
        return f"{cxx.path} on this node is version {cxx.version}, {who} wants g++ {least} or newer"
    return None


def _find_nvcc(toolchain: t.Mapping[str, t.Any] | None, folder: JobFolder, builder: Builder) -> compilers.Nvcc | None:
    if not toolchain:
        return None
    home = toolchain.get("home")
    if home:
        found = compilers.look_at_nvcc(home, builder.run)
        if found is None:
            raise TorchExtensionError(
                f"There is no nvcc that runs in {home}/bin on this node. Repair it, name an environment module that brings one"
                f" (torch_extension_build_module), or {_OTHER_BUILDER}."
            )
        return found
    files = [*(toolchain.get("wheels") or []), *(toolchain.get("archives") or [])]
    names = [match for match in (_NVCC_NAME.match(file["filename"]) for file in files) if match]
    if not names:
        raise TorchExtensionError(
            "job.toolchain has no cuda_nvcc among its files. Wanted are wheels nvidia_cuda_nvcc-… or archives cuda_nvcc-…. Set"
            " torch_extension_build_cuda to a place that has it."
        )
    configs = [text for text in (_read_member(folder.delivered(file), compilers.HOST_CONFIG) for file in files) if text]
    version = names[0][1]
    return compilers.Nvcc(
        "", "", version, version + names[0][2], compilers.parse_max_gcc(configs[0]) if configs else None
    )


def _check_cuda(job: t.Mapping[str, t.Any], folder: JobFolder, builder: Builder, nvcc: compilers.Nvcc | None) -> None:
    """That nvcc and torch are for the same major version of CUDA, as torch itself wants it."""
    if nvcc is None:
        return
    cuda = _torch_cuda(job, folder, builder)
    if cuda is None:
        raise TorchExtensionError(
            f"{job['name']} {job['version']} is to be built for GPUs, and torch on this node is not built for CUDA, or there is none. Set"
            f" torch_extension_build_python to an environment with torch for CUDA {nvcc.version}, or {_OTHER_BUILDER}."
        )
    if cuda.split(".")[0] != nvcc.version.split(".")[0]:
        place = f" in {nvcc.home}" if nvcc.home else ""
        raise TorchExtensionError(
            f"nvcc{place} is for CUDA {nvcc.version}, torch for CUDA {cuda}: their first numbers must be the same. Name an environment"
            f" module with CUDA {cuda.split('.')[0]} (torch_extension_build_module), or {_OTHER_BUILDER}."
        )


def _torch_cuda(job: t.Mapping[str, t.Any], folder: JobFolder, builder: Builder) -> str | None:
    wheels = [file for file in job["torch"] if file["filename"].startswith("torch-")]
    if not wheels:
        return builder.torch["cuda"] if builder.torch else None
    found = _TORCH_CUDA.search(_read_member(folder.delivered(wheels[0]), "torch/version.py") or "")
    return found[1] if found else None


def _read_member(path: str, end: str) -> str | None:
    """The text of the first member of an archive whose name ends so."""
    try:
        with archives.open_any(path, archives.COMPILER) as archive:
            for member in archive:
                if f"/{member.name}".endswith(f"/{end}") and member.kind == archives.FILE:
                    return archive.open(member).read_all(_MAX_TEXT).decode(errors="replace")
    except archives.ArchiveError as exc:
        raise TorchExtensionError(f"{os.path.basename(path)} cannot be read: {exc}.") from exc
    return None

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The node below Python: processor, C library, C++ library, GPUs and their driver."""

from __future__ import annotations

import glob
import mmap
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import Interpreter

_SYSTEM_LIBRARIES = ("/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib")
# Where containers and WSL mount the driver's programs, which is not always on the PATH of an ssh session.
_DRIVER_FOLDERS = "/usr/bin:/usr/local/nvidia/bin:/usr/lib/wsl/lib"
_NVIDIA_SMI_SECONDS = "20"  # a GPU that fell off the bus makes nvidia-smi hang for ever


def read_platform(interpreter: Interpreter) -> dict[str, t.Any]:
    """System, machine, C library and C++ library (its highest GLIBCXX version) of the programs of an environment.

    They may be others than the system's: an environment of Nix, of Gentoo Prefix or below qemu-user has its own.
    """
    return {
        "system": os.uname().sysname.lower(),
        "machine": interpreter.machine,
        "libc": _parse_libc(interpreter.libc) or _find_musl(interpreter.program),
        "libstdcxx": _find_newest_glibcxx(library_folders(interpreter)),
    }


def library_folders(interpreter: Interpreter) -> list[str]:
    """Where libraries of an environment may be that are none of a package's: in its own folders, then in the system's."""
    own = [os.path.join(prefix, "lib") for prefix in dict.fromkeys((interpreter.prefix, interpreter.base_prefix))]
    return own + [folder.format(machine=interpreter.machine) for folder in _SYSTEM_LIBRARIES]


def _parse_libc(answer: str | None) -> dict[str, str | None] | None:
    """What ``confstr`` says of the C library: glibc alone knows the question."""
    name, _space, version = (answer or "").partition(" ")
    return {"name": name, "version": version} if version else None


def _find_musl(program: str) -> dict[str, str | None] | None:
    try:
        with open(program, "rb") as file:  # the name of the loader stands behind the program headers
            return {"name": "musl", "version": None} if b"/ld-musl-" in file.read(8192) else None
    except OSError:
        return None


def _find_newest_glibcxx(folders: t.Iterable[str]) -> str | None:
    for folder in folders:
        library = os.path.join(folder, "libstdc++.so.6")
        try:
            # reading the megabytes would take as long again as searching them
            with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                versions = re.findall(rb"GLIBCXX_(\d+(?:\.\d+)+)\0", content)
        except (OSError, ValueError):  # ValueError: it is empty
            continue
        if versions:
            return max(versions, key=lambda version: [int(part) for part in version.split(b".")]).decode()
    return None


def read_gpus_and_driver(
    run: Run, which: t.Callable[[str, str], str | None]
) -> tuple[list[dict[str, t.Any]] | None, dict[str, t.Any] | None, list[str]]:
    """NVIDIA's GPUs and driver; ``([], None, [])`` where there is neither.

    :param run: runs a command line
    :param which: the path of a program on a search path (as :func:`shutil.which`)
    :returns: GPUs, driver, and warnings; None stands for what exists and cannot be read
    """
    search_path = os.pathsep.join([os.environ.get("PATH", ""), _DRIVER_FOLDERS])
    program, timeout = which("nvidia-smi", search_path), which("timeout", search_path)
    if program is None:
        return _read_kernel_module("/proc/driver/nvidia")
    command = [timeout, _NVIDIA_SMI_SECONDS, program] if timeout else [program]
    status, out, err = run(
        [*command, "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits"]
    )
    if status != 0:
        reason = (
            f"no answer within {_NVIDIA_SMI_SECONDS} s"
            if status == 124
            else f"exit status {status}: {(out.strip() or err.strip())[:300]}"
        )
        return None, None, [f"GPUs and driver cannot be told: {program} failed ({reason})."]
    gpus, version = parse_gpus(out)
    _status, text, _err = run([*command, "-q", "-d", "COMPUTE"])
    return gpus, {"version": version, "cuda": parse_cuda(text)}, []


def parse_gpus(text: str) -> tuple[list[dict[str, t.Any]], str | None]:
    """GPUs and driver version from nvidia-smi's lines ``name, compute capability, MiB, driver version``."""
    gpus, version = [], None
    for line in text.splitlines():
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) != 4:
            continue
        name, capability, memory, version = fields
        gpus.append(
            {
                "name": name,
                "compute_capability": capability if re.match(r"\d+\.\d+$", capability) else None,
                "memory_mib": int(memory) if memory.isdigit() else None,
            }
        )
    return gpus, version


def parse_cuda(text: str) -> str | None:
    """The newest CUDA that the driver supports, from nvidia-smi's report."""
    match = re.search(r"CUDA Version\s*:\s*(\d+\.\d+)", text)
    return match.group(1) if match else None


def _read_kernel_module(root: str) -> tuple[list[dict[str, t.Any]], dict[str, t.Any] | None, list[str]]:
    """GPUs, driver and warnings from the files of NVIDIA's kernel module, which have neither CUDA nor compute capability."""
    try:
        with open(os.path.join(root, "version"), encoding="utf-8") as file:
            version = re.search(r"Kernel Module\D*(\d+(?:\.\d+)+)", file.read())
    except OSError:
        return [], None, []
    gpus = []
    for path in sorted(glob.glob(os.path.join(root, "gpus", "*", "information"))):
        with open(path, encoding="utf-8") as file:
            model = re.search(r"^Model:\s*(.+)$", file.read(), re.MULTILINE)
        gpus.append({"name": model.group(1).strip() if model else None, "compute_capability": None, "memory_mib": None})
    warning = (
        "nvidia-smi is not on this node: compute capability and memory of its GPUs and the driver's CUDA are not known."
    )
    return gpus, {"version": version.group(1) if version else None, "cuda": None}, [warning]

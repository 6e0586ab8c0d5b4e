# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What a machine has for compilers to use: cores, memory, disk."""

from __future__ import annotations

import os
import re
import shutil
import typing as t

_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63


def usable_cores(proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> int:
    """Cores that this process may use, by its affinity and the quotas of its cgroups."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _cgroup_folders("cpu", proc, cgroups):
        quota, _space, period = (_read(folder, "cpu.max") or "").partition(" ")
        if not quota:
            quota, period = _read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))


def available_memory_mib(proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> int:
    """Memory that programs can still get, of the machine and within the limits of the cgroups of this process."""
    available = [
        int(kib) << 10 for kib in re.findall(r"^MemAvailable: +(\d+) kB$", _read(proc, "meminfo"), re.MULTILINE)
    ]
    for folder in _cgroup_folders("memory", proc, cgroups):
        for limit_name, usage_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _read(folder, limit_name), _read(folder, usage_name)
            if limit.isdigit() and usage.isdigit() and int(limit) < _UNLIMITED:
                cache = re.search(rf"^{cache_name} (\d+)$", _read(folder, "memory.stat"), re.MULTILINE)
                available.append(int(limit) - int(usage) + (int(cache[1]) if cache else 0))
    return max(0, min(available or [0])) >> 20


def free_mib(folder: str) -> int:
    """Room where a folder is or would be made."""
    return shutil.disk_usage(nearest_folder(folder)).free >> 20


def is_noexec(folder: str) -> bool:
    """Whether no program can be run from where a folder is or would be made."""
    return bool(os.statvfs(nearest_folder(folder)).f_flag & os.ST_NOEXEC)


def nearest_folder(path: str) -> str:
    """The folder itself, or the first one above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def folder_size_mib(folder: str) -> int:
    """What the files of a folder take on the disk."""
    blocks = 0
    for path, _folders, files in os.walk(folder):
        for name in files:
            try:
                blocks += os.lstat(os.path.join(path, name)).st_blocks
            except OSError:  # it has just been removed
                continue
    return blocks >> 11


def _cgroup_folders(controller: str, proc: str, cgroups: str) -> t.Iterator[str]:
    """The folders of the cgroups that this process is in, those above them included (cgroups(7))."""
    for line in _read(proc, "self/cgroup").splitlines():
        _number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = os.path.join(cgroups, controllers) if controllers else cgroups
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for count in range(len(parts), -1, -1):
            yield os.path.join(root, *parts[:count])


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""

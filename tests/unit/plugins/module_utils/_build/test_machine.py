# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import machine


@pytest.fixture
def system(tmp_path):
    """Makes the files in which the kernel tells of memory and cgroups."""

    def make(cgroup, files, available_mib=1000):
        proc = tmp_path / "proc"
        (proc / "self").mkdir(parents=True)
        (proc / "self/cgroup").write_text(cgroup)
        (proc / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable:   {available_mib << 10} kB\n")
        for path, text in files.items():
            file = tmp_path / "cgroups" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return str(proc), str(tmp_path / "cgroups")

    return make


def test_this_machine_has_cores_memory_and_room(tmp_path):
    assert 1 <= machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert machine.available_memory_mib() > 100
    assert machine.free_mib(str(tmp_path / "not" / "there")) == pytest.approx(machine.free_mib(str(tmp_path)), abs=100)


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/user.slice/job\n", {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "150000 100000"}),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "150000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
        ),
        ("0::/../elsewhere\n", {"cpu.max": "50000 100000"}),
    ],
    ids=["v2, above", "v1", "of a container"],
)
def test_a_quota_of_cores_counts(cgroup, files, system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)))
    assert machine.usable_cores(*system(cgroup, files)) == 1


@pytest.mark.parametrize("text", ["max 100000", "-1", "", "100000 0"])
def test_no_quota_is_no_limit(text, system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)))
    assert machine.usable_cores(*system("0::/job\n", {"job/cpu.max": text})) == 64


def test_memory_is_what_the_machine_and_its_cgroups_leave(system):
    files = {
        "job/memory.max": str(600 << 20),
        "job/memory.current": str(500 << 20),
        "job/memory.stat": f"anon 1\ninactive_file {200 << 20}\nactive_file 7",
        "memory.max": "max",
    }
    assert machine.available_memory_mib(*system("0::/job\n", files)) == 300


def test_memory_of_the_first_cgroups(system):
    files = {
        "memory/job/memory.limit_in_bytes": str(600 << 20),
        "memory/job/memory.usage_in_bytes": str(500 << 20),
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/memory.usage_in_bytes": str(500 << 20),
    }
    assert machine.available_memory_mib(*system("9:memory:/job\n4:cpu:/job\n", files)) == 100


def test_a_limit_that_is_used_up_leaves_none(system):
    files = {"job/memory.max": "100", "job/memory.current": "200"}
    assert machine.available_memory_mib(*system("0::/job\n", files)) == 0


def test_what_files_take_is_counted(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * (5 << 20))
    (tmp_path / "link").symlink_to("/usr/bin")
    assert 5 <= machine.folder_size_mib(str(tmp_path)) <= 6
    assert machine.folder_size_mib(str(tmp_path / "none")) == 0

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import platform as stdlib_platform
import shutil

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import system
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import query_interpreter

H200 = "NVIDIA H200, 9.0, 143771, 580.159.03"
REPORT = """
==============NVSMI LOG==============

Driver Version                            : 580.159.03
CUDA Version                              : 13.0

Attached GPUs                             : 1
"""


@pytest.fixture
def interpreter(make_venv, run):
    return query_interpreter(str(make_venv()), run)


def test_platform_is_that_of_the_interpreter(interpreter):
    found = system.read_platform(interpreter)
    assert (found["system"], found["machine"]) == (stdlib_platform.system().lower(), stdlib_platform.machine())
    assert (found["libc"]["name"], found["libc"]["version"]) == stdlib_platform.libc_ver()


def test_the_highest_glibcxx_is_found_by_number_in_the_environments_own_library(interpreter, tmp_path):
    (tmp_path / "lib").mkdir()
    library = b"\0".join(
        [b"", b"GLIBCXX_3.4", b"GLIBCXX_3.4.9", b"GLIBCXX_3.4.30", b"GLIBCXX_DEBUG_MESSAGE_LENGTH", b""]
    )
    (tmp_path / "lib" / "libstdc++.so.6").write_bytes(library)
    assert system.read_platform(interpreter._replace(prefix=str(tmp_path)))["libstdcxx"] == "3.4.30"


def test_the_c_library_and_the_machine_are_told_by_the_interpreter_and_not_by_who_asks(interpreter):
    other = interpreter._replace(libc="glibc 2.99", machine="aarch64")
    found = system.read_platform(other)
    assert (found["libc"], found["machine"]) == ({"name": "glibc", "version": "2.99"}, "aarch64")


@pytest.mark.parametrize(
    ("program", "libc"),
    [(b"/lib/ld-musl-x86_64.so.1\0", {"name": "musl", "version": None}), (b"/system/bin/linker64\0", None)],
    ids=["musl", "neither"],
)
def test_another_c_library_is_known_by_the_loader_of_the_program(interpreter, program, libc, tmp_path):
    (tmp_path / "python3").write_bytes(b"\x7fELF" + program)
    other = interpreter._replace(libc=None, program=str(tmp_path / "python3"))
    assert system.read_platform(other)["libc"] == libc


def test_a_libstdcxx_without_versions_is_skipped(tmp_path):
    folders = [tmp_path / name for name in ("none", "empty", "odd", "good")]
    for folder, content in zip(folders[1:], (b"", b"GLIBCXX_3.4.1 and more", b"\0GLIBCXX_3.4.21\0"), strict=True):
        folder.mkdir()
        (folder / "libstdc++.so.6").write_bytes(content)
    assert system._find_newest_glibcxx([str(folder) for folder in folders]) == "3.4.21"
    assert system._find_newest_glibcxx([str(folder) for folder in folders[:3]]) is None


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        (H200, {"name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143771}),
        (
            "Tesla, the old, 3.7, 11441, 470.1",
            {"name": "Tesla, the old", "compute_capability": "3.7", "memory_mib": 11441},
        ),
        ("GB10, 12.1, [N/A], 580.1", {"name": "GB10", "compute_capability": "12.1", "memory_mib": None}),
        ("K80, [Not Supported], 11441, 450.1", {"name": "K80", "compute_capability": None, "memory_mib": 11441}),
    ],
    ids=["plain", "comma in the name", "shared memory", "old driver"],
)
def test_a_line_of_nvidia_smi_is_a_gpu(line, gpu):
    assert system.parse_gpus(line + "\n") == ([gpu], line.split(", ")[-1])


def test_many_gpus_and_none():
    assert len(system.parse_gpus(f"{H200}\n{H200}\n")[0]) == 2
    assert system.parse_gpus("\nNo devices were found\n") == ([], None)


@pytest.mark.parametrize(
    ("text", "cuda"), [(REPORT, "13.0"), ("CUDA Version : N/A", None), ("", None)], ids=["told", "not told", "empty"]
)
def test_the_newest_cuda_of_the_driver(text, cuda):
    assert system.parse_cuda(text) == cuda


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Puts an nvidia-smi on the PATH, a real program, and finds programs there alone."""

    def install(script):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return lambda name, search: shutil.which(name, path=search)

    return install


def test_gpus_and_driver_are_read_from_nvidia_smi(find, run):
    answers = f'case "$1" in --query-gpu*) echo "{H200}" ;; *) cat <<END\n{REPORT}\nEND\n;; esac'
    gpus, driver, warnings = system.read_gpus_and_driver(run, find(answers))
    assert gpus == [{"name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143771}]
    assert driver == {"version": "580.159.03", "cuda": "13.0"}
    assert warnings == []


def test_a_driver_that_fails_is_a_warning_in_its_own_words(find, run):
    words = "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."
    gpus, driver, warnings = system.read_gpus_and_driver(run, find(f"echo '{words}'; exit 9"))
    assert (gpus, driver) == (None, None)
    assert ["exit status 9" in warning and words in warning for warning in warnings] == [True]


def test_a_driver_that_hangs_is_not_waited_for(find, run, monkeypatch):
    monkeypatch.setattr(system, "_NVIDIA_SMI_SECONDS", "0.3")
    gpus, driver, warnings = system.read_gpus_and_driver(run, find("exec sleep 30"))
    assert (gpus, driver) == (None, None)
    assert ["no answer within 0.3 s" in warning for warning in warnings] == [True]


def test_without_nvidia_smi_the_files_of_the_kernel_module_are_read(tmp_path):
    (tmp_path / "gpus" / "0000:3b:00.0").mkdir(parents=True)
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0\n"
    )
    (tmp_path / "gpus" / "0000:3b:00.0" / "information").write_text("Model: \t\t NVIDIA A100\nIRQ:   \t\t 11\n")
    gpus, driver, warnings = system._read_kernel_module(str(tmp_path))
    assert gpus == [{"name": "NVIDIA A100", "compute_capability": None, "memory_mib": None}]
    assert driver == {"version": "550.54.15", "cuda": None}
    assert ["nvidia-smi is not on this node" in warning for warning in warnings] == [True]


def test_no_gpu_is_no_warning(tmp_path):
    assert system._read_kernel_module(str(tmp_path)) == ([], None, [])

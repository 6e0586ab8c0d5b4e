# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real builds of small extensions: their sdists, the wheels that a build requires, and NVIDIA's compiler from the index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Mapping

from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import job_control, processes
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder

PARTS = 16  # files of C++, besides the one of the module itself

_CACHE = Path(__file__).parents[3] / ".cache"
_SETTINGS = dict(os.environ)  # before the tests hide them: the machine's pip must find its index
_TOOLS = ("pip", "setuptools", "wheel", "ninja", "packaging")
_CUDA = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl", "nvidia-cuda-runtime")

_MAIN = """
#include <Python.h>
{declared}
static PyObject* total(PyObject*, PyObject*) {{ return PyLong_FromLong({summed}); }}
static PyMethodDef methods[] = {{{{"total", total, METH_NOARGS, __FILE__}}, {{0}}}};
static PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "small_extension", 0, -1, methods}};
PyMODINIT_FUNC PyInit_small_extension() {{ return PyModule_Create(&definition); }}
"""

#: builds with ninja, as torch's own tools do
_SETUP = """
import os, subprocess, sysconfig, time
from setuptools import setup, Extension
from setuptools.command.build_ext import build_ext

class Build(build_ext):
    def build_extension(self, extension):
        folder = os.path.abspath(self.build_temp)
        target = os.path.abspath(self.get_ext_fullpath(extension.name))
        for path in (folder, os.path.dirname(target)):
            os.makedirs(path, exist_ok=True)
        cxx, include = os.environ["CXX"], sysconfig.get_path("include")
        objects = {os.path.join(folder, os.path.basename(path) + ".o"): os.path.abspath(path) for path in extension.sources}
        lines = [
            "rule cxx",
            f"  command = {cxx} -MMD -MF $out.d -g -O1 -fPIC -std=c++17 -I{include} -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "rule link",
            f"  command = {cxx} -shared $in -o $out",
            *(f"build {path}: cxx {source}" for path, source in objects.items()),
            f"build {target}: link {' '.join(objects)}",
        ]
        with open(os.path.join(folder, "build.ninja"), "w") as file:
            file.write("\\n".join(lines) + "\\n")
        subprocess.run(["ninja", "-v", "-j", os.environ["MAX_JOBS"]], cwd=folder, check=True)
        AFTERWARDS

SOURCES = ["src/main.cpp", *sorted(f"src/{name}" for name in os.listdir("src") if name.startswith("part"))]
setup(name="small-extension", version="1.2", ext_modules=[Extension("small_extension", SOURCES)], cmdclass={"build_ext": Build})
"""
_PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""


def make_sdist(
    folder: Path, files: Mapping[str, str], name: str = "small_extension-1.2", suffix: str = ".tar.gz"
) -> Path:
    """Pack files as an sdist has them, below one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for path, text in files.items():
            file = Path(scratch, name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        archive = folder / f"{name}{suffix}"
        if suffix == ".zip":
            shutil.make_archive(str(folder / name), "zip", scratch)
        else:
            with tarfile.open(archive, "w:gz") as tar:
                tar.add(Path(scratch, name), name)
    return archive


def extension_files(
    parts: int = PARTS, afterwards: str = "", pyproject: bool = True, work: str = "", **more: str
) -> dict[str, str]:
    """The files of a C++ extension of so many parts.

    :param afterwards: a statement of Python that runs when all is compiled
    :param work: C++ that takes the compiler its time, in each part
    :param more: the text of a part, by its name (part3)
    """
    numbers = range(parts)
    declared = "\n".join(f"int part{number}();" for number in numbers)
    summed = " + ".join([f"part{number}()" for number in numbers] or ["0"])
    files = {
        "setup.py": _SETUP.replace("AFTERWARDS", afterwards or "pass"),
        "src/main.cpp": _MAIN.format(declared=declared, summed=summed),
    }
    for number in numbers:
        text = f"{work}\nconst char* place{number} = __FILE__;\nint part{number}() {{ return {number}; }}\n"
        files[f"src/part{number}.cpp"] = more.get(f"part{number}", text)
    return {**files, **({"pyproject.toml": _PYPROJECT} if pyproject else {})}


def build_tools() -> list[Path]:
    """The wheels that a build requires."""
    return _download("build-tools", _TOOLS)


def cuda_compiler() -> list[Path]:
    """The wheels of NVIDIA's compiler for CUDA 13.0."""
    return _download("cuda-compiler-13.0", [f"{name}==13.0.*" for name in _CUDA])


def _download(name: str, requirements: list[str] | tuple[str, ...]) -> list[Path]:
    """Wheels from wherever pip installs everything else; they stay for later runs."""
    place = _CACHE / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
            command += ["-d", f"{scratch}/wheels", *requirements]
            subprocess.run(command, check=True, env=_SETTINGS)
            try:
                Path(scratch, "wheels").rename(place)
            except OSError:  # another worker was faster
                assert place.exists()
    return sorted(place.iterdir())


#: of nvcc 12.8
_SAYS = """nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Fri_Feb_21_20:23:50_PST_2025
Cuda compilation tools, release {version}, V{version}.93
Build cuda_12.8.r12.8/compiler.35583870_0"""


def install_cuda(home: Path, version: str = "12.8", max_gcc: int = 14) -> Path:
    """A stand-in for a CUDA toolkit: its nvcc says its version."""
    (home / "bin").mkdir(parents=True)
    (home / "bin/nvcc").write_text(f"#!/bin/sh\ncat <<'E'\n{_SAYS.format(version=version)}\nE\n")
    (home / "bin/nvcc").chmod(0o755)
    (home / "include/crt").mkdir(parents=True)
    (home / "include/crt/host_config.h").write_text(
        f"#if defined(__GNUC__)\n#if __GNUC__ > {max_gcc}\n#error -- unsupported GNU version!\n"
    )
    return home


class Builds:
    """Jobs in a folder of builds."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python

    def bring(self, path: Path) -> dict[str, str]:
        """Put a file where the control node puts it."""
        digest = sha256(path)
        place = self.folder / "files" / digest[:16] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(path, place)
        return {"filename": path.name, "sha256": digest}

    def make_job(self, sdist: Path, job_id: str = "small-1", **more: object) -> dict:
        """A job as the module has it when all has been checked."""
        return {
            "id": job_id,
            "name": "small-extension",
            "version": "1.2",
            "sdist": self.bring(sdist),
            "requirements": [self.bring(path) for path in build_tools()],
            "torch": [],
            "toolchain": None,
            "archs": [],
            "cxx_standard": None,
            "environ": {},
            "epoch": 1700000000,
            "time_limit": 300,
            "jobs": 2,
            "memory_per_job_mib": 0,
            "disk_mib": 0,
            "label": None,
            "slurm": None,
            "python": self.python,
            "module": "",
            **more,
        }

    def job_folder(self, job_id: str = "small-1") -> JobFolder:
        return JobFolder(str(self.folder), job_id)

    def start(self, job: dict, check_mode: bool = False) -> bool:
        return job_control.start(self.job_folder(job["id"]), job, check_mode)

    def poll(self, job_id: str = "small-1") -> dict:
        return job_control.poll(self.job_folder(job_id))

    def wait(self, job_id: str = "small-1", seconds: float = 240) -> dict:
        """Wait until a build has ended."""
        end = time.monotonic() + seconds
        while (polled := self.poll(job_id))["state"] == "running":
            assert time.monotonic() < end, polled
            time.sleep(0.1)
        return polled

    def build(self, job: dict) -> dict:
        assert self.start(job)
        return self.wait(job["id"])

    def wait_for_compilations(self, count: int, job_id: str = "small-1") -> None:
        """Wait until so many compilations have begun."""
        end = time.monotonic() + 120
        while len(self.compiled(job_id)) < count:
            assert self.poll(job_id)["state"] == "running", self.poll(job_id)
            assert time.monotonic() < end
            time.sleep(0.02)

    def compiled(self, job_id: str = "small-1") -> list[str]:
        """The names of the files that compilers have begun with."""
        log = Path(self.job_folder(job_id).compiled)
        return [Path(line.split(" ", 2)[2]).name for line in log.read_text().splitlines()] if log.exists() else []

    def read_log(self, job_id: str = "small-1") -> str:
        return Path(self.job_folder(job_id).log).read_text()

    def processes(self, job_id: str = "small-1") -> dict[int, str]:
        """Those of a build that run, and what each is."""
        found = {}
        for process in processes.find_processes(self.job_folder(job_id).path):
            try:
                found[process] = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def start_at_once(self, job: dict, count: int) -> list[bool]:
        """Start a job several times at once; what each start says."""
        barrier, answers = threading.Barrier(count), []

        def start() -> None:
            barrier.wait()
            answers.append(self.start(job))

        threads = [threading.Thread(target=start) for _number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def end_all(self) -> None:
        for path in self.folder.glob("*/job.json"):
            processes.kill_processes(str(path.parent))

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiles small real libraries, and tells with binutils and the real loader what is in them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Mapping, Sequence


def compile_library(path: Path, source: str, *options: str, language: str = "c++", soname: str | None = None) -> Path:
    """Make a shared library that needs no other than those that are named in the options, besides those of C++."""
    path.parent.mkdir(parents=True, exist_ok=True)
    naming = [f"-Wl,-soname,{soname}"] if soname else []
    driver = {"c++": "g++", "c": "gcc"}[language]
    # the source comes first: of the libraries after it only those count that it needs
    command = [driver, "-shared", "-fPIC", "-O1", "-x", language, "-", "-x", "none", *naming, *options, "-o", path]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def exported_names(path: Path) -> set[str]:
    """The names that a library defines for others, without their versions."""
    lines = [line.split() for line in _output("nm", "-D", "--defined-only", path).splitlines()]
    # in capitals: global; A is absolute, as the names of the versions are
    return {line[2].partition("@")[0] for line in lines if len(line) == 3 and line[1] in "TWVDBRiu"}


def read_facts(path: Path, member: str, **more) -> dict:
    """The facts of a wheel that has one library, told by binutils.

    :param member: the name of the library in the wheel
    """
    dynamic = _output("readelf", "-dW", path)
    versions: dict[str, list[str]] = {}
    file = None
    needs = _output("readelf", "-VW", path).partition("Version needs section")[2]
    for kind, name in re.findall(r"(File|Name): (\S+)", needs):
        if kind == "File":
            file = versions.setdefault(name, [])
        else:
            file.append(name)
    undefined = [line.split()[1] for line in _output("nm", "-D", path).splitlines() if re.match(r"\s+U ", line)]
    library = {
        "path": member,
        "machine": os.uname().machine,
        "soname": next(iter(re.findall(r"\(SONAME\).*\[(.*)\]", dynamic)), None),
        "needed": re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic),
        "runpath": [
            folder for item in re.findall(r"\(R(?:UN)?PATH\).*\[(.*)\]", dynamic) for folder in item.split(":")
        ],
        "versions": versions,
        "undefined": sorted({name.partition("@")[0] for name in undefined}),
    }
    return {**no_facts(), "libraries": [library], **more}


def no_facts(**more) -> dict:
    """The facts of a wheel of Python alone."""
    return {
        "version": 4,
        "filename": "flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp311-cp311-linux_x86_64.whl",
        "files": [],
        "libraries": [],
        "cxx11_abi": None,
        "torch_abi": None,
        "cuda": None,
        "architectures": None,
        "requires_torch": [],
        "problems": [],
        **more,
    }


def loader_complains(python: Path, libraries: Sequence[str | Path], environ: Mapping[str, str]) -> str | None:
    """What the real loader says when Python loads libraries one after the other, or None if it is content.

    :param libraries: with a plus before it, one is loaded for all
    """
    code = "import ctypes, sys\nfor path in sys.argv[1:]: ctypes.CDLL(path.lstrip('+'), 256 * path.startswith('+'))"
    done = subprocess.run(
        [python, "-E", "-c", code, *libraries],
        capture_output=True,
        text=True,
        check=False,
        env={**environ, "LD_BIND_NOW": "1", "LC_ALL": "C"},
    )
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout

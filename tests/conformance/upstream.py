# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the real ``setup.py`` of one sdist on made-up nodes.

An environment is what ``torch_info`` returns; an answer is ``{"url": …, "filename": …}``, what ``setup.py`` handed to
``urlretrieve``, or ``{"none": why}``, where it crashed or asked for nothing. Only the outside of ``setup.py`` is made
up: torch, the build tools, the commands it starts, and the facts about the machine. Compilers are there and new enough.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types
import urllib.error
import urllib.request
import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

READ_BY_SETUP_PY = ("setup.py", "README.md", "build_tools", "__init__.py")
# Whatever a setup.py may import, imported before sys.version_info lies.
for module in ("ast", "copy", "functools", "glob", "importlib.metadata", "packaging.version", "re", "typing"):
    importlib.import_module(module)

VersionInfo = namedtuple("VersionInfo", "major minor micro releaselevel serial")

NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.48\n"
HIPCC = "HIP version: 6.4.43483-a187df25c\n"


class Answered(BaseException):
    """Carries the answer past upstream's own except clauses."""

    def __init__(self, answer: dict[str, str]) -> None:
        super().__init__(answer)
        self.answer = answer


class Sdist:
    """The few files of a sdist that setup.py reads, unpacked, and the names of all others."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.folder = folder
        self.names = set()
        with tarfile.open(archive) as tar:
            # In the order of the archive: going back means to decompress it again.
            for member in tar:
                if member.isfile():
                    self._take(tar, member)
        setup_py = folder / "setup.py"
        self.code = compile(setup_py.read_bytes(), str(setup_py), "exec") if setup_py.exists() else None

    def has(self, path: str | os.PathLike[str]) -> bool:
        return os.path.relpath(path, self.folder) in self.names

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise ValueError(f"{member.name} leads out of the sdist")
        name = member.name.partition("/")[2]
        self.names.add(name)
        if any(part in READ_BY_SETUP_PY for part in name.split("/")[:2]):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())


def answer(sdist: Sdist, environment: dict, toolkit: Path) -> dict[str, str]:
    """Run setup.py as pip does for a wheel, up to the moment when it downloads or builds."""
    if sdist.code is None:
        return {"none": "no setup.py"}
    try:
        with _node(environment, toolkit):
            exec(sdist.code, {"__name__": "__main__", "__file__": str(sdist.folder / "setup.py")})  # noqa: S102
    except Answered as answered:
        return answered.answer
    except (Exception, SystemExit) as error:
        return {"none": f"{type(error).__name__}: {error}"}
    return {"none": "setup() was never called"}


@contextlib.contextmanager
def _workshop(sdist: Sdist, toolkit: Path) -> Iterator[None]:
    """Make up what is the same on all nodes."""
    exists = os.path.exists
    with (
        mock.patch.dict(os.environ, {"CUDA_HOME": str(toolkit)}, clear=True),
        mock.patch.dict(sys.modules, _build_modules()),
        mock.patch.object(sys, "argv", ["setup.py", "bdist_wheel"]),
        mock.patch.object(sys, "path", [str(sdist.folder), *sys.path]),
        mock.patch.object(os, "system", lambda command: 0),
        mock.patch.object(os.path, "exists", lambda path: sdist.has(path) or exists(path)),
        mock.patch.object(shutil, "copy", lambda source, target: _copy(sdist, source)),
        mock.patch.object(shutil, "rmtree", lambda path: None),
        mock.patch.object(subprocess, "run", _run),
        mock.patch.object(subprocess, "check_output", lambda command, **_: _output(command)),
        mock.patch.object(urllib.request, "urlretrieve", _urlretrieve),
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(None),
    ):
        yield


@contextlib.contextmanager
def _node(environment: dict, toolkit: Path) -> Iterator[None]:
    version = [int(number) for number in environment["python"]["version"].split(".")]
    system = environment["platform"]["system"]
    machine = environment["platform"]["machine"]
    uname = platform.uname_result(system.capitalize(), "node", "6.1", "1", machine)
    with (
        mock.patch.dict(os.environ, environment["variables"]),
        # On the way out this also forgets build_tools, which looks at Python's version when it is imported.
        mock.patch.dict(sys.modules, _torch_modules(environment["torch"], toolkit)),
        mock.patch.object(sys, "platform", {"windows": "win32"}.get(system, system)),
        mock.patch.object(sys, "version_info", VersionInfo(*version, "final", 0)),
        mock.patch.object(platform, "uname", lambda: uname),
        mock.patch.object(platform, "machine", lambda: machine),
    ):
        yield


def _urlretrieve(url: str, filename: str) -> None:
    raise Answered({"url": url, "filename": filename})


def _copy(sdist: Sdist, source: str) -> None:
    if not sdist.has(source):
        raise FileNotFoundError(source)


def _run(command: list, check: bool = False, **_: object) -> subprocess.CompletedProcess:
    if [str(word) for word in command[:2]] == ["git", "rev-parse"]:
        # An unpacked sdist lies in no Git repository.
        raise subprocess.CalledProcessError(128, command)
    return subprocess.CompletedProcess(command, 0, _output(command), "")


def _output(command: list) -> str:
    return {"nvcc": NVCC, "hipcc": HIPCC}.get(Path(command[0]).name, "")


def _build_modules() -> dict[str, types.ModuleType]:
    class BdistWheel:
        dist_dir = "dist"

        def run(self) -> None:
            """Build from source, which here is nothing: some go on to download afterwards."""

    def setup(cmdclass: dict | None = None, **_: object) -> None:
        command = (cmdclass or {}).get("bdist_wheel")
        if command is None:
            raise Answered({"none": "no wheel command"})
        command().run()
        raise Answered({"none": "built from source"})

    return {
        "setuptools": _module(
            "setuptools", setup=setup, find_packages=lambda **_: [], Extension=Anything, __version__="68.0"
        ),
        "wheel": _module("wheel"),
        "wheel.bdist_wheel": _module("wheel.bdist_wheel", bdist_wheel=BdistWheel),
    }


def _torch_modules(torch: dict | None, toolkit: Path) -> dict[str, types.ModuleType | None]:
    if torch is None:
        return {"torch": None, "torch.utils.cpp_extension": None}
    on_rocm = torch["hip"] is not None
    cpp_extension = _module(
        "torch.utils.cpp_extension",
        BuildExtension=Anything,
        CppExtension=Anything,
        CUDAExtension=Anything,
        CUDA_HOME=None if on_rocm else str(toolkit),
        ROCM_HOME=str(toolkit) if on_rocm else None,
        HIP_HOME=str(toolkit) if on_rocm else None,
        IS_HIP_EXTENSION=on_rocm,
    )
    utils = _module("torch.utils", cpp_extension=cpp_extension)
    device = types.SimpleNamespace(gcnArchName="gfx942:sramecc+:xnack-")
    top = _module(
        "torch",
        __version__=torch["version"],
        __path__=[str(toolkit / "torch")],
        version=types.SimpleNamespace(cuda=torch["cuda"], hip=torch["hip"]),
        cuda=types.SimpleNamespace(is_available=lambda: True, get_device_properties=lambda _: device),
        _C=types.SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=torch["cxx11_abi"]),
        utils=utils,
    )
    return {"torch": top, "torch.utils": utils, "torch.utils.cpp_extension": cpp_extension}


class Anything:
    """Stands in for a class whose instances nobody looks at."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def _module(name: str, **attributes: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    return module


def ask(archive: Path, environments: list[dict]) -> list[dict[str, str]]:
    """Answer for each environment."""
    # build_tools is imported for every environment anew.
    sys.dont_write_bytecode = False
    with tempfile.TemporaryDirectory() as scratch:
        toolkit = Path(scratch, "toolkit")
        (toolkit / "bin").mkdir(parents=True)
        (toolkit / "include").mkdir()
        (toolkit / "bin" / "nvcc").touch()
        # transformer-engine-torch looks for headers and for its repository's build_tools above itself.
        folder = Path(scratch, "above", "sdist")
        folder.mkdir(parents=True)
        sdist = Sdist(archive, folder)
        os.chdir(folder)
        with _workshop(sdist, toolkit):
            answers = [answer(sdist, environment, toolkit) for environment in environments]
        os.chdir("/")
    return answers


def serve() -> None:
    """Read the environments, then paths of sdists, a line each; write a line of answers for each sdist.

    Each sdist gets a process of its own, forked from this one: what a setup.py leaves behind reaches no other.
    """
    environments = json.loads(sys.stdin.readline())
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            print(json.dumps(ask(Path(line.rstrip("\n")), environments)), flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status != 0:
            sys.exit(f"no answers for {line}")


if __name__ == "__main__":
    serve()

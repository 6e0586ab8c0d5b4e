# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Python environment for each build of torch, with all that this torch requires: NVIDIA's libraries, too."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from downloads import cache, download
from pinned import COMPANIONS, PYTHON, Build

_ROOT = Path(__file__).resolve().parents[2]
_STAMP = "made-of"  # in each environment, written last


def interpreter() -> Path:
    """Return the Python of an environment without any package.

    :raises RuntimeError: if this machine has no Python of the version that the wheels are for
    """
    return _made("none", _bare)


def with_torch(build: Build) -> Path:
    """Return the Python of the environment of a torch. The first time it is made, from downloads of up to 4 GB.

    :raises RuntimeError: as :func:`interpreter` does
    :raises subprocess.CalledProcessError: if a download or the installation fails; standard error has said why
    """
    return _made(build.name, lambda folder: _install(folder, build))


def unpack(wheel: Path, folder: Path) -> None:
    """Install a wheel into a folder of its own, without what it requires.

    :raises subprocess.CalledProcessError: if it is no wheel for the interpreter of this suite
    """
    _uv("pip", "install", "--quiet", "--no-deps", "--python", interpreter(), "--target", folder, wheel)


def _made(name: str, make: Callable[[Path], None]) -> Path:
    folder = cache() / "environments" / name
    recipe = "\n".join((PYTHON, name, *COMPANIONS))
    stamp = folder / _STAMP
    if not stamp.exists() or stamp.read_text() != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        stamp.write_text(recipe)
    return folder / "bin" / "python"


def _bare(folder: Path) -> None:
    find = [_ROOT / "tests/tools/find-python.sh", PYTHON, PYTHON]
    found = subprocess.run(find, check=False, capture_output=True, text=True).stdout.strip()
    if not found:
        raise RuntimeError(f"The wheels of this suite are for Python {PYTHON}, and this machine has none.")
    _uv("venv", "--quiet", "--python", found, folder)


def _install(folder: Path, build: Build) -> None:
    if build.beside:
        plain = with_torch(Build(build.version)).parents[1]
        # links to the same files, but for the stamp, which is written
        shutil.copytree(
            plain, folder, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns(_STAMP, "__pycache__")
        )
        _uv("pip", "install", "--quiet", "--python", folder / "bin/python", *build.beside)
        return
    _bare(folder)
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        # not kept: it has 0.5 to 1 GB, and the environment is what is kept of it
        torch = download("torch", build.version, interpreter(), Path(scratch, "torch"))
        _uv("pip", "install", "--quiet", "--python", folder / "bin/python", torch, *COMPANIONS)


def _uv(*command: str | Path) -> None:
    """Uv shares the files of all environments by hard links, so that NVIDIA's libraries are here once."""
    subprocess.run(["uv", *command], check=True, env={**_settings(), "UV_CACHE_DIR": str(cache() / "uv")})


@functools.cache
def _settings() -> dict[str, str]:
    """The environment variables with which uv goes where pip goes."""
    told = subprocess.check_output([sys.executable, _ROOT / "tests/tools/pip_settings.py", "uv"], text=True)
    exported = (shlex.split(line)[1].partition("=") for line in told.splitlines())
    return {**os.environ, **{name: value for name, _equals, value in exported}}

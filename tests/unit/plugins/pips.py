# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real pips of many versions, each in a virtual environment of a Python that it runs on."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest

OLD = ("9.0.3", "19.3.1")
NEWEST = "newest"
ASKABLE = ("20.0.2", "20.3.4", "21.3.1", "22.2.2", "22.3.1", "23.0.1", "23.1.2", "24.0", NEWEST)

_ROOT = Path(__file__).parents[3]
_SETTINGS = dict(os.environ)  # before the tests hide them: the machine's pip must find its index
_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
# pip below this version runs up to that Python
_NEWEST_PYTHON = (((21, 0), (3, 9)), ((23, 1), (3, 11)), ((99, 0), (3, 14)))


def pip_venv(version: str, folder: Path) -> Path:
    """Make a virtual environment with a pip. Says so and skips the test where there is none to be had."""
    package = _unpacked(version)
    real = next(package.glob("pip-*.dist-info")).name.split("-")[1][: -len(".dist")]
    newest = next(python for below, python in _NEWEST_PYTHON if tuple(map(int, real.split(".")[:2])) < below)
    python = next((path for found, path in _pythons() if found <= newest), None)
    if python is None:
        _skip(f"pip {real} was not tried: no Python from 3.8 to {newest[0]}.{newest[1]} was found")
    subprocess.check_call([python, "-m", "venv", "--symlinks", "--without-pip", folder])
    for part in package.iterdir():
        (next(folder.glob("lib/python*/site-packages")) / part.name).symlink_to(part)
    return folder


def _unpacked(version: str) -> Path:
    """The files of a pip, from wherever pip installs everything else; they stay for later runs."""
    place = _ROOT / ".cache" / "pips" / version
    if version == NEWEST:
        place = place.with_name(f"newest-{os.getppid()}")  # one for all workers, but not for ever
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        wanted = "pip" if version == NEWEST else f"pip=={version}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            scratch,
            wanted,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_SETTINGS)
        wheel = next(Path(scratch).glob("*.whl"), None)
        if done.returncode or wheel is None:
            _skip(f"pip {version} was not tried: {' '.join(done.stderr.split())}")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(scratch, "pip"))
        if version == NEWEST:
            for old in place.parent.glob("newest-*"):
                shutil.rmtree(old, ignore_errors=True)
        try:
            Path(scratch, "pip").rename(place)
        except OSError:  # another worker was faster
            assert place.exists()
    return place


@functools.cache
def _pythons() -> list[tuple[tuple[int, ...], str]]:
    """Pythons from 3.8 on with their versions; the one that runs the tests goes first."""
    names = [shutil.which(f"python3.{minor}", path=_SETTINGS.get("PATH")) for minor in range(8, 15)]
    paths = [sys.executable, *filter(None, names), *map(str, sorted(_PYENV.glob("versions/3.*/bin/python3")))]
    found = {}
    for path in paths:
        command = [path, "-c", "import sys, venv; print(*sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_SETTINGS)
        version = tuple(map(int, done.stdout.split()))  # nothing from a pyenv shim that is not switched on
        if version >= (3, 8):
            found.setdefault(version, path)
    return list(found.items())


def _skip(reason: str) -> None:
    warnings.warn(reason, stacklevel=3)  # pytest prints these in the end, whereas it only counts what is skipped
    pytest.skip(reason)

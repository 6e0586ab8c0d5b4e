# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wheels from the package index that pip is configured to use, by pip itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pinned import Wheel


def cache() -> Path:
    """Return the folder of all that this suite keeps from run to run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "airgap-torch-extensions" / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(wheel: Wheel, python: Path) -> Path:
    """Return the path of a wheel, downloaded unless it already lies in the cache.

    :param python: the interpreter that the wheel has to be for
    :raises subprocess.CalledProcessError: if pip finds none or cannot download it; pip has said why on standard error
    """
    wheels = cache() / "wheels"
    folder = wheels / f"{wheel.distribution}-{wheel.version}"
    if not folder.is_dir():
        wheels.mkdir(exist_ok=True)
        # a run that is killed leaves no half wheel under the name
        with tempfile.TemporaryDirectory(dir=wheels) as scratch:
            download(wheel.distribution, wheel.version, python, Path(scratch, "whole"))
            Path(scratch, "whole").rename(folder)
    return next(folder.glob("*.whl"))


def download(name: str, version: str, python: Path, folder: Path) -> Path:
    """Download a wheel into a new folder, and return its path.

    :param python: as of :func:`fetch`
    :raises subprocess.CalledProcessError: as :func:`fetch` does
    """
    command = [sys.executable, "-m", "pip", "--python", python, "download", "--quiet", "--quiet", "--no-deps"]
    # "===" leaves out builds with a label, such as +cpu, that a folder of this machine may have under the same version
    command += ["--no-cache-dir", "--only-binary=:all:", "--no-input", "--dest", folder, f"{name}==={version}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return next(folder.glob("*.whl"))

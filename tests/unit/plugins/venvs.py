# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes real virtual environments, quickly: their pip is the one that the tests run with, linked."""

from __future__ import annotations

import venv
from importlib.metadata import distribution
from pathlib import Path


def make_plain_venv(folder: Path, system_site_packages: bool = False) -> Path:
    venv.EnvBuilder(symlinks=True, system_site_packages=system_site_packages).create(folder)
    return folder


def add_pip(folder: Path) -> Path:
    installed = distribution("pip")
    for part in ("pip", f"pip-{installed.version}.dist-info"):
        (site_packages(folder) / part).symlink_to(installed.locate_file(part))
    return folder


def site_packages(folder: Path) -> Path:
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes plans, and locks of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Iterable

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)


def planned(filename: str, requirement: str, **more) -> dict:
    """A wheel of a plan, after it was fetched."""
    name, version = filename.split("-")[:2]
    return {
        "name": name.replace("_", "-"),
        "requirement": requirement,
        "version": version.partition("+")[0],
        "filename": filename,
        "url": f"https://github.example/{filename}",
        "source": "release",
        "size": len(filename),
        "sha256": hashlib.sha256(filename.encode()).hexdigest(),
        "ground": "the newest that fits",
        "conflicts": [],
        **more,
    }


def lacked(filename: str, *required_by: str, **more) -> dict:
    """A requirement that a node lacked."""
    name, version = filename.split("-")[:2]
    return {
        "name": name,
        "version": version,
        "filename": filename,
        "size": len(filename),
        "sha256": hashlib.sha256(filename.encode()).hexdigest(),
        "required_by": list(required_by),
        **more,
    }


def of_files(environment: dict, wheels: Iterable[tuple[Path, str]], requirements: Iterable[Path] = ()) -> str:
    """The text of a lock of real files, each wheel with its URL."""

    def facts(path: Path) -> dict:
        data = path.read_bytes()
        return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    plan = {
        "environment": environment,
        "wheels": [planned(path.name, "flash-attn", url=url, **facts(path)) for path, url in wheels],
        "requirements": [lacked(path.name, "flash-attn", **facts(path)) for path in requirements],
    }
    return format_lock(build_lock({"node": plan}))

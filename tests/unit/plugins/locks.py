# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes plans of nodes, and locks of them."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Iterable

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)

WHEEL = "flash_attn-2.8.3+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
OTHER_WHEEL = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
CONV = "causal_conv1d-1.6.0+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
EINOPS = "einops-0.8.1-py3-none-any.whl"


def environment_of_another_kind(environment: dict) -> dict:
    """The environment of a node with a newer torch."""
    changed = copy.deepcopy(environment)
    changed["torch"].update(version="2.9.0+cu128", cuda="12.8", cxx11_abi=True)
    return changed


def plans_of_two_kinds(environment: dict, other_environment: dict) -> dict[str, dict]:
    """The plans of three nodes, of which the first and the last are of one kind."""
    return {
        "n1": {
            "environment": environment,
            "wheels": [planned_wheel(WHEEL, "flash-attn>=2.7"), planned_wheel(CONV, "causal-conv1d==1.6.0")],
            "requirements": [missing_requirement(EINOPS, "flash-attn")],
        },
        "n2": {
            "environment": other_environment,
            "wheels": [planned_wheel(OTHER_WHEEL, "flash-attn>=2.7")],
            "requirements": [],
        },
        "n3": {
            "environment": environment,
            "wheels": [planned_wheel(WHEEL, "flash-attn>=2.7")],
            "requirements": [
                missing_requirement(EINOPS, "causal-conv1d"),
                missing_requirement("ninja-1.11-py3-none-any.whl", "causal-conv1d"),
            ],
        },
    }


def planned_wheel(filename: str, requirement: str, **more) -> dict:
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


#: how a wheel was built, as a lock tells it
BUILT = {
    "sdist": "flash_attn-2.8.3.tar.gz",
    "sdist_sha256": "1" * 64,
    "torch": "2.2.0+cu121",
    "architectures": ["8.0", "9.0"],
    "compilers": {"cxx": "12.2.0", "nvcc": "12.1.105"},
    "builder": "b01",
}


def missing_requirement(filename: str, *required_by: str, **more) -> dict:
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


def lock_text_of_files(environment: dict, wheels: Iterable[tuple[Path, str]], requirements: Iterable[Path] = ()) -> str:
    """The text of a lock of real files, each wheel with its URL."""
    return format_lock(build_lock({"node": plan_of_files(environment, wheels, requirements)}))


def plan_of_files(environment: dict, wheels: Iterable[tuple[Path, str]], requirements: Iterable[Path] = ()) -> dict:
    """The plan of a node that gets real files, each wheel with its URL."""

    def facts(path: Path) -> dict:
        data = path.read_bytes()
        return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    return {
        "environment": environment,
        "wheels": [planned_wheel(path.name, "flash-attn", url=url, **facts(path)) for path, url in wheels],
        "requirements": [missing_requirement(path.name, "flash-attn", **facts(path)) for path in requirements],
    }

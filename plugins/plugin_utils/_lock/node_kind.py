# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The kind of a node: all of it that a choice of files depends on."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

# The facts that make a kind, in the order of the lock file, with the names that messages use for them.
FACT_LABELS = {
    "python": "Python",
    "abi": "Python ABI",
    "machine": "machine",
    "libc": "C library",
    "torch": "torch",
    "cuda": "CUDA",
    "hip": "HIP",
    "cxx11_abi": "C++11 ABI",
    "variables": "variables",
}


def kind_of_node(environment: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """All of a node that a choice of files depends on. Nodes that agree in this get the same files.

    :param environment: what torch_info returned
    :raises TorchExtensionError: if it is anything else
    """
    try:
        python, platform, torch = environment["python"], environment["platform"], environment["torch"] or {}
        environment["distributions"].items()  # no part of a kind, but of an environment
        libc = platform["libc"]
        return {
            "python": python["tag"],
            "abi": python["abi"],
            "machine": platform["machine"],
            "libc": " ".join(str(libc[key]) for key in ("name", "version") if libc[key]) if libc else None,
            "torch": torch.get("version"),
            "cuda": torch.get("cuda"),
            "hip": torch.get("hip"),
            "cxx11_abi": torch.get("cxx11_abi"),
            "variables": {name: environment["variables"][name] for name in sorted(environment["variables"])},
        }
    except (KeyError, TypeError, AttributeError) as exc:
        raise TorchExtensionError(
            f"environment cannot be read ({exc}): wanted is the dictionary 'environment' that torch_info returns."
        ) from exc


def environment_of_entry(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """As much of a node's environment as a locked environment still tells: enough to choose a file by its tags."""
    libc = (entry["libc"] or "").split()
    digits = re.sub(r"\D", "", entry["python"])
    return {
        "python": {"tag": entry["python"], "abi": entry["abi"], "version": f"{digits[:1]}.{digits[1:] or 0}"},
        "platform": {
            "machine": entry["machine"],
            "libc": {"name": libc[0], "version": libc[1] if len(libc) > 1 else None} if libc else None,
        },
    }


def kind_of_entry(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """As :func:`kind_of_node`, of an environment in a lock."""
    return {fact: entry[fact] for fact in FACT_LABELS}


def describe_kind(facts: t.Mapping[str, t.Any]) -> str:
    return ", ".join(
        [
            f"Python {facts['python']}" + (f" with ABI {facts['abi']}" if facts["abi"] != facts["python"] else ""),
            facts["machine"],
            facts["libc"] or "unknown C library",
            f"torch {facts['torch']}" if facts["torch"] else "no torch",
            *([f"CUDA {facts['cuda']}"] if facts["cuda"] else []),
            *([f"HIP {facts['hip']}"] if facts["hip"] else []),
        ]
    )


def format_value(value: t.Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in sorted(value.items())) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The compatibility tags (PEP 425) that a node's interpreter accepts, computed elsewhere."""

from __future__ import annotations

import contextlib
import functools
import typing as t

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.tags import Tag, compatible_tags, cpython_tags

#: PEP 600: what the older names mean.
_LEGACY = {"2014": (2, 17), "2010": (2, 12), "1": (2, 5)}


def supported_tags(environment: t.Mapping[str, t.Any]) -> dict[Tag, int]:
    """All tags that an interpreter accepts, each with its rank: 0 is the most specific, as pip ranks them.

    :param environment: as torch_info returns it; ``python`` and ``platform`` are read
    """
    python = environment["python"]
    return _rank_tags(python["version"], python["tag"], python["abi"], tuple(platform_tags(environment["platform"])))


@functools.lru_cache(maxsize=64)
def _rank_tags(version: str, interpreter: str, abi: str, platforms: tuple[str, ...]) -> dict[Tag, int]:
    major_minor = tuple(int(part) for part in version.split(".")[:2])
    tags = [
        *cpython_tags(major_minor, abis=[abi], platforms=platforms),
        *compatible_tags(major_minor, interpreter=interpreter, platforms=platforms),
    ]
    return {tag: rank for rank, tag in enumerate(dict.fromkeys(tags))}


def platform_tags(platform: t.Mapping[str, t.Any]) -> list[str]:
    """The platform tags that a node accepts, in the order of packaging 26: built there, then the newest libc (PEP 600, 656)."""
    machine, libc = platform["machine"], platform["libc"] or {}
    tags = [f"linux_{machine}"]
    if not libc.get("version"):
        return tags
    if libc.get("name") == "glibc":
        major, minor = _major_minor(libc["version"])
        for number in range(minor, 4, -1):
            tags.append(f"manylinux_{major}_{number}_{machine}")
            tags += [f"manylinux{year}_{machine}" for year, same in _LEGACY.items() if same == (major, number)]
    if libc.get("name") == "musl":
        major, minor = _major_minor(libc["version"])
        tags += [f"musllinux_{major}_{number}_{machine}" for number in range(minor, 0, -1)]
    return tags


def _major_minor(version: str) -> tuple[int, int]:
    major, minor = (int(part) for part in version.split(".")[:2])
    return major, minor

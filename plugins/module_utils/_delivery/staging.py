# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What deliveries leave in the folder on a node that wheels are brought to, when they are lost on the way."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

_PART = re.compile(r"\.[^/]+\.whl\.([0-9a-f]{16}|unknown)\.part")


def part_name(filename: str, sha256: str | None) -> str:
    """What a file is called until all of it is there; a file with other bytes never has this name.

    :param sha256: in hexadecimal
    """
    return f".{filename}.{(sha256 or 'unknown')[:16]}.part"


def is_part(name: str) -> bool:
    """Whether a file is a part of a wheel that was brought."""
    return _PART.fullmatch(name) is not None


def list_staged(folder: str) -> list[str]:
    """The wheels in a folder, and parts of such: names. Nothing if there is no such folder, or it cannot be read."""
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
    return sorted(name for name in names if name.endswith(".whl") or is_part(name))


def clear_staged(folder: str, names: t.Iterable[str]) -> None:
    """Remove files from a folder, and the folder if nothing else is in it."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, os.path.basename(name)))
    with contextlib.suppress(OSError):  # what is not empty stays
        os.rmdir(folder)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The files of the folder on a node that wheels are delivered to, those included that a broken delivery leaves there."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import opened_folder, trust

_PART = re.compile(r"\.[^/]+\.whl\.([0-9a-f]{16}|unknown)\.part")


def part_name(filename: str, sha256: str | None) -> str:
    """The name of a file until it is complete; a file with other bytes never has this name.

    :param sha256: in hexadecimal
    """
    return f".{filename}.{shorten(sha256)}.part"


def is_part(name: str) -> bool:
    """Whether a name is that of a wheel that is not complete yet."""
    return _PART.fullmatch(name) is not None


def list_staged(folder: str) -> list[str]:
    """The names of wheels in a folder, incomplete ones included; none if the folder does not exist or cannot be read."""
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
    return sorted(name for name in names if name.endswith(".whl") or is_part(name))


def list_abandoned(folder: str) -> list[str]:
    """Those of the wheels in a folder that nobody is about to complete."""
    names = list_staged(folder)
    parts = [name for name in names if is_part(name)]
    written = _find_open([os.path.join(folder, name) for name in parts]) if parts else set()
    return [name for name in names if os.path.join(folder, name) not in written]


def _find_open(paths: t.Iterable[str]) -> set[str]:
    """Those of some files that another process has open, as far as this user may know."""
    files = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path, follow_symlinks=False)
            files[status.st_dev, status.st_ino] = path
    found: set[str] = set()
    for process in os.listdir("/proc"):
        if not process.isdigit() or int(process) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for handle in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{process}/fd/{handle}")
                    found.update(path for key, path in files.items() if key == (status.st_dev, status.st_ino))
    return found


def clear_staged(folder: str, names: t.Iterable[str], trusted_owners: t.Iterable[str] = ()) -> None:
    """Remove files from a folder, and the folder if nothing else is in it. Root removes nothing where others can have a path lead to.

    :param trusted_owners: who besides the user and root may change it, and the folders above it (``trust.trust``)
    """
    with contextlib.suppress(FileNotFoundError), opened_folder(folder, trust(trusted_owners)) as (handle, stranger):
        if stranger and os.geteuid() == 0:
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.basename(name), dir_fd=handle)
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(folder)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Who waits for the wheel of a build: several control nodes may, and none may clear it away from another."""

from __future__ import annotations

import contextlib
import os
import re
import time

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_PATIENCE_SECONDS = 600  # after which one that has not asked again is gone
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def note_taker(folder: str, taker: str) -> None:
    """Note that somebody waits, if there is a build.

    :param folder: of takers
    :raises TorchExtensionError: if that is no name
    """
    path = os.path.join(folder, _check(taker))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        os.utime(path)


def forget_taker(folder: str, taker: str) -> None:
    """Note that somebody no longer waits."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(folder, _check(taker)))


def has_takers(folder: str) -> bool:
    """Whether somebody waits."""
    try:
        times = [entry.stat().st_mtime for entry in os.scandir(folder)]
    except OSError:
        return False
    return any(time.time() - each < _PATIENCE_SECONDS for each in times)


def _check(taker: str) -> str:
    if not _NAME.fullmatch(taker):
        raise TorchExtensionError(f"job.taker is {taker!r}, wanted is a name of letters, digits and ._-.")
    return taker

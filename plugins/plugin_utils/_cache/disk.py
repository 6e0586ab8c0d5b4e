# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The disk of the control node: how much is free, and write errors in words for the operator."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_RESERVE = 16 << 20  # bytes that stay free on the disk


@contextlib.contextmanager
def explain_write_errors(path: str) -> t.Iterator[None]:
    """Turn an error of the file system into what the operator can do about it.

    :param path: of the file that is written
    :raises TorchExtensionError: for any OSError
    """
    try:
        yield
    except OSError as exc:
        raise TorchExtensionError(
            f"{os.path.basename(path)} cannot be written to {os.path.dirname(path)} on the control node"
            f" ({exc.strerror}). Make room, or set torch_extension_cache_dir."
        ) from exc


def check_free_space(path: str, size: int) -> None:
    """
    :param path: of a file that is to be written
    :param size: bytes still to be written; nothing is checked unless it is above 0
    :raises TorchExtensionError: if less is free
    """
    folder = os.path.dirname(path)
    free = shutil.disk_usage(folder).free
    if size > 0 and free < size + _RESERVE:
        raise TorchExtensionError(
            f"{folder} on the control node has {free >> 20} MiB free, wanted are {(size + _RESERVE) >> 20} MiB. Make room,"
            " or set torch_extension_cache_dir."
        )

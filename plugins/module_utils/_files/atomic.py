# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import typing as t


def put(
    path: str, write: t.Callable[[t.IO[bytes]], t.Any], mode: int = 0o644, like: os.stat_result | None = None
) -> None:
    """Write a file whole or not at all.

    :param write: writes the content into an open file
    :param like: whose owner the file gets, where we are root and may choose
    """
    handle, temporary = tempfile.mkstemp(prefix=".torch_extension-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        chown_like(temporary, like)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def copy(src: str, file: t.IO[bytes]) -> None:
    """Copy a file into an open one, in pieces."""
    with open(src, "rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)


def chown_like(path: str, like: os.stat_result | None) -> None:
    """Give a file or folder to the owner of another one, where we are root and may."""
    if like is not None and os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid, follow_symlinks=False)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Read files that others may have put there: none that keeps waiting, and no more than is allowed."""

from __future__ import annotations

import errno
import os
import stat
import typing as t


def open_regular(path: str) -> t.IO[bytes]:
    """Open a regular file to read it.

    :raises OSError: if it is none, or cannot be read
    """
    # opening a FIFO must not block
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: str, limit: int) -> bytes:
    """The content of a regular file.

    :param limit: in bytes
    :raises OSError: if it is none, cannot be read, or has more
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    return content


def read_start(path: str, limit: int) -> bytes:
    """The beginning of a regular file; all of it, if it has no more.

    :param limit: in bytes
    :raises OSError: if it is none, or cannot be read
    """
    with open_regular(path) as file:
        return file.read(limit)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The SHA-256 of a file, computed while the file is written."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor

_CHUNK = 1 << 20  # bytes


class RunningDigest:
    """Hashes a file in a thread while it grows."""

    def __init__(self, path: str) -> None:
        """
        :param path: need not be there yet
        """
        self._path = path
        self._pool = ThreadPoolExecutor(1)  # one thread, so that calls are served in order
        self._hash = hashlib.sha256()
        self._done = 0  # bytes

    def __enter__(self) -> RunningDigest:
        return self

    def __exit__(self, *args: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def advance_to(self, size: int) -> Future[None]:
        """Hash up to this size, which the file has by now. 0 starts over."""
        return self._pool.submit(self._read, size)

    def result(self) -> str:
        """The digest of the whole file, in hexadecimal.

        :raises OSError: if it cannot be read
        """
        self.advance_to(os.path.getsize(self._path)).result()
        return self._hash.hexdigest()

    def _read(self, size: int) -> None:
        if size == 0:
            self._hash, self._done = hashlib.sha256(), 0
            return
        with open(self._path, "rb") as file:
            file.seek(self._done)
            while chunk := file.read(min(_CHUNK, size - self._done)):
                self._hash.update(chunk)
                self._done += len(chunk)
        if self._done != size:
            raise OSError(errno.EIO, os.strerror(errno.EIO), self._path)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""What is in the control node's cache, by the URL that it came from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import writing


class Entry:
    """The place of one URL's file. Files of one name from different places do not get in each other's way."""

    def __init__(self, cache: str, url: str, filename: str) -> None:
        """
        :param cache: the folder of all wheels
        :param filename: a wheel's, checked before
        """
        self.folder = os.path.join(cache, hashlib.sha256(url.encode()).hexdigest()[:16])
        self.path = os.path.join(self.folder, filename)
        self.part_path = os.path.join(self.folder, f".{filename}.part")
        self.record_path = self.path + ".sha256"

    @property
    def recorded(self) -> str | None:
        """The SHA-256 that the file had when it was downloaded, which the file need not have outlived."""
        try:
            with open(self.record_path, encoding="ascii") as file:
                digest = file.read().split()[0]
        except (OSError, IndexError, UnicodeDecodeError):
            return None
        return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None

    def holds(self, sha256: str) -> bool:
        """Whether the file is there, and whole."""
        try:
            return self.recorded == sha256 == sha256_of(self.path)
        except OSError:
            return False

    @contextlib.contextmanager
    def locked(self, wait: t.Callable[[], None]) -> t.Iterator[None]:
        """One download of a file at a time, over all processes; the system frees the lock of a process that died.

        :param wait: called if somebody else has the lock
        :raises TorchExtensionError: if the folder cannot be made or written to
        """
        with contextlib.ExitStack() as stack:
            with writing(self.path):
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
                lock_path = os.path.join(self.folder, f".{os.path.basename(self.path)}.lock")
                file = stack.enter_context(open(lock_path, "w", encoding="ascii"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    wait()
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def admit(self, digest: str) -> None:
        """Give the part its name. What is recorded without its file is what the file must be; so that comes first.

        :raises TorchExtensionError: if the disk does not take it
        """
        with writing(self.path):
            with open(self.record_path + ".new", "w", encoding="ascii") as file:
                file.write(f"{digest}  {os.path.basename(self.path)}\n")  # as sha256sum writes it
            os.replace(self.record_path + ".new", self.record_path)
            os.replace(self.part_path, self.path)

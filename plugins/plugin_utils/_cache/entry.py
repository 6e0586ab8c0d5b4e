# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A file in the control node's cache, by the URL that it came from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.recorded import RecordedFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.waiting import (
    Patience,
    lock_file,
    open_lock,
    write_holder,
)

#: longer than a download goes on without a byte
_PATIENCE_SECONDS = 45 * 60


class CacheEntry:
    """The file of one URL, with its hash and its lock. Files of the same name from two URLs are two entries."""

    def __init__(self, cache: str, url: str, filename: str) -> None:
        """
        :param cache: the folder of all entries
        :param filename: checked before: it becomes a path
        """
        self.folder = os.path.join(cache, hashlib.sha256(url.encode()).hexdigest()[:16])
        self.path = os.path.join(self.folder, filename)
        self.part_path = os.path.join(self.folder, f".{filename}.part")
        self._recorded = RecordedFile(self.path)
        self.record_path = self._recorded.record_path

    @property
    def recorded_sha256(self) -> str | None:
        """The SHA-256 that the file had when it was downloaded. It is kept even if the file is gone."""
        return self._recorded.recorded_sha256

    def has_file(self, sha256: str) -> bool:
        """Whether the file is there, and has this hash."""
        return self.recorded_sha256 == sha256 == self._recorded.measure()

    @contextlib.contextmanager
    def locked(self, notify: t.Callable[[str], None]) -> t.Iterator[None]:
        """Hold the lock of this file across processes. The system frees the lock of a process that died.

        :param notify: takes what is told while waiting for another process
        :raises TorchExtensionError: if the folder cannot be made or written to, or another process holds it and gets nowhere
        """
        with contextlib.ExitStack() as stack:
            with explain_write_errors(self.path):
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
                lock_path = os.path.join(self.folder, f".{os.path.basename(self.path)}.lock")
                file = stack.enter_context(open_lock(lock_path))
                lock_file(file, lock_path, Patience(_PATIENCE_SECONDS, self._part_size), notify)
                write_holder(file)
            yield

    def _part_size(self) -> int:
        try:
            return os.path.getsize(self.part_path)
        except OSError:
            return 0

    def commit(self, digest: str) -> None:
        """Record the hash and give the partial file its name.

        :param digest: the SHA-256 of the partial file
        :raises TorchExtensionError: if either cannot be written
        """
        with explain_write_errors(self.path):
            temporary.remove_leftovers(self.folder)
            self._recorded.keep(self.part_path, digest)

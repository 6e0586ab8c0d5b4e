# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A file in the control node's cache, and beside it the hash that was measured when it came.

Nobody believes such a file by its name: a power cut may have left it empty, cut or full of zeros. It counts while it has that hash.
"""

from __future__ import annotations

import contextlib
import os

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of

RECORD_SUFFIX = ".sha256"


class RecordedFile:
    """A file, and the record of its hash."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.record_path = path + RECORD_SUFFIX

    @property
    def recorded_sha256(self) -> str | None:
        """The SHA-256 that the file had when it came. It is kept even if the file is gone."""
        try:
            with open(self.record_path, encoding="ascii") as file:
                digest = file.read(200).split()[0]
        except (OSError, IndexError, UnicodeDecodeError):
            return None
        return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None

    def measure(self) -> str | None:
        """The SHA-256 of the file, if it is there and is what came; None otherwise."""
        recorded = self.recorded_sha256
        try:
            return recorded if recorded and sha256_of(self.path) == recorded else None
        except OSError:
            return None

    def keep(self, temporary: str, sha256: str) -> None:
        """Record the hash of a file, and give the file its name.

        The hash comes first: one without a file is what the file must have, a file without one is not trusted.

        :param temporary: path of the file, on the same file system
        :param sha256: its hash, as it was measured
        :raises OSError: if either cannot be written
        """
        # as sha256sum writes it
        atomic.write_bytes(self.record_path, f"{sha256}  {os.path.basename(self.path)}\n".encode(), 0o600)
        os.replace(temporary, self.path)

    def discard(self) -> None:
        """Remove the file and its record."""
        for path in (self.path, self.record_path):
            with contextlib.suppress(OSError):
                os.unlink(path)

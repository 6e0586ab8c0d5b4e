# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Read untrusted binary files: never more than is allowed, and never beyond the end that a table gives itself."""

from __future__ import annotations

import typing as t

#: of tables in one wheel. The libraries of flash-attn have some 10,000; each takes pyelftools 30 µs
_MAX_ENTRIES = 250_000
#: of files by the loader, as a node then follows them; flash-attn needs 50, all of torch's libraries 5,000
_MAX_LOOKUPS = 100_000
_MAX_TEXT_SIZE = 32 << 20  # bytes of names in one wheel, all of which are kept


class UnreadableError(Exception):
    """A binary that cannot be read. The message goes on after "… cannot be read: ", without a full stop."""


class Budget:
    """How much may be read of one wheel, so that no count in it decides how long that takes and how much memory."""

    def __init__(self, entries: int = _MAX_ENTRIES, text: int = _MAX_TEXT_SIZE, lookups: int = _MAX_LOOKUPS) -> None:
        """
        :param entries: of tables
        :param text: bytes of names
        :param lookups: of libraries in folders
        """
        self._entries, self._text, self._lookups = entries, text, lookups

    def spend_entries(self, count: int) -> None:
        """
        :raises UnreadableError: if these are more entries than are left
        """
        if count > self._entries:
            raise UnreadableError(f"its tables have {count} more entries, and {self._entries} are left to read")
        self._entries -= count

    def spend_text(self, size: int) -> None:
        """
        :param size: in bytes
        :raises UnreadableError: if that is more than is left
        """
        if size > self._text:
            raise UnreadableError(f"it has {size} more bytes of names, and {self._text} are left to read")
        self._text -= size

    def spend_lookups(self, count: int) -> None:
        """
        :raises UnreadableError: if these are more lookups than are left
        """
        if count > self._lookups:
            raise UnreadableError(
                f"it has the loader look for {count} more files, and {self._lookups} are left to look for"
            )
        self._lookups -= count


def read_exactly(file: t.IO[bytes], offset: int, size: int) -> bytes:
    """Read exactly these bytes of a file.

    :raises UnreadableError: if it ends before, or cannot be read
    """
    try:
        file.seek(offset)  # which takes no number that no file can have
        data = file.read(size)
    except (OSError, OverflowError, ValueError) as exc:
        raise UnreadableError(f"its {size} bytes at byte {offset} cannot be read ({exc})") from exc
    if len(data) != size:
        raise UnreadableError(f"it ends before byte {offset + size}")
    return data

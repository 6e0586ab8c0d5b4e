# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Wheels that are on the control node already: in a folder, or in a tar archive of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import tarfile
import typing as t
import zlib
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)

_CHUNK = 1 << 20  # bytes


class Place(t.NamedTuple):
    """Where a ``file:`` URL (RFC 8089) points to."""

    path: str
    member: str | None  # a name in the archive that the path is of; None for a file

    def is_named(self, filename: str) -> bool:
        """Whether it is a file of this name, which can be used where it is."""
        return self.member is None and os.path.basename(self.path) == filename

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else self.path


def locate(url: str) -> Place | None:
    """Read ``file:///FOLDER/WHEEL`` or ``file:///ARCHIVE#MEMBER``.

    :returns: None for a URL of another kind
    :raises TorchExtensionError: if it names another machine, or no place within the archive
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    path, member = unquote(parts.path), unquote(parts.fragment) or None
    if parts.netloc not in ("", "localhost") or not os.path.isabs(path):
        raise TorchExtensionError(f"{url} is no file of the control node; wanted is file:///ABSOLUTE/PATH.")
    if member and (os.path.isabs(member) or ".." in member.split("/")):
        raise TorchExtensionError(f"{url} names {member!r}, which is no place within an archive.")
    return Place(path, member)


def check_there(place: Place, size: int | None) -> None:
    """
    :param size: of the file, in bytes, if that is known
    :raises TorchExtensionError: if there is no such file, or it has another size
    """
    if not os.path.isfile(place.path):
        raise TorchExtensionError(
            f"There is no file {place.path} on the control node. Put it there, or correct the URL of the wheel."
        )
    found = os.path.getsize(place.path)
    if not place.member and size not in (None, found):
        raise TorchExtensionError(
            f"{place.path} has {found} bytes, wanted are {size}: it is another file or it is damaged."
        )


def sha256(place: Place) -> str:
    """The SHA-256 of a file or an archive's member, in hexadecimal.

    :raises TorchExtensionError: if it cannot be read
    """
    with _opened(place) as (_size, file):
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(place: Place, target: str, size: int | None) -> None:
    """Write a file or an archive's member to a path of ours. Nothing in the archive is used as a path.

    :param size: what it must have, in bytes, if that is known
    :raises TorchExtensionError: if it cannot be read or written, or has another size
    """
    with _opened(place) as (found, source):
        if size not in (None, found):
            raise TorchExtensionError(
                f"{place} has {found} bytes, wanted are {size}: it is another file or it is damaged."
            )
        check_free_space(target, found)
        with explain_write_errors(target), open(target, "wb") as file:
            while chunk := _read(place, source):
                file.write(chunk)


@contextlib.contextmanager
def _opened(place: Place) -> t.Iterator[tuple[int, t.IO[bytes]]]:
    """Size and content."""
    with _readable(place), contextlib.ExitStack() as stack:
        if place.member is None:
            yield os.path.getsize(place.path), stack.enter_context(open(place.path, "rb"))
            return
        archive = stack.enter_context(tarfile.open(place.path))
        members = [member for member in archive if member.name == place.member]
        file = archive.extractfile(members[0]) if len(members) == 1 and members[0].isreg() else None
        if file is None:
            raise TorchExtensionError(
                f"{place.path} has {len(members)} members {place.member!r}, wanted is one that is a regular file. Name the"
                " right one in the URL after the #, as tar --list shows it."
            )
        yield members[0].size, stack.enter_context(file)


def _read(place: Place, file: t.IO[bytes]) -> bytes:
    with _readable(place):
        return file.read(_CHUNK)


@contextlib.contextmanager
def _readable(place: Place) -> t.Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(":.")
        raise TorchExtensionError(f"{place.path} on the control node cannot be read: {reason}. Make it anew.") from exc

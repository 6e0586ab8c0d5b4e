# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Wheels that are on the control node already: in a folder, or in a tar archive of a folder."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of_rest
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)

_CHUNK = 1 << 20  # bytes


class LocalFile(t.NamedTuple):
    """What a ``file:`` URL (RFC 8089) points to."""

    path: str
    member: str | None  # a name in the archive at this path; None if the file itself is meant

    def is_named(self, filename: str) -> bool:
        """Whether it is a file of this name, so that it can be used where it is."""
        return self.member is None and os.path.basename(self.path) == filename

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else self.path


def parse_url(url: str) -> LocalFile | None:
    """Read ``file:///FOLDER/WHEEL`` or ``file:///ARCHIVE#MEMBER``.

    :returns: None for a URL of another kind
    :raises TorchExtensionError: if it names another machine, or a path out of the archive
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    path, member = unquote(parts.path), unquote(parts.fragment) or None
    if parts.netloc not in ("", "localhost") or not os.path.isabs(path):
        raise TorchExtensionError(f"{url} is no file of the control node; wanted is file:///ABSOLUTE/PATH.")
    if member and (os.path.isabs(member) or ".." in member.split("/")):
        raise TorchExtensionError(f"{url} names {member!r}, which is no place within an archive.")
    return LocalFile(path, member)


def check_exists(local_file: LocalFile, size: int | None) -> None:
    """
    :param size: of the file, in bytes, if that is known
    :raises TorchExtensionError: if there is no such file, or it has another size
    """
    if not os.path.isfile(local_file.path):
        raise TorchExtensionError(
            f"There is no file {local_file.path} on the control node. Put it there, or correct its URL."
        )
    actual_size = os.path.getsize(local_file.path)
    if not local_file.member and size not in (None, actual_size):
        raise TorchExtensionError(
            f"{local_file.path} has {actual_size} bytes, wanted are {size}: it is another file or it is damaged."
        )


def sha256_of(local_file: LocalFile) -> str:
    """The SHA-256 of a file or an archive's member, in hexadecimal.

    :raises TorchExtensionError: if it cannot be read
    """
    with open_local(local_file) as (_size, file):
        return sha256_of_rest(file)


def copy(local_file: LocalFile, target: str, size: int | None) -> None:
    """Copy a file or an archive's member to a path. No name in the archive is used as a path.

    :param size: what it must have, in bytes, if that is known
    :raises TorchExtensionError: if it cannot be read or written, or has another size
    """
    with open_local(local_file) as (actual_size, source):
        if size not in (None, actual_size):
            raise TorchExtensionError(
                f"{local_file} has {actual_size} bytes, wanted are {size}: it is another file or it is damaged."
            )
        check_free_space(target, actual_size)
        with explain_write_errors(target), open(target, "wb") as file:
            while chunk := _read_chunk(local_file, source):
                file.write(chunk)


class Readable(t.Protocol):
    """What is read from its beginning to its end."""

    def read(self, size: int = -1, /) -> bytes:
        """Some of it, and nothing at the end."""


@contextlib.contextmanager
def open_local(local_file: LocalFile) -> t.Iterator[tuple[int, Readable]]:
    """The size, and the content to read."""
    with _explain_read_errors(local_file), contextlib.ExitStack() as stack:
        if local_file.member is None:
            yield os.path.getsize(local_file.path), stack.enter_context(open(local_file.path, "rb"))
            return
        with _open_member(local_file) as (archive, member):
            yield member.size, archive.open(member)


@contextlib.contextmanager
def open_seekable(local_file: LocalFile) -> t.Iterator[tuple[int, t.IO[bytes]]]:
    """As :func:`open_local`, of which any part can be read. What lies in an archive that is packed is unpacked for it."""
    with _explain_read_errors(local_file), contextlib.ExitStack() as stack:
        if local_file.member is None:
            yield os.path.getsize(local_file.path), stack.enter_context(open(local_file.path, "rb"))
            return
        archive, member = stack.enter_context(_open_member(local_file))
        offset = archive.offset_of(member)
        if offset is not None:
            file = stack.enter_context(open(local_file.path, "rb"))
            yield member.size, t.cast("t.IO[bytes]", io.BufferedReader(_Part(file, offset, member.size)))
            return
        unpacked = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(archive.open(member), unpacked, _CHUNK)
        yield member.size, unpacked


@contextlib.contextmanager
def _open_member(local_file: LocalFile) -> t.Iterator[tuple[archives.Tar, archives.Member]]:
    with archives.open_tar(local_file.path, archives.BUNDLE) as archive:
        members = [member for member in archive if member.name == local_file.member]
    if len(members) != 1 or members[0].kind != archives.FILE:
        raise TorchExtensionError(
            f"{local_file.path} has {len(members)} members {local_file.member!r}, wanted is one that is a regular file. Name the"
            " right one in the URL after the #, as tar --list shows it."
        )
    with archives.open_tar(local_file.path, archives.BUNDLE) as archive:
        yield archive, _go_to(archive, local_file.member)


def _go_to(archive: archives.Archive, name: str | None) -> archives.Member:
    """The member of a name that is there. Of those behind it nothing is read, for a tar cannot be read backwards."""
    return next(member for member in archive if member.name == name)


class _Part(io.RawIOBase):
    """A part of a file."""

    def __init__(self, file: t.IO[bytes], offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: t.Any) -> int:
        self._file.seek(self._offset + self._position)
        data = self._file.read(max(min(len(buffer), self._size - self._position), 0))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _read_chunk(local_file: LocalFile, file: Readable) -> bytes:
    with _explain_read_errors(local_file):
        return file.read(_CHUNK)


@contextlib.contextmanager
def _explain_read_errors(local_file: LocalFile) -> t.Iterator[None]:
    try:
        yield
    except (archives.ArchiveError, OSError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(":.")
        raise TorchExtensionError(
            f"{local_file.path} on the control node cannot be read: {reason}. Make it anew."
        ) from exc

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""The files in a wheel that nobody vouches for: one at a time, seekable, and none if the archive is an attack."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import tempfile
import typing as t
import zipfile
import zlib

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)

_CHUNK = 1 << 20  # bytes
_DIRECTORY = 4 << 20  # bytes of an archive's directory, which zipfile reads whole; torch's wheel has 1.5 MiB
_MEMBERS = 20_000  # torch's wheel has 12,000
_SIZE = 4 << 30  # bytes of a member; also what all that are read have together
_RATIO = 200  # of packed sizes; code has up to 10, deflate can do 1,032
_RATIO_FROM = 16 << 20  # bytes; a small file of zeros harms nobody
_ENCRYPTED = 0x1  # PKWARE's APPNOTE, 4.4.4
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)|.*\0", re.DOTALL)  # absolute, above, or cut short by C


class Archive:
    """A wheel whose members, all of them, have been found harmless by what its directory says."""

    def __init__(self, path: str, folder: str, archive: zipfile.ZipFile) -> None:
        self._path, self._folder, self._archive = path, folder, archive
        self._size_left = _SIZE

    def names(self) -> list[str]:
        """Of the files, in the order of the archive."""
        return [info.filename for info in self._archive.infolist() if not info.is_dir()]

    def start(self, name: str, size: int) -> bytes:
        """The first bytes of a file, or fewer if it has no more.

        :raises TorchExtensionError: if it cannot be read
        """
        with self._reading(name) as member:
            return member.read(size)

    @contextlib.contextmanager
    def seekable(self, name: str) -> t.Iterator[t.BinaryIO]:
        """A file, unpacked into one without a name, which the system removes in any case.

        :raises TorchExtensionError: if it is damaged or is too large, or the disk does not take it
        """
        info = self._archive.getinfo(name)
        self._size_left -= info.file_size
        if self._size_left < 0:
            raise unsound(self._path, "its libraries have more", f"no more than {_SIZE} bytes in all")
        beside = os.path.join(self._folder, os.path.basename(self._path))
        with contextlib.ExitStack() as stack:
            with explain_write_errors(beside):
                check_free_space(beside, info.file_size)
                file = stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
            with self._reading(name) as member:
                while chunk := member.read(_CHUNK):
                    with explain_write_errors(beside):
                        file.write(chunk)
            with explain_write_errors(beside):
                size = file.tell()  # zipfile sees to it that this is no more than what the directory says
                file.seek(0)
            if size != info.file_size:
                raise unsound(self._path, f"its {name!r} has {size} bytes", f"{info.file_size}, as its directory says")
            yield t.cast(t.BinaryIO, file)

    @contextlib.contextmanager
    def _reading(self, name: str) -> t.Iterator[t.IO[bytes]]:
        with _archive_errors(self._path), self._archive.open(name) as member:
            yield member


@contextlib.contextmanager
def open_archive(path: str, folder: str) -> t.Iterator[Archive]:
    """Open a wheel, and look at all that its directory says before anything is read.

    :param folder: of the control node, for one unpacked file at a time
    :raises TorchExtensionError: if it is no zip archive, is damaged, or was made to do harm
    """
    with contextlib.ExitStack() as stack:
        with _archive_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Sparing(path))))
        _check(path, archive.infolist())
        yield Archive(path, folder, archive)


def unsound(path: str, fact: str, wanted: str) -> TorchExtensionError:
    """What to raise about a wheel that was made badly, or to do harm."""
    return TorchExtensionError(
        f"{os.path.basename(path)} is not a sound wheel: {fact}, wanted are {wanted}. Take it from another source"
        " (torch_extension_sources)."
    )


class _Sparing(io.FileIO):
    """A file of which nobody takes much at once; zipfile reads as large a directory as the archive says it has."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has {wanted} bytes, wanted are no more than {_DIRECTORY}")
        return super().read(wanted)


@contextlib.contextmanager
def _archive_errors(path: str) -> t.Iterator[None]:
    """
    :raises TorchExtensionError: for what zipfile and its decompressors raise
    """
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
    ) as exc:
        reason = (isinstance(exc, OSError) and exc.strerror) or str(exc) or type(exc).__name__
        raise TorchExtensionError(
            f"{os.path.basename(path)} cannot be read as a wheel: {reason}. Download it anew, or take it from another"
            " source (torch_extension_sources)."
        ) from exc


def _check(path: str, members: t.Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > _MEMBERS:
        raise unsound(path, f"it has {len(members)} files", f"no more than {_MEMBERS}")
    seen: set[str] = set()
    for info in members:
        name = repr(info.orig_filename[:200])
        if not info.orig_filename or _OUTSIDE.match(info.orig_filename):
            raise unsound(path, f"it has a file {name}", "names of files below its own folder")
        if not info.orig_filename.isprintable():  # a terminal, or a log, would take them for more than a name
            raise unsound(path, f"it has a file {name}", "names that can be printed")
        if info.filename in seen:
            raise unsound(path, f"it has {name} twice", "every file once")
        seen.add(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise unsound(path, f"its {name} is a symbolic link", "files alone")
        if info.flag_bits & _ENCRYPTED:
            raise unsound(path, f"its {name} is encrypted", "files that everybody can read")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile bounds what it unpacks at once for these two alone
            raise unsound(path, f"its {name} is packed by method {info.compress_type}", "stored or deflated files")
        if info.file_size > _SIZE:
            raise unsound(path, f"its {name} has {info.file_size} bytes", f"no more than {_SIZE}")
        if info.file_size > max(_RATIO_FROM, _RATIO * info.compress_size):
            raise unsound(
                path,
                f"its {name} has {info.file_size} bytes out of {info.compress_size} packed ones",
                f"no more than {_RATIO} times as many",
            )

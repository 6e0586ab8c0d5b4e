# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Read the files of an untrusted wheel: one at a time, seekable, and none if the archive is an attack."""

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

_CHUNK_SIZE = 1 << 20  # bytes
_MAX_DIRECTORY_SIZE = 4 << 20  # bytes of an archive's directory, which zipfile reads whole; torch's wheel has 1.5 MiB
_MAX_MEMBERS = 20_000  # torch's wheel has 12,000
_MAX_SIZE = 4 << 30  # bytes of a member; also of all that are read together
_MAX_RATIO = 200  # of packed sizes; code has up to 10, deflate can do 1,032
_RATIO_CHECKED_FROM = 16 << 20  # bytes; a small file of zeros harms nobody
_ENCRYPTED_FLAG = 0x1  # PKWARE's APPNOTE, 4.4.4
_UNSAFE_NAME = re.compile(
    r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)|.*\0", re.DOTALL
)  # absolute, above, or cut short by C


class Archive:
    """An open wheel. By what its directory says, all its members are harmless."""

    def __init__(self, path: str, folder: str, archive: zipfile.ZipFile) -> None:
        self._path, self._folder, self._archive = path, folder, archive
        self._size_left = _MAX_SIZE

    def file_names(self) -> list[str]:
        """The names of the files, in the order of the archive."""
        return [info.filename for info in self._archive.infolist() if not info.is_dir()]

    def read_start(self, name: str, size: int) -> bytes:
        """Read the first bytes of a file; fewer, if it has no more.

        :raises TorchExtensionError: if it cannot be read
        """
        with self._open_member(name) as member:
            return member.read(size)

    @contextlib.contextmanager
    def unpack(self, name: str) -> t.Iterator[t.IO[bytes]]:
        """Unpack a file into one without a name, which the system removes whatever happens.

        :raises TorchExtensionError: if it is damaged or is too large, or the disk does not take it
        """
        info = self._archive.getinfo(name)
        self._size_left -= info.file_size
        if self._size_left < 0:
            raise wheel_error(self._path, "its libraries have more", f"no more than {_MAX_SIZE} bytes in all")
        beside = os.path.join(self._folder, os.path.basename(self._path))
        with contextlib.ExitStack() as stack:
            with explain_write_errors(beside):
                check_free_space(beside, info.file_size)
                file = stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
            with self._open_member(name) as member:
                while chunk := member.read(_CHUNK_SIZE):
                    with explain_write_errors(beside):
                        file.write(chunk)
            with explain_write_errors(beside):
                size = file.tell()  # zipfile sees to it that this is no more than what the directory says
                file.seek(0)
            if size != info.file_size:
                raise wheel_error(
                    self._path, f"its {name!r} has {size} bytes", f"{info.file_size}, as its directory says"
                )
            yield file

    @contextlib.contextmanager
    def _open_member(self, name: str) -> t.Iterator[t.IO[bytes]]:
        with _translate_errors(self._path), self._archive.open(name) as member:
            yield member


@contextlib.contextmanager
def open_archive(path: str, folder: str) -> t.Iterator[Archive]:
    """Open a wheel, and check its whole directory before anything is read.

    :param folder: of the control node, for one unpacked file at a time
    :raises TorchExtensionError: if it is no zip archive, is damaged, or was made to do harm
    """
    with contextlib.ExitStack() as stack:
        with _translate_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(BoundedFile(path))))
        _check_members(path, archive.infolist())
        yield Archive(path, folder, archive)


def wheel_error(path: str, fact: str, expectation: str) -> TorchExtensionError:
    """The error for a wheel that was made badly, or to do harm."""
    return TorchExtensionError(
        f"{os.path.basename(path)} is not a sound wheel: {fact}, wanted are {expectation}. Take it from another source"
        " (torch_extension_sources)."
    )


class BoundedFile(io.FileIO):
    """A file that refuses large reads: zipfile reads as large a directory as the archive says it has."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        if size > _MAX_DIRECTORY_SIZE:
            raise zipfile.BadZipFile(f"its directory has {size} bytes, wanted are no more than {_MAX_DIRECTORY_SIZE}")
        return super().read(size)


@contextlib.contextmanager
def _translate_errors(path: str) -> t.Iterator[None]:
    """Raise a TorchExtensionError for what zipfile and its decompressors raise."""
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


def _check_members(path: str, members: t.Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_MEMBERS:
        raise wheel_error(path, f"it has {len(members)} files", f"no more than {_MAX_MEMBERS}")
    seen: set[str] = set()
    for info in members:
        name = repr(info.orig_filename[:200])
        if not info.orig_filename or _UNSAFE_NAME.match(info.orig_filename):
            raise wheel_error(path, f"it has a file {name}", "names of files below its own folder")
        if not info.orig_filename.isprintable():  # a terminal, or a log, would take them for more than a name
            raise wheel_error(path, f"it has a file {name}", "names that can be printed")
        if info.filename in seen:
            raise wheel_error(path, f"it has {name} twice", "every file once")
        seen.add(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise wheel_error(path, f"its {name} is a symbolic link", "files alone")
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise wheel_error(path, f"its {name} is encrypted", "files that everybody can read")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile bounds what it unpacks at once for these two alone
            raise wheel_error(path, f"its {name} is packed by method {info.compress_type}", "stored or deflated files")
        if info.file_size > _MAX_SIZE:
            raise wheel_error(path, f"its {name} has {info.file_size} bytes", f"no more than {_MAX_SIZE}")
        if info.file_size > max(_RATIO_CHECKED_FROM, _MAX_RATIO * info.compress_size):
            raise wheel_error(
                path,
                f"its {name} has {info.file_size} bytes out of {info.compress_size} packed ones",
                f"no more than {_MAX_RATIO} times as many",
            )

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What an sdist, or the archive of a git tag, says of itself. Nothing of it is unpacked or run.

It is untrusted: how much of it is read, and is kept, is bounded whatever it says.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import gzip
import io
import os
import sys
import tarfile
import typing as t
import zipfile
import zlib
from email.parser import HeaderParser

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.archive import BoundedFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    with contextlib.suppress(ImportError):  # pip_index.py runs pip, and says so
        from pip._vendor import tomli as tomllib

_MAX_MEMBERS = 100_000  # flash-attn with CUTLASS has 7,500
_MAX_SIZE = 2 << 30  # bytes of all files together; those of flash-attn have 90 MiB
_MAX_READ = 32 << 20  # bytes of headers of a tar archive, and of what is read; those of flash-attn have 12 MiB
_MAX_TEXT = 4 << 20  # bytes of a file that is read
_CHUNK = 1 << 16  # bytes

_PYPROJECT, _PKG_INFO = "pyproject.toml", "PKG-INFO"
_DEFAULT_REQUIRES = ("setuptools", "wheel")  # of an sdist without build-system (PEP 518)

# SOURCE_DATE_EPOCH ends up in a wheel, whose dates go from 1980 to 2107 (PKWARE's APPNOTE, 4.4.6)
_FIRST_EPOCH = calendar.timegm((1980, 1, 1, 0, 0, 0))
_LAST_EPOCH = calendar.timegm((2107, 12, 31, 23, 59, 58))


class SdistFacts(t.NamedTuple):
    """What an sdist says of itself."""

    build_requires: tuple[str, ...]  # PEP 508; what is untrusted in it has still to be read
    newest_mtime: int  # seconds since the epoch, of a file; a date that a wheel can have
    version: str | None  # of PKG-INFO, which a git archive has not
    requires_python: str | None  # likewise
    paths: frozenset[str]  # of all files and the folders above them, below the top of the sdist

    def has(self, path: str) -> bool:
        """Whether there is a file at a path, or a folder with files in it. A submodule in a git archive is an empty one."""
        return path in self.paths

    def missing(self, paths: t.Iterable[str]) -> tuple[str, ...]:
        """Those of the paths that it has not."""
        return tuple(path for path in paths if not self.has(path))


class _Member(t.NamedTuple):
    """A file in an archive."""

    path: str
    mtime: int  # seconds since the epoch
    size: int  # bytes
    read: t.Callable[[], bytes]  # while the archive is at it


def read_sdist(path: str) -> SdistFacts:
    """Read an sdist: ``.tar.gz`` or ``.zip``.

    :raises TorchExtensionError: if it cannot be read, or was made to do harm
    """
    texts: dict[str, bytes] = {}
    paths: list[str] = []
    newest, total = _FIRST_EPOCH, 0
    with _explain_errors(path):
        for member in _members(path):
            total += member.size
            if len(paths) >= _MAX_MEMBERS:
                raise _UnsoundError(f"it has more than {_MAX_MEMBERS} files")
            if total > _MAX_SIZE or member.size < 0:
                raise _UnsoundError(f"its files have more than {_MAX_SIZE} bytes")
            if member.path.startswith("/") or ".." in member.path.split("/"):
                raise _UnsoundError(f"its {member.path[:200]!r} leads out of its folder")
            paths.append(member.path)
            newest = max(newest, member.mtime)
            _top, _slash, inner = member.path.partition("/")
            if inner in (_PYPROJECT, _PKG_INFO):
                if member.size > _MAX_TEXT:
                    raise _UnsoundError(f"its {inner} has more than {_MAX_TEXT} bytes")
                texts[inner] = member.read()
        if len({file.partition("/")[0] for file in paths}) != 1 or not all("/" in file for file in paths):
            raise _UnsoundError("its files are not all in one folder")
        headers = HeaderParser().parsestr(texts.get(_PKG_INFO, b"").decode("utf-8", "replace"))
        return SdistFacts(
            _read_build_requires(texts.get(_PYPROJECT)),
            min(newest, _LAST_EPOCH),
            headers["Version"],
            headers["Requires-Python"],
            _with_folders(file.partition("/")[2] for file in paths),
        )


class _UnsoundError(Exception):
    """The archive is no sdist. The message goes on after the name of the file and a colon, without a full stop."""


def _with_folders(files: t.Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for path in files:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


def _read_build_requires(pyproject: bytes | None) -> tuple[str, ...]:
    if pyproject is None:
        return _DEFAULT_REQUIRES
    build_system = tomllib.loads(pyproject.decode()).get("build-system")
    if build_system is None:
        return _DEFAULT_REQUIRES
    requires = build_system.get("requires") if isinstance(build_system, dict) else None
    if not isinstance(requires, list) or not all(isinstance(each, str) for each in requires):
        raise _UnsoundError(f"build-system.requires of its {_PYPROJECT} is no list of requirements")
    return tuple(requires)


def _members(path: str) -> t.Iterator[_Member]:
    return _zip_members(path) if path.endswith(".zip") else _tar_members(path)


def _zip_members(path: str) -> t.Iterator[_Member]:
    with BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _UnsoundError(f"its {info.filename[:200]!r} is encrypted, or packed by an unusual method")
            yield _Member(info.filename, _epoch_of(info), info.file_size, functools.partial(_read_zipped, archive, info))


def _epoch_of(info: zipfile.ZipInfo) -> int:
    """The time of a file. It is told without its zone; whatever that is, the same archive has the same time."""
    try:
        return calendar.timegm(info.date_time)
    except ValueError:  # no date, such as all zeros
        return _FIRST_EPOCH


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(_MAX_TEXT)


def _tar_members(path: str) -> t.Iterator[_Member]:
    with gzip.open(path) as stream, tarfile.TarFile(fileobj=t.cast(t.Any, _ForwardFile(stream))) as archive:
        while info := archive.next():
            archive.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all
            if info.isdir():
                continue
            yield _Member(info.name.removeprefix("./"), int(info.mtime), info.size, functools.partial(_read_tarred, archive, info))


def _read_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info) if info.isreg() else None
    if file is None:
        raise _UnsoundError(f"its {info.name[:200]!r} is no regular file")
    return file.read(_MAX_TEXT)


class _ForwardFile(io.RawIOBase):
    """A stream that is read once, from its beginning to its end. It gives no more than a sound archive needs."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        super().__init__()
        self._stream = stream
        self._position = self._read = 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise _UnsoundError("its members are not one behind the other")
        if offset > _MAX_SIZE + _MAX_READ:
            raise _UnsoundError(f"its files have more than {_MAX_SIZE} bytes")
        while self._position < offset:
            skipped = self._stream.read(min(_CHUNK, offset - self._position))
            if not skipped:
                break  # as with a file, whose end shows when it is read
            self._position += len(skipped)
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ - self._read:
            raise _UnsoundError("its headers are larger than those of an sdist")
        self._read += size
        data = self._stream.read(size)
        self._position += len(data)
        return data


@contextlib.contextmanager
def _explain_errors(path: str) -> t.Iterator[None]:
    try:
        yield
    except (
        *(_UnsoundError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError),
        *(ValueError, LookupError, NotImplementedError, OverflowError, RuntimeError),
    ) as exc:
        reason = (isinstance(exc, OSError) and exc.strerror) or str(exc) or type(exc).__name__
        raise TorchExtensionError(
            f"{os.path.basename(path)} cannot be read as an sdist: {reason.splitlines()[0].rstrip('.')}. Put a sound one into a directory:"
            " of torch_extension_sources, or name another version in torch_extension_packages."
        ) from exc

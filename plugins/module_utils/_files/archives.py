# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The one gate through which archives of others are read: wheels and other zip files, sdists, bundles and other tar files.

What an archive says of itself is checked before any of its files is read: names, kinds, numbers, sizes, how they are packed. zipfile
and tarfile parse it, and are handed no more of it than a sound archive has. A tar has no directory: it is read once, forwards, and
each member is checked before its content.
"""

from __future__ import annotations

import calendar
import contextlib
import math
import os
import re
import stat
import typing as t
import zipfile

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import open_regular

if t.TYPE_CHECKING:
    import tarfile

FILE, FOLDER, LINK, HARD_LINK = "file", "folder", "link", "hard link"

_CHUNK = 1 << 20  # bytes
_MAX_DIRECTORY = 8 << 20  # bytes of the directory of a zip, which zipfile reads whole; torch's wheel has 1.5 MiB
_MAX_HEADER = 16 << 10  # bytes of one header of a tar; those of two paths as long as Linux has them take half of it
_MAX_FIRST_HEADERS = 64 << 10  # bytes of all headers of a tar; flash-attn's sdist has 1.5 KiB for each member
_MAX_HEADERS_EACH = 4 << 10  # and so many more for each member
_MAX_TARGET = 4 << 10  # bytes of what a link leads to
_MANY_DIGITS = re.compile(rb"[0-9]{100}")  # on which tarfile takes quadratic time (CVE-2024-6232)
_MAX_RATIO = 200  # of packed sizes; code has up to 10, deflate can do 1,032
_RATIO_CHECKED_FROM = 16 << 20  # bytes; a small file of zeros harms nobody
_MAX_XZ_MEMORY = 256 << 20  # bytes; xz -9 takes 65 MiB
_ENCRYPTED_FLAG = 0x1  # PKWARE's APPNOTE, 4.4.4
_ENTRY_SIGNATURE = b"PK\1\2"  # likewise, 4.3.12
#: absolute, above, or cut short by C
_UNSAFE_NAME = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)|.*\0", re.DOTALL)


class Limits(t.NamedTuple):
    """How much an archive may have."""

    members: int
    single: int  # bytes of one file
    total: int  # bytes of all of them
    has_links: bool = True  # whether symbolic links may be in it


#: torch's have 12,000 members; those for ROCm 16 GB in all
WHEEL = Limits(50_000, 8 << 30, 32 << 30, has_links=False)
#: flash-attn's has 7,500 members and 90 MiB
SDIST = Limits(100_000, 2 << 30, 2 << 30)
#: a compiler for CUDA has 500 MB
COMPILER = Limits(200_000, 20 << 30, 20 << 30)
#: a bundle is not packed, and all of it lies there
BUNDLE = Limits(50_000, 8 << 30, 1 << 40)


class ArchiveError(Exception):
    """An archive cannot be read. The message goes on after the name of the archive and a colon, without a full stop."""


class UnsoundArchiveError(ArchiveError):
    """An archive has what no honest one has: the fact, and what is wanted."""


class Member(t.NamedTuple):
    """A member of an archive."""

    name: str  # as the archive has it
    kind: str  # FILE, FOLDER, LINK, HARD_LINK, or in words what else it is
    size: int  # bytes
    mode: int  # permissions
    modified: float  # seconds since the epoch
    target: str  # of a link
    handle: t.Any  # of the archive's own


class Content:
    """The content of a member, to be read once."""

    def __init__(self, name: str, size: int, read: t.Callable[[int], bytes]) -> None:
        self._name, self._left, self._read = name, size, read

    def read(self, size: int = -1) -> bytes:
        """As files do it, but no more than a MiB at once; never more in all than the archive says.

        :raises ArchiveError: if it is damaged or cut off
        """
        size = min(self._left, _CHUNK, size if size >= 0 else _CHUNK)
        if not size:
            return b""
        with _explain_damage():
            data = self._read(size)
        if not data:
            raise ArchiveError(f"its {self._name[:200]!r} is cut off")
        self._left -= len(data)
        return data

    def read_all(self, limit: int) -> bytes:
        """All of it, if that is not too much.

        :raises ArchiveError: if it has more bytes, or is damaged
        """
        if self._left > limit:
            raise UnsoundArchiveError(
                f"its {self._name[:200]!r} has {self._left} bytes, wanted are no more than {limit}"
            )
        return b"".join(iter(self.read, b""))


class Archive:
    """An archive that is open. Its members come one after the other, and each can be read while the archive is at it."""

    def __iter__(self) -> t.Iterator[Member]:
        raise NotImplementedError

    def open(self, member: Member) -> Content:
        """The content of a file. Of a tar it is the member that the archive is at, or a later one.

        :raises ArchiveError: if it cannot be read
        """
        raise NotImplementedError


class Zip(Archive):
    """A zip file, of which the whole directory has been checked."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __iter__(self) -> t.Iterator[Member]:
        return map(self._describe, self._archive.infolist())

    def file_names(self) -> list[str]:
        """The names of its files, in their order in the directory."""
        return [info.filename for info in self._archive.infolist() if not info.is_dir()]

    def open(self, member: Member) -> Content:
        return self._open(member.handle)

    def open_file(self, name: str) -> Content:
        """The content of a file by its name.

        :raises ArchiveError: if it cannot be read, or there is none
        """
        return self._open(self._find(name))

    def size_of(self, name: str) -> int:
        """The size of a file in bytes, as the archive has it.

        :raises ArchiveError: if there is none
        """
        return self._find(name).file_size

    def _find(self, name: str) -> zipfile.ZipInfo:
        info = self._archive.NameToInfo.get(name)
        if info is None:
            raise ArchiveError(f"it has no {name[:200]!r}")
        return info

    def _open(self, info: zipfile.ZipInfo) -> Content:
        with _explain_damage():
            return Content(info.filename, info.file_size, self._archive.open(info).read)

    def _describe(self, info: zipfile.ZipInfo) -> Member:
        mode = info.external_attr >> 16
        is_link = stat.S_ISLNK(mode)
        target = self._open(info).read_all(_MAX_TARGET).decode(errors="surrogateescape") if is_link else ""
        kind = LINK if is_link else FOLDER if info.is_dir() else FILE
        return Member(info.filename, kind, info.file_size, mode, _time_of(info), target, info)


class Tar(Archive):
    """A tar file, which is read once and forwards."""

    def __init__(self, archive: tarfile.TarFile, stream: _Forward, limits: Limits) -> None:
        self._archive, self._stream, self._limits = archive, stream, limits

    def __iter__(self) -> t.Iterator[Member]:
        count = total = 0
        while True:
            self._stream.expect_member()
            with _explain_damage():
                info = self._archive.next()
                self._archive.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all
            if info is None:
                return
            count, total = count + 1, total + info.size
            _check_counts(count, total, self._limits)
            _check_file(info.name, info.size, self._limits)
            yield _describe_tarred(info)

    def open(self, member: Member) -> Content:
        with _explain_damage():
            self._stream.seek(member.handle.offset_data)
        return Content(member.name, member.size, self._stream.read_content)

    def offset_of(self, member: Member) -> int | None:
        """Where the content of a member begins in the file of the archive; None in one that is packed."""
        return member.handle.offset_data if self._stream.can_skip else None


@contextlib.contextmanager
def open_zip(path: str, limits: Limits, file: t.Any = None) -> t.Iterator[Zip]:
    """Open a zip file, and check its whole directory.

    :param file: a binary file to read instead of the one at that path
    :raises ArchiveError: if it is none, is damaged, or was made to do harm
    """
    with contextlib.ExitStack() as stack:
        with _explain_damage():
            source = _Directory(file or stack.enter_context(open_regular(path)), limits.members)
            archive = stack.enter_context(zipfile.ZipFile(t.cast(t.Any, source)))
            size = source.seek(0, os.SEEK_END)
        _check_directory(archive.infolist(), size, limits)
        yield Zip(archive)


@contextlib.contextmanager
def open_tar(path: str, limits: Limits, is_packed: bool = True) -> t.Iterator[Tar]:
    """Open a tar file: as it is, or packed by gzip, bzip2 or xz.

    :param is_packed: whether it may be packed
    :raises ArchiveError: if it is none, is damaged, or was made to do harm
    """
    import tarfile  # a module that installs wheels needs none, and each node would import it each time

    with contextlib.ExitStack() as stack:
        with _explain_damage():
            file = stack.enter_context(open_regular(path))
            packed_size = os.fstat(file.fileno()).st_size
            source = _unpack_stream(stack, file) if is_packed else file
            if source is file:
                stream = _Forward(file, packed_size, can_skip=True)
            else:
                stream = _Forward(source, max(_RATIO_CHECKED_FROM, _MAX_RATIO * packed_size), can_skip=False)
            archive = stack.enter_context(tarfile.TarFile(fileobj=t.cast(t.Any, stream), encoding="utf-8"))
        yield Tar(archive, stream, limits)


@contextlib.contextmanager
def open_any(path: str, limits: Limits) -> t.Iterator[Archive]:
    """Open a zip file or a tar file, as its name says.

    :raises ArchiveError: as :func:`open_zip` and :func:`open_tar`
    """
    opened: t.ContextManager[Archive] = (
        open_zip(path, limits) if path.endswith((".zip", ".whl")) else open_tar(path, limits)
    )
    with opened as archive:
        yield archive


class _Directory:
    """The file of a zip, of which only so much is read at once: zipfile reads as large a directory as the archive says it has."""

    def __init__(self, file: t.Any, max_members: int) -> None:
        self._file, self._max_members = file, max_members

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:  # before anything is read, or asked of a server
            raise UnsoundArchiveError(f"its directory has {size} bytes, wanted are no more than {_MAX_DIRECTORY}")
        data = self._file.read(_MAX_DIRECTORY if size is None or size < 0 else size)
        if data.startswith(_ENTRY_SIGNATURE):  # zipfile would make an object of each entry first
            _check_counts(data.count(_ENTRY_SIGNATURE), 0, Limits(self._max_members, 0, 0))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


class _Forward:
    """A stream that is read once, from its beginning to its end. tarfile gets no more than the headers of a sound archive."""

    def __init__(self, source: t.Any, limit: int, can_skip: bool) -> None:
        """
        :param limit: of the whole stream, in bytes
        :param can_skip: whether the source can go forwards without reading
        """
        self._source, self._limit, self.can_skip = source, limit, can_skip
        self._position = 0
        self._headers_left = _MAX_FIRST_HEADERS

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int) -> int:
        if offset < self._position:
            raise UnsoundArchiveError("its members overlap, wanted are members one behind the other")
        if self.can_skip:
            self._position = self._source.seek(min(offset, self._limit))
        while self._position < offset and self._take(min(_CHUNK, offset - self._position)):
            pass  # as with a file, whose end shows when it is read
        return self._position

    def read(self, size: int) -> bytes:
        self._headers_left -= size
        if not 0 <= size <= _MAX_HEADER or self._headers_left < 0:
            raise UnsoundArchiveError(
                f"its headers are larger than those of a sound archive, wanted are no more than {_MAX_HEADER} bytes each"
                f" and {_MAX_HEADERS_EACH} on average"
            )
        data = self._take(size)
        if _MANY_DIGITS.search(data):
            raise UnsoundArchiveError("its headers have a number of more than 99 digits, wanted are shorter ones")
        return data

    def expect_member(self) -> None:
        """Allow for the headers of one more member."""
        self._headers_left += _MAX_HEADERS_EACH

    def read_content(self, size: int) -> bytes:
        """Read what is no header."""
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise UnsoundArchiveError(
                f"it unpacks to more than {self._limit} bytes, wanted are no more than {_MAX_RATIO} times as many as it has"
            )
        return data


class _XzFile:
    """What xz has packed. LZMAFile takes as much memory as the file asks for."""

    # pylint: disable=using-constant-test  # it takes the attributes of a decompressor for constants

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file
        self._decompressor = self._start()

    def read(self, size: int) -> bytes:
        while True:
            decompressor = self._decompressor
            if decompressor.eof:  # another stream may follow, and zeros in between (the .xz file format, 2.2)
                packed = decompressor.unused_data.lstrip(b"\0") or self._file.read(_CHUNK)
                if not packed:
                    return b""
                packed = packed.lstrip(b"\0")
                if not packed:
                    continue
                self._decompressor = decompressor = self._start()
            else:
                packed = self._file.read(_CHUNK) if decompressor.needs_input else b""
                if decompressor.needs_input and not packed:
                    raise EOFError("it is cut off")
            data = decompressor.decompress(packed, size)
            if data:
                return data

    @staticmethod
    def _start() -> t.Any:
        import lzma  # which a Python may have been built without

        return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_MEMORY)


def _unpack_stream(stack: contextlib.ExitStack, file: t.IO[bytes]) -> t.Any:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        import gzip

        return stack.enter_context(gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        import bz2

        return stack.enter_context(bz2.BZ2File(file))
    return _XzFile(file) if start == b"\xfd7zXZ\0" else file


@contextlib.contextmanager
def _explain_damage() -> t.Iterator[None]:
    """Raise an ArchiveError for whatever zipfile, tarfile and their decompressors raise on files that are not sound."""
    try:
        yield
    except (ArchiveError, TorchExtensionError):  # the latter are of a file on a server
        raise
    except Exception as exc:
        reason = (isinstance(exc, OSError) and exc.strerror) or str(exc) or type(exc).__name__
        raise ArchiveError(reason.splitlines()[0].rstrip(".:")) from exc


def _check_directory(infos: t.Sequence[zipfile.ZipInfo], packed_size: int, limits: Limits) -> None:
    total = sum(info.file_size for info in infos)
    _check_counts(len(infos), total, limits)
    seen: set[str] = set()
    for info in infos:
        name = repr(info.orig_filename[:200])
        _check_file(info.orig_filename, info.file_size, limits)
        if info.filename in seen:
            raise UnsoundArchiveError(f"it has {name} twice, wanted are every file once")
        seen.add(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16) and not limits.has_links:
            raise UnsoundArchiveError(f"its {name} is a symbolic link, wanted are files alone")
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise UnsoundArchiveError(f"its {name} is encrypted, wanted are files that everybody can read")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile bounds what it unpacks at once for these two alone
            raise UnsoundArchiveError(
                f"its {name} is packed by method {info.compress_type}, wanted are stored or deflated files"
            )
        _check_ratio(f"its {name} has", info.file_size, info.compress_size)
    _check_ratio("its files have", total, packed_size)  # as those that lie over each other


def _check_counts(members: int, total: int, limits: Limits) -> None:
    if members > limits.members:
        raise UnsoundArchiveError(f"it has {members} files, wanted are no more than {limits.members}")
    if total > limits.total:
        raise UnsoundArchiveError(f"its files have {total} bytes, wanted are no more than {limits.total}")


def _check_file(name: str, size: int, limits: Limits) -> None:
    if not name or _UNSAFE_NAME.match(name):
        raise UnsoundArchiveError(
            f"the name of its file {name[:200]!r} leads out of the folder, wanted are names of files below its own folder"
        )
    # a terminal, or a log, would take them for more than a name; what is no UTF-8 is another matter
    if not name.isprintable() and not name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").isprintable():
        raise UnsoundArchiveError(f"it has a file {name[:200]!r}, wanted are names that can be printed")
    if not 0 <= size <= limits.single:
        raise UnsoundArchiveError(f"its {name[:200]!r} has {size} bytes, wanted are no more than {limits.single}")


def _check_ratio(whose: str, size: int, packed_size: int) -> None:
    if size > max(_RATIO_CHECKED_FROM, _MAX_RATIO * packed_size):
        raise UnsoundArchiveError(
            f"{whose} {size} bytes out of {packed_size} packed ones, wanted are no more than {_MAX_RATIO} times as many"
        )


def _time_of(info: zipfile.ZipInfo) -> float:
    """The time of a file. It is told without its zone; whatever that is, the same archive has the same time."""
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:  # no date, such as all zeros
        return 0


def _describe_tarred(info: tarfile.TarInfo) -> Member:
    kinds = (
        (info.issparse(), "a sparse file"),
        (info.isreg(), FILE),
        (info.isdir(), FOLDER),
        (info.issym(), LINK),
        (info.islnk(), HARD_LINK),
        (info.isfifo(), "a pipe"),
        (info.isdev(), "a device"),
    )
    kind = next((kind for applies, kind in kinds if applies), "no file")
    modified = info.mtime if math.isfinite(info.mtime) else 0
    return Member(info.name, kind, info.size if kind == FILE else 0, info.mode, modified, info.linkname, info)

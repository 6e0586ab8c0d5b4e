# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The exports, versions and needs of a shared library, read from its dynamic section.

Sources: System V gABI, chapters "Object Files" and "Dynamic Linking" (file header, segments, dynamic section, symbols,
DT_HASH); Linux Standard Base, "Symbol Versioning" (verdef); Ali Bahrami, "GNU Hash ELF Sections" (DT_GNU_HASH); and what
glibc makes of them (elf/dl-lookup.c).
"""

from __future__ import annotations

import functools
import os
import stat
import struct
import typing as t

MACHINES = {62: "x86_64", 183: "aarch64"}  # EM_X86_64, EM_AARCH64

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_VERDEF = struct.Struct("<HHHHIII")
_GNU_HASH = struct.Struct("<IIII")
_WORD = struct.Struct("<I")
_BLOOM = struct.Struct("<Q")

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB = 0, 1, 4, 5, 6
_DT_SONAME, _DT_RPATH, _DT_RUNPATH = 14, 15, 29
_DT_GNU_HASH, _DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFEF5, 0x6FFFFFFC, 0x6FFFFFFD
_VER_FLG_BASE = 1
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_STT_TLS = 6
_STT_EXPORTED = frozenset((0, 1, 2, 5, _STT_TLS, 10))  # notype, object, func, common, TLS, GNU ifunc
_STB_EXPORTED = frozenset((1, 2, 10))  # global, weak, GNU unique
_STV_LOCAL = frozenset((1, 2))  # internal, hidden

# Nothing real comes near these; a damaged file must not keep the node busy.
_MOST_ENTRIES = 4096  # of the dynamic section, of the version definitions
_MOST_NEEDED = 512  # libraries; torch's need 30
_MOST_FOLDERS = 128  # in which they are looked for
_MOST_STEPS = 1 << 20  # along the chains of a hash table; each name takes one or two in a real one
_LONGEST_CHAIN = 4096  # symbols in one bucket of a hash table
_LONGEST_STRING = 8192  # bytes; a RUNPATH of many folders


class ElfError(Exception):
    """A file is no library that the loader of a 64-bit little-endian machine could load, or it is damaged."""


class ForeignElfError(ElfError):
    """A library for a machine of another word size or byte order: the loader passes it over and looks further."""


class Elf:
    """A shared library or a program. The file stays open until :meth:`close`, and only the pages asked for are read.

    It is read with pread, not mapped: a file that is cut short or a disk that fails is an error then, and not a SIGBUS.

    :raises OSError: if it cannot be opened
    :raises ElfError: if it is none
    """

    path: str
    machine: str  # as os.uname() has it; for others than MACHINES the number of the gABI
    soname: str | None
    needed: tuple[str, ...]  # DT_NEEDED, in the order of the file
    rpath: tuple[str, ...]  # DT_RPATH, as it is: with $ORIGIN
    runpath: tuple[str, ...]  # DT_RUNPATH
    versions: frozenset[str]  # version definitions, such as GLIBC_2.34
    interpreter: str | None  # PT_INTERP of a program: the loader that the kernel starts it with

    def __init__(self, path: str) -> None:
        self.path = path
        # opening a FIFO must not block
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(self._fd)
            self._size = status.st_size
            self.identity = (status.st_dev, status.st_ino)
            if not stat.S_ISREG(status.st_mode):
                raise ElfError(f"{path} is not a file")
            self._read_head()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def exports(self, names: t.Iterable[str]) -> set[str]:
        """Those of some names for which the loader finds a definition here, whatever its version.

        :raises ElfError: if the symbols are damaged
        """
        if _DT_GNU_HASH in self._tags:
            return self._look_up_gnu(names)
        if _DT_HASH in self._tags:
            return self._look_up_sysv(names)
        return set()

    def _read_head(self) -> None:
        ident, _kind, machine, _v, _entry, phoff, _sh, _flags, _size, phentsize, phnum, *_rest = _HEADER.unpack(
            self._read(0, _HEADER.size)
        )
        if ident[:4] != b"\x7fELF":
            raise ElfError(f"{self.path} is not an ELF file")
        if ident[4:6] != b"\x02\x01":  # ELFCLASS64, ELFDATA2LSB
            raise ForeignElfError(f"{self.path} is not for a 64-bit little-endian machine")
        if phentsize != _SEGMENT.size:
            raise self._damaged("program headers")
        self.machine = MACHINES.get(machine, str(machine))
        self._segments, dynamic, self.interpreter = [], None, None
        for kind, _flags, offset, address, _physical, size, _memory, _align in _SEGMENT.iter_unpack(
            self._read(phoff, phnum * phentsize)
        ):
            if kind == _PT_LOAD:
                self._segments.append((address, size, offset))
            elif kind == _PT_INTERP:
                self.interpreter = (
                    self._read(offset, min(size, _LONGEST_STRING)).partition(b"\0")[0].decode(errors="replace")
                )
            elif kind == _PT_DYNAMIC:
                dynamic = self._read(offset, min(size, _MOST_ENTRIES * _DYNAMIC.size) // _DYNAMIC.size * _DYNAMIC.size)
        if dynamic is None:
            raise ElfError(f"{self.path} is statically linked: it has no dynamic section")
        self._read_dynamic(dynamic)

    def _read_dynamic(self, dynamic: bytes) -> None:
        self._tags: dict[int, int] = {}
        needed = []
        for tag, value in _DYNAMIC.iter_unpack(dynamic):
            if tag == _DT_NULL:
                break
            if tag == _DT_NEEDED:
                needed.append(value)
            self._tags[tag] = value
        if _DT_STRTAB not in self._tags or _DT_SYMTAB not in self._tags:
            raise self._damaged("dynamic section")
        self._strings = self._offset(self._tags[_DT_STRTAB])
        self._symbols = self._offset(self._tags[_DT_SYMTAB])
        self.needed = tuple(map(self._string, needed))
        self.soname = self._string(self._tags[_DT_SONAME]) if _DT_SONAME in self._tags else None
        self.rpath, self.runpath = (
            tuple(filter(None, self._string(self._tags[tag]).split(":"))) if tag in self._tags else ()
            for tag in (_DT_RPATH, _DT_RUNPATH)
        )
        if len(needed) > _MOST_NEEDED or max(map(len, (self.rpath, self.runpath))) > _MOST_FOLDERS:
            raise self._damaged("dynamic section")
        self.versions = frozenset(self._definitions())

    def _definitions(self) -> t.Iterator[str]:
        if _DT_VERDEF not in self._tags:
            return
        at = self._offset(self._tags[_DT_VERDEF])
        for _index in range(min(self._tags.get(_DT_VERDEFNUM, 0), _MOST_ENTRIES)):
            _v, flags, _ndx, count, _hash, aux, following = _VERDEF.unpack(self._read(at, _VERDEF.size))
            if count and not flags & _VER_FLG_BASE:  # the base is the library's own name
                yield self._string(self._word(at + aux))  # the first name is the version, others are its ancestors
            if not following:
                return
            at += following

    def _look_up_gnu(self, names: t.Iterable[str]) -> set[str]:
        table = self._offset(self._tags[_DT_GNU_HASH])
        buckets, first, words, shift = _GNU_HASH.unpack(self._read(table, _GNU_HASH.size))
        if not words:
            raise self._damaged("hash table")
        bloom = table + _GNU_HASH.size
        bucket = bloom + words * _BLOOM.size
        chain = bucket + buckets * _WORD.size
        found: set[str] = set()
        steps = 0
        if not buckets:
            return found
        for name in names:
            number = gnu_hash(name)
            word = _BLOOM.unpack(self._read(bloom + number // 64 % words * _BLOOM.size, _BLOOM.size))[0]
            if not (word >> number % 64) & (word >> (number >> shift % 32) % 64) & 1:
                continue
            start = self._word(bucket + number % buckets * _WORD.size)
            if start < first:  # an empty bucket
                continue
            for index in range(start, start + _LONGEST_CHAIN):
                steps += 1
                if steps > _MOST_STEPS:
                    raise self._damaged("hash table")
                entry = self._word(chain + (index - first) * _WORD.size)
                if (entry ^ number) < 2 and self._defines(index, name):
                    found.add(name)
                    break
                if entry & 1:
                    break
            else:
                raise self._damaged("hash table")
        return found

    def _look_up_sysv(self, names: t.Iterable[str]) -> set[str]:
        table = self._offset(self._tags[_DT_HASH])
        buckets = self._word(table)
        found: set[str] = set()
        steps = 0
        if not buckets:
            return found
        bucket = table + 2 * _WORD.size
        chain = bucket + buckets * _WORD.size
        for name in names:
            index = self._word(bucket + sysv_hash(name) % buckets * _WORD.size)
            for _step in range(_LONGEST_CHAIN):
                if not index:  # STN_UNDEF
                    break
                steps += 1
                if steps > _MOST_STEPS:
                    raise self._damaged("hash table")
                if self._defines(index, name):
                    found.add(name)
                    break
                index = self._word(chain + index * _WORD.size)
            else:
                raise self._damaged("hash table")
        return found

    def _defines(self, index: int, name: str) -> bool:
        name_index, info, other, section, value, _size = _SYMBOL.unpack(
            self._read(self._symbols + index * _SYMBOL.size, _SYMBOL.size)
        )
        kind = info & 15
        if section == _SHN_UNDEF or (value == 0 and section != _SHN_ABS and kind != _STT_TLS):
            return False
        if info >> 4 not in _STB_EXPORTED or kind not in _STT_EXPORTED or other & 3 in _STV_LOCAL:
            return False
        expected = _bytes(name) + b"\0"
        start = self._strings + name_index
        # the last string of a file that ends with its strings may be shorter than what is wanted
        return start + len(expected) <= self._size and self._read(start, len(expected)) == expected

    def _string(self, index: int) -> str:
        start = self._strings + index
        text, end, _rest = self._read(start, min(_LONGEST_STRING, max(1, self._size - start))).partition(b"\0")
        if not end:
            raise self._damaged("strings")
        return text.decode("utf-8", "surrogateescape")

    def _word(self, offset: int) -> int:
        return _WORD.unpack(self._read(offset, _WORD.size))[0]

    def _offset(self, address: int) -> int:
        for start, size, offset in self._segments:
            if start <= address < start + size:
                return address - start + offset
        raise self._damaged("segments")

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise ElfError(f"{self.path} ends too early: it is damaged or cut off")
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as exc:
            raise ElfError(f"{self.path} cannot be read: {exc.strerror}") from exc
        if len(data) != size:  # it has become shorter since
            raise ElfError(f"{self.path} ends too early: it is damaged or cut off")
        return data

    def _damaged(self, what: str) -> ElfError:
        return ElfError(f"{self.path} is damaged: its {what} make no sense")


@functools.lru_cache(maxsize=1 << 14)
def gnu_hash(name: str) -> int:
    """The hash of a symbol's name in DT_GNU_HASH (Bernstein's, 32 bits)."""
    number = 5381
    for byte in _bytes(name):
        number = number * 33 + byte & 0xFFFFFFFF
    return number


def sysv_hash(name: str) -> int:
    """The hash of a symbol's name in DT_HASH (gABI, "Hash Table")."""
    number = 0
    for byte in _bytes(name):
        number = (number << 4) + byte
        number = (number ^ (number >> 24 & 0xF0)) & 0x0FFFFFFF
    return number


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")

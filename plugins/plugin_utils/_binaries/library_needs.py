# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""What a shared library needs, by its own tables (System V ABI, and the GNU symbol versions of the LSB).

pyelftools knows the structures. It is not made for hostile files: it loops as often as a file says, and reads names up to
wherever they end. So it only parses single structures here, and how many there are is checked before.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.bounded_reading import (
    Budget,
    UnreadableError,
    read_exactly,
)

try:
    from elftools.common.exceptions import ELFError
    from elftools.common.utils import struct_parse
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile
except ImportError as exc:
    ELFTOOLS_IMPORT_ERROR: ImportError | None = exc
    _LIBRARY_ERRORS: tuple[type[Exception], ...] = ()
else:
    ELFTOOLS_IMPORT_ERROR = None
    _LIBRARY_ERRORS = (ELFError, ConstructError)

MAGIC = b"\x7fELF"

_MACHINES = {  # as uname -m writes them
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_386": "i686",
    "EM_ARM": "armv7l",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
    "EM_RISCV": "riscv64",
}
_MAX_STRING_TABLE_SIZE = 16 << 20  # bytes of one string table, which is read whole; flash-attn's have up to 1 MiB
_MAX_NAME_SIZE = 64 << 10  # bytes; names of CUTLASS's templates have some thousand
_PARSER_ERRORS: tuple[type[Exception], ...] = (  # what pyelftools raises on files that are not sound
    *_LIBRARY_ERRORS,
    struct.error,
    ValueError,
    OverflowError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    RecursionError,
)

_Section = t.Any  # elftools.construct.lib.container.Container


class Library(t.NamedTuple):
    """What a shared library says of itself."""

    machine: str  # as uname -m writes it
    soname: str | None
    needed: tuple[str, ...]  # DT_NEEDED
    runpath: tuple[str, ...]  # DT_RUNPATH, or else DT_RPATH
    versions: dict[str, frozenset[str]]  # symbol versions, by the files that it needs
    undefined: frozenset[str]  # symbols that other libraries must define, without the weak ones
    defined: frozenset[str]  # symbols that other libraries may use
    sections: tuple[tuple[int, int], ...]  # offset and size in bytes of the requested ones


def require_pyelftools() -> None:
    """
    :raises TorchExtensionError: if pyelftools cannot be imported
    """
    require_library("pyelftools", ELFTOOLS_IMPORT_ERROR)


def read_library(file: t.IO[bytes], budget: Budget, sections: t.Container[str] = ()) -> Library:
    """Read the tables of a shared library.

    :param file: seekable
    :param sections: names of those to locate
    :raises UnreadableError: if it is none, or is damaged, or would take too long
    """
    try:
        return _Reader(file, budget).read(sections)
    except _PARSER_ERRORS as exc:
        raise UnreadableError(f"it is no sound ELF file ({type(exc).__name__}: {exc})") from exc


class _Reader:
    def __init__(self, file: t.IO[bytes], budget: Budget) -> None:
        self._file, self._budget = file, budget
        self._elf = ELFFile(file)
        self._structs = self._elf.structs
        self._tables: dict[int, bytes] = {}
        self._headers = self._read_headers()

    def read(self, sections: t.Container[str]) -> Library:
        dynamic = self._find_section("SHT_DYNAMIC")
        if dynamic is None:
            raise UnreadableError("it has no dynamic section, or no table of its sections")
        tags: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RUNPATH": [], "DT_RPATH": []}
        for entry in self._read_entries(dynamic, self._structs.Elf_Dyn):
            if entry["d_tag"] == "DT_NULL":
                break
            if entry["d_tag"] in tags:
                tags[entry["d_tag"]].append(self._read_name(dynamic["sh_link"], entry["d_val"]))
        runpath = ":".join(tags["DT_RUNPATH"] or tags["DT_RPATH"])  # as ld.so prefers them
        folders = tuple(runpath.split(":")) if runpath else ()
        self._budget.spend_lookups(len(tags["DT_NEEDED"]) * (len(folders) + 1))
        undefined, defined = self._read_symbols()
        return Library(
            machine=_MACHINES.get(self._elf["e_machine"], str(self._elf["e_machine"])),
            soname=next(iter(tags["DT_SONAME"]), None),
            needed=tuple(tags["DT_NEEDED"]),
            runpath=folders,
            versions=self._read_versions(),
            undefined=undefined,
            defined=defined,
            sections=self._locate_sections(sections),
        )

    def _read_headers(self) -> list[_Section]:
        layout = self._structs.Elf_Shdr
        start, size, count = self._elf["e_shoff"], self._elf["e_shentsize"], self._elf.num_sections()
        if count and size != layout.sizeof():
            raise UnreadableError(f"its section headers have {size} bytes, wanted are {layout.sizeof()}")
        self._budget.spend_entries(count)
        return [struct_parse(layout, self._file, start + index * size) for index in range(count)]

    def _find_section(self, kind: str) -> _Section | None:
        """The only section of its kind, if there is one."""
        headers = [header for header in self._headers if header["sh_type"] == kind]
        if len(headers) > 1:
            raise UnreadableError(f"it has {len(headers)} sections of the type {kind}, wanted is one")
        return headers[0] if headers else None

    def _read_entries(self, section: _Section, layout: t.Any) -> t.Iterator[t.Any]:
        size = layout.sizeof()
        count = section["sh_size"] // size
        self._budget.spend_entries(count)
        for index in range(count):
            yield struct_parse(layout, self._file, section["sh_offset"] + index * size)

    def _read_name(self, table: int, offset: int) -> str:
        """A name from a string table.

        :param table: the number of its section
        :param offset: of the name in the table
        """
        if table not in self._tables:
            header = self._headers[table]
            if header["sh_type"] != "SHT_STRTAB" or header["sh_size"] > _MAX_STRING_TABLE_SIZE:
                raise UnreadableError(
                    f"its names lie in a section of type {header['sh_type']} and {header['sh_size']} bytes, wanted is"
                    f" SHT_STRTAB and no more than {_MAX_STRING_TABLE_SIZE}"
                )
            self._budget.spend_text(header["sh_size"])
            self._tables[table] = read_exactly(self._file, header["sh_offset"], header["sh_size"])
        end = self._tables[table].find(b"\0", offset, offset + _MAX_NAME_SIZE)
        if end < 0:
            raise UnreadableError(
                f"it has a name at {offset} that does not end in its table, or in {_MAX_NAME_SIZE} bytes"
            )
        self._budget.spend_text(end - offset)
        text = self._tables[table][offset:end].decode("utf-8", "backslashreplace")
        if not text.isprintable():
            raise UnreadableError(f"it has the name {text[:100]!a}, wanted are names that can be printed")
        return text

    def _read_versions(self) -> dict[str, frozenset[str]]:
        section = self._find_section("SHT_GNU_verneed")
        versions: dict[str, set[str]] = {}
        if section is None:
            return {}
        files = self._follow_chain(
            section, section["sh_offset"], section["sh_info"], self._structs.Elf_Verneed, "vn_next"
        )
        for offset, file in files:
            names = versions.setdefault(self._read_name(section["sh_link"], file["vn_file"]), set())
            start, layout = offset + file["vn_aux"], self._structs.Elf_Vernaux
            for _offset, version in self._follow_chain(section, start, file["vn_cnt"], layout, "vna_next"):
                names.add(self._read_name(section["sh_link"], version["vna_name"]))
        return {file: frozenset(names) for file, names in versions.items()}

    def _follow_chain(
        self, section: _Section, offset: int, count: int, layout: t.Any, link: str
    ) -> t.Iterator[tuple[int, t.Any]]:
        """Structures of which each one says where the next one is: always behind it, and in the section."""
        for _number in range(count):
            self._budget.spend_entries(1)
            if offset + layout.sizeof() > section["sh_offset"] + section["sh_size"]:
                raise UnreadableError("its table of versions goes on behind its end")
            item = struct_parse(layout, self._file, offset)
            yield offset, item
            if not item[link]:
                return
            offset += item[link]

    def _read_symbols(self) -> tuple[frozenset[str], frozenset[str]]:
        section = self._find_section("SHT_DYNSYM")
        undefined, defined = set(), set()
        if section is None:
            return frozenset(), frozenset()
        for symbol in self._read_entries(section, self._structs.Elf_Sym):
            bind = symbol["st_info"]["bind"]
            if not symbol["st_name"] or bind == "STB_LOCAL":
                continue
            name = self._read_name(section["sh_link"], symbol["st_name"])
            if symbol["st_shndx"] != "SHN_UNDEF":
                defined.add(name)
            elif bind != "STB_WEAK":
                undefined.add(name)
        return frozenset(undefined), frozenset(defined)

    def _locate_sections(self, section_names: t.Container[str]) -> tuple[tuple[int, int], ...]:
        names = ((self._read_name(self._elf.get_shstrndx(), header["sh_name"]), header) for header in self._headers)
        return tuple(
            (header["sh_offset"], header["sh_size"])
            for name, header in names
            if name in section_names and header["sh_type"] != "SHT_NOBITS"
        )

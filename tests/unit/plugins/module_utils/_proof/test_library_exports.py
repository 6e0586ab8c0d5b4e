# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import limited
import pytest
from binaries import compile_library, exported_names
from hypothesis import given
from mutations import edited, edits

from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.library_exports import (
    Elf,
    ElfError,
    ForeignElfError,
    gnu_hash,
    sysv_hash,
)


def real_libraries() -> list[Path]:
    """Python, the libraries of some of its modules, and the C++ library."""
    code = "import ssl; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    cxx = subprocess.run(["g++", "-print-file-name=libstdc++.so.6"], capture_output=True, text=True, check=True).stdout
    mapped = {Path(path) for path in re.findall(r"(/\S+\.so[.\d]*)$", maps, re.MULTILINE)}
    wanted = ("libc.so", "libm.so", "libssl.so", "libcrypto.so", "libpython", "ld-linux")
    chosen = [path for path in mapped if path.name.startswith(wanted)]
    return sorted({*chosen, Path(cxx.strip()).resolve(), Path(sys.executable).resolve()})


def readelf(path: Path, option: str) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["readelf", option, path], capture_output=True, text=True, check=True, env=environ).stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A small library with everything in it that is read."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "versions").write_text("FIRST_1.0 { one; };\nFIRST_1.1 { two; } FIRST_1.0;\n")
    return compile_library(
        folder / "libfirst.so",
        "int one(void) { return 1; }\nint two(void) { return 2; }\nint three(void) { return 3; }\n",
        f"-Wl,--version-script={folder}/versions,-rpath,$ORIGIN/a:/b",
        language="c",
        soname="libfirst.so.1",
    )


@pytest.mark.parametrize("path", real_libraries(), ids=lambda path: path.name)
def test_a_real_library_is_read_as_binutils_read_it(path):
    names = exported_names(path)
    assert names
    dynamic = readelf(path, "-dW")
    definitions = readelf(path, "-VW").partition("Version definition")[2].partition("Version needs")[0]
    with Elf(str(path)) as elf:
        assert elf.exports(names) == names
        assert elf.exports(name + "_not" for name in names) == {name + "_not" for name in names} & names
        assert list(elf.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        assert [elf.soname or ""] == (re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) or [""])
        assert elf.machine == os.uname().machine
        assert elf.versions == set(re.findall(r"Flags: (?!BASE)\S+ .*Name: (\S+)", definitions))


def test_the_c_library_defines_its_versions():
    libc = next(path for path in real_libraries() if path.name.startswith("libc.so"))
    with Elf(str(libc)) as elf:
        assert {"GLIBC_2.2.5", "GLIBC_2.17"} & elf.versions
        assert "GLIBC_9.99" not in elf.versions


def test_versions_names_and_paths_of_a_library(library):
    with Elf(str(library)) as elf:
        assert elf.soname == "libfirst.so.1"
        assert elf.versions == {"FIRST_1.0", "FIRST_1.1"}
        assert (elf.rpath, elf.runpath) in ((("$ORIGIN/a", "/b"), ()), ((), ("$ORIGIN/a", "/b")))
        assert elf.exports(["one", "two", "four"]) == {"one", "two"}


def test_the_old_path_is_told_from_the_new_one(tmp_path):
    def paths(tags):
        path = compile_library(tmp_path / "lib.so", "int one;", f"-Wl,--{tags}-new-dtags,-rpath,/a", language="c")
        with Elf(str(path)) as elf:
            return elf.rpath, elf.runpath

    assert paths("disable") == (("/a",), ())
    assert paths("enable") == ((), ("/a",))


@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
def test_names_are_found_in_either_hash_table(tmp_path, style):
    source = "".join(f"int name_{number}(void) {{ return 0; }}\n" for number in range(500))
    source += "extern int elsewhere; int *use(void) { return &elsewhere; }\n"
    source += '__attribute__((visibility("hidden"))) int hidden(void) { return 0; }\nstatic int own; int *also(void) { return &own; }\n'
    source += "__thread int of_thread; __attribute__((weak)) int weak(void) { return 0; }\n"
    path = compile_library(tmp_path / "lib.so", source, f"-Wl,--hash-style={style}", language="c")
    names = {f"name_{number}" for number in range(500)} | {"use", "also", "of_thread", "weak"}
    with Elf(str(path)) as elf:
        assert elf.exports([*names, "name_500", "elsewhere", "hidden", "own", ""]) == names


def test_a_program_does_not_export_what_it_has_the_address_of(tmp_path):
    """Its undefined symbols have values then: the addresses of their PLT entries."""
    program = tmp_path / "program"
    options = ["-no-pie", "-fno-pie", "-O0", "-rdynamic", "-Wl,--hash-style=sysv"]
    source = "extern int puts(const char *); void *volatile mine; int main(void) { mine = (void *)&puts; return 0; }"
    subprocess.run(["gcc", *options, "-x", "c", "-", "-o", program], input=source, text=True, check=True)
    with Elf(str(program)) as elf:
        assert elf.exports(["main", "mine", "puts"]) == {"main", "mine"}


def test_a_hidden_symbol_is_not_exported_even_if_it_is_in_the_table(tmp_path, library):
    number = re.search(r"^\s*(\d+): .* two@", readelf(library, "--dyn-syms"), re.MULTILINE).group(1)
    offset = re.search(r"\.dynsym +DYNSYM +\S+ (\S+)", readelf(library, "-SW")).group(1)
    data = bytearray(library.read_bytes())
    data[int(offset, 16) + int(number) * 24 + 5] = 2  # st_other: STV_HIDDEN
    (tmp_path / "lib.so").write_bytes(data)
    with Elf(str(tmp_path / "lib.so")) as elf:
        assert elf.exports(["one", "two"]) == {"one"}


def test_a_library_that_exports_nothing(tmp_path):
    path = compile_library(tmp_path / "lib.so", "static int one;", "-nostdlib", language="c")
    with Elf(str(path)) as elf:
        assert elf.exports(["one", "two"]) == set()


def test_another_file_is_an_error(tmp_path, library):
    def refused(data: bytes, error=ElfError):
        path = tmp_path / "file"
        path.write_bytes(data)
        with pytest.raises(error) as caught:
            Elf(str(path)).close()
        return str(caught.value)

    good = library.read_bytes()
    assert "ends too early" in refused(b"")
    assert "is not an ELF file" in refused(b"/* GNU ld script */" + b" " * 100)
    assert "64-bit little-endian" in refused(good[:4] + b"\1" + good[5:], ForeignElfError)
    assert "64-bit little-endian" in refused(good[:5] + b"\2" + good[6:], ForeignElfError)
    assert "ends too early" in refused(good[:200])


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "libfifo.so")
    for path in (tmp_path / "libfifo.so", tmp_path):
        with pytest.raises(ElfError, match="is not a file"):
            Elf(str(path))
    with pytest.raises(FileNotFoundError):
        Elf(str(tmp_path / "nowhere"))


def test_no_file_is_left_open(library, tmp_path):
    before = os.listdir("/proc/self/fd")
    with Elf(str(library)) as elf:
        elf.exports(["one"])
    (tmp_path / "bad").write_bytes(library.read_bytes()[:300])
    with pytest.raises(ElfError):
        Elf(str(tmp_path / "bad"))
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.slow
def test_a_damaged_library_is_read_or_is_an_error(library, tmp_path):
    good = library.read_bytes()
    sections = [
        int(place, 16) for place in re.findall(r"\.(?:gnu\.hash|dyn\w+)\s+\w+\s+\w+ (\w+)", readelf(library, "-SW"))
    ]
    path = tmp_path / "lib.so"
    seen = set()

    @given(edits(len(good), 0, 32, 64, 120, 176, *sections))
    def check(edit):
        path.write_bytes(edited(good, edit))
        try:
            with Elf(str(path)) as elf:
                elf.exports(["one", "two", "three", "printf", "_ZN3c105ErrorC2Ev"])
        except ElfError as exc:
            assert "\n" not in str(exc)
            seen.add("damaged")
        else:
            seen.add("read")

    assert limited.check_property(check, seconds=1, mebibytes=32, result=lambda: sorted(seen)) == ["damaged", "read"]


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_long_chains_of_many_names_are_not_followed_for_ever(style, tmp_path):
    """One bucket of 4,000 symbols, for each of which as many names are compared with it."""
    source = "".join(f"int name_{number};\n" for number in range(4000))
    path = compile_library(tmp_path / "lib.so", source, f"-Wl,--hash-style={style}", "-nostdlib", language="c")
    data = bytearray(path.read_bytes())
    offset, size = (
        int(number, 16)
        for number in re.search(r"\.(?:gnu\.)?hash +\w+ +\S+ (\S+) (\S+)", readelf(path, "-SW")).groups()
    )
    buckets, first, words, _shift = struct.unpack_from("<IIII", data, offset)
    if style == "gnu":
        start = offset + 16 + 8 * words
        data[offset + 16 : start] = b"\xff" * (8 * words)  # each name may be there
        data[start : start + 4 * buckets] = struct.pack("<I", first) * buckets
        data[start + 4 * buckets : offset + size - 4] = bytes(size - 20 - 8 * words - 4 * buckets)
    else:
        data[offset + 8 : offset + 8 + 4 * buckets] = struct.pack("<I", 1) * buckets
        chain = b"".join(struct.pack("<I", number + 1) for number in range(first - 1)) + bytes(4)
        data[offset + 8 + 4 * buckets : offset + size] = chain
    path.write_bytes(data)

    def act():
        with Elf(str(path)) as elf, pytest.raises(ElfError, match="hash table make no sense"):
            elf.exports([f"other_{number}" for number in range(20_000)])

    limited.run(act, seconds=20)


def test_a_library_with_too_many_folders_to_look_in_is_damaged(tmp_path):
    """In each of which every name that it needs would be looked for."""
    folders = ":".join(f"/{number}" for number in range(200))
    path = compile_library(tmp_path / "lib.so", "int one;", f"-Wl,-rpath,{folders}", "-nostdlib", language="c")
    with pytest.raises(ElfError, match="dynamic section make no sense"):
        Elf(str(path))


def test_a_hash_chain_that_never_ends_is_damage(tmp_path):
    source = "".join(f"int name_{number};\n" for number in range(3))
    path = compile_library(tmp_path / "lib.so", source, "-Wl,--hash-style=sysv", "-nostdlib", language="c")
    header = re.search(r"\.hash +HASH +\S+ (\S+) (\S+)", readelf(path, "-SW"))
    offset, size = (int(number, 16) for number in header.groups())
    data = bytearray(path.read_bytes())
    data[offset + 8 : offset + size] = (1).to_bytes(4, "little") * ((size - 8) // 4)  # each symbol follows itself
    path.write_bytes(data)
    with Elf(str(path)) as elf, pytest.raises(ElfError, match="hash table make no sense"):
        elf.exports(["other", "another", "third"])


def test_only_the_needed_pages_are_read(library, monkeypatch):
    """No table is read as a whole, for torch's have hundreds of thousands of entries."""
    read = []
    pread = os.pread
    with Elf(str(library)) as elf:
        monkeypatch.setattr(os, "pread", lambda fd, size, offset: read.append(size) or pread(fd, size, offset))
        elf.exports(["one", "nothing"])
    assert 0 < sum(read) < 200


def test_hashes_are_those_of_the_documents():
    assert (gnu_hash(""), gnu_hash("printf")) == (5381, 0x156B2BB8)
    assert (sysv_hash(""), sysv_hash("printf"), sysv_hash("exit")) == (0, 0x077905A6, 0x0006CF04)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import limited
import pytest
from binaries import compile_library

from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.library_exports import Elf
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.loader import (
    Extension,
    Process,
    expand_origin,
    read_loader_settings,
    with_dependencies,
)


@pytest.fixture
def process_of():
    """Starts a process, as far as files tell."""
    started = []

    def process_of(packages: Path, environ=None, torch=True, executable=sys.executable, **more):
        environment = {
            "python": {"executable": str(executable), "site_packages": str(packages)},
            "torch": {"path": str(packages / "torch")} if torch else None,
        }
        started.append(Process.with_torch(environment, environ or {}, **more))
        return started[-1]

    yield process_of
    for process in started:
        process.close()


def build(path: Path, source: str = "", *options: str) -> Path:
    return compile_library(path, source, "-Wl,--no-as-needed", *options, language="c", soname=path.name)


@pytest.fixture
def program_with_cache(tmp_path):
    """A program whose loader has a cache of its own built in, and one folder."""

    def program_with_cache(cache: Path) -> Path:
        loader = tmp_path / "ld-own.so.2"
        loader.write_bytes(b"\0".join([b"\x7fELF", os.fsencode(cache), b"/no/such/lib/", b""]))
        return build_program(tmp_path / "python", loader)

    return program_with_cache


def build_program(path: Path, loader: Path, *options: str) -> Path:
    command = ["gcc", "-x", "c", "-", "-o", path, f"-Wl,--dynamic-linker={loader}", *options]
    subprocess.run(command, input="int main(void) { return 0; }", text=True, check=True)
    return path


def cache_of(entries, before=b"") -> bytes:
    """What ldconfig writes, of names, paths and hardware capabilities."""
    strings, rows = b"", b""
    start = 48 + 24 * len(entries)
    for name, path, capabilities in entries:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        value = start + len(strings)
        strings += path.encode() + b"\0"
        rows += struct.pack("<iIIIQ", 0x303, key, value, 0, capabilities)
    header = struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", len(entries), len(strings))
    return before + header + rows + strings


def test_the_libraries_of_the_interpreter_are_those_of_its_real_process(process_of, tmp_path):
    process = process_of(tmp_path, os.environ, torch=False)
    code = "print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    real = {os.path.realpath(path) for path in re.findall(r"(/\S+\.so[.\d]*)$", maps, re.MULTILINE)}
    found = {os.path.realpath(library.elf.path) for library in process.global_scope}
    assert found == {path for path in real if "lib-dynload" not in path} | {os.path.realpath(sys.executable)}


def test_a_process_without_torch_says_so(process_of, tmp_path):
    assert process_of(tmp_path, torch=False).doubts == ["this environment has no torch"]


@pytest.mark.parametrize("before", [b"", b"ld.so-1.7.0\0" + b"\0" * 100])
def test_the_cache_of_ldconfig_is_read_in_both_of_its_forms(process_of, program_with_cache, tmp_path, before):
    plain = build(tmp_path / "a/libcached.so.1")
    special = build(tmp_path / "b/libcached.so.1")
    cache = tmp_path / "ld.so.cache"
    entries = [
        ("libcached.so.1", str(special), 1 << 62),
        ("libcached.so.1", str(plain), 0),
        ("libx.so", "/no/libx.so", 0),
    ]
    cache.write_bytes(cache_of(entries, before))
    process = process_of(tmp_path, torch=False, executable=program_with_cache(cache))
    found, missing = process.load(Extension(str(tmp_path), ["libcached.so.1", "libx.so"], []))
    assert found["libcached.so.1"].elf.path == str(plain)
    assert missing == ["libx.so"]


@pytest.mark.parametrize("cut", [0, 10, 50, 80, 100])
def test_a_cache_that_is_cut_off_is_none(process_of, program_with_cache, tmp_path, cut):
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(cache_of([("liba.so", "/a/liba.so", 0), ("libb.so", "/b/libb.so", 0)])[:cut])
    process = process_of(tmp_path, torch=False, executable=program_with_cache(cache))
    assert process.load(Extension("/", ["liba.so"], []))[1] == ["liba.so"]


def test_the_real_cache_is_read_as_ldconfig_reads_it():
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof import loader

    ldconfig = next((path for path in ("/sbin/ldconfig", "/usr/sbin/ldconfig") if os.access(path, os.X_OK)), "ldconfig")
    told = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    expected: dict[str, set[str]] = {}
    for name, path in re.findall(r"^\t(\S+) \(.*=> (\S+)$", told, re.MULTILINE):
        expected.setdefault(name, set()).add(path)
    assert expected
    found = loader._read_cache("/etc/ld.so.cache")
    assert {name: set(paths) for name, paths in found.items()} == expected


def test_the_order_of_the_search_is_that_of_the_loader(process_of, program_with_cache, tmp_path):
    folders = {name: build(tmp_path / name / "libfind.so.7").parent for name in ("variable", "runpath", "cached")}
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(cache_of([("libfind.so.7", str(folders["cached"] / "libfind.so.7"), 0)]))
    environ = {"LD_LIBRARY_PATH": str(folders["variable"])}

    def found(environ, runpath):
        process = process_of(tmp_path, environ, torch=False, executable=program_with_cache(cache))
        return Path(
            process.load(Extension(str(tmp_path), ["libfind.so.7"], runpath))[0]["libfind.so.7"].elf.path
        ).parent.name

    assert found(environ, ["$ORIGIN/runpath"]) == "variable"
    assert found({}, ["/nowhere", "$ORIGIN/runpath"]) == "runpath"
    assert found({}, []) == "cached"


def test_what_is_built_into_the_loader_is_read_as_the_loader_itself_tells_it():
    loader = Elf(os.path.realpath(sys.executable)).interpreter
    told = subprocess.run([loader, "--list-diagnostics"], capture_output=True, text=True, check=True).stdout
    folders = re.findall(r'^path.system_dirs\[\w+\]="(.*)/"$', told, re.MULTILINE)
    (settings,) = re.findall(r'^path.sysconfdir="(.*)"$', told, re.MULTILINE)
    assert folders
    assert read_loader_settings(loader, os.uname().machine) == (f"{settings}/ld.so.cache", tuple(folders))


@pytest.mark.parametrize(
    "strings", [[b"/nix/store/1f-glibc-2.40-66/etc/ld.so.cache", b"/nix/store/1f-glibc-2.40-66/lib/"]]
)
def test_a_loader_outside_of_the_system_has_its_own_cache_and_folders(strings, tmp_path):
    (tmp_path / "ld.so").write_bytes(b"\0".join([b"\x7fELF /lib/%s", *strings, b""]))
    found = read_loader_settings(str(tmp_path / "ld.so"), "x86_64")
    assert found == ("/nix/store/1f-glibc-2.40-66/etc/ld.so.cache", ("/nix/store/1f-glibc-2.40-66/lib",))


@pytest.mark.parametrize(
    "content",
    [b"/" * (4 << 20), (b"\0" + b"/" * 1000) * 4000, b"\0" + b"/lib" * (1 << 20), b"/ld.so.cache" * 300_000],
    ids=range(4),
)
def test_a_loader_that_somebody_made_up_takes_no_time(content, tmp_path):
    """An interpreter of somebody's environment names the loader."""
    (tmp_path / "ld.so").write_bytes(content)
    settings = limited.run(lambda: read_loader_settings(str(tmp_path / "ld.so"), "x86_64"), mebibytes=64)
    assert settings.cache == "/etc/ld.so.cache"


def test_of_a_loader_with_more_folders_than_any_has_the_first_count(tmp_path):
    (tmp_path / "ld.so").write_bytes(b"\0".join([b"", *(b"/opt/%d/lib/" % number for number in range(1000)), b""]))
    folders = read_loader_settings(str(tmp_path / "ld.so"), "x86_64").folders
    assert folders == tuple(f"/opt/{number}/lib" for number in range(32))


def test_a_cache_of_the_loader_with_more_libraries_than_any_has_is_read_in_part(
    process_of, program_with_cache, tmp_path
):
    found = build(tmp_path / "a/libcached.so.1")
    for place, missing in [(0, []), (1 << 15, ["libcached.so.1"])]:
        entries = [("libx.so", "/no/libx.so", 0)] * (1 << 15)
        entries.insert(place, ("libcached.so.1", str(found), 0))
        (tmp_path / "ld.so.cache").write_bytes(cache_of(entries))
        process = process_of(tmp_path, torch=False, executable=program_with_cache(tmp_path / "ld.so.cache"))
        assert process.load(Extension("/", ["libcached.so.1"], []))[1] == missing


def test_a_loader_that_is_a_pipe_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "ld.so")
    assert limited.run(lambda: read_loader_settings(str(tmp_path / "ld.so"), "x86_64"), patience=20).folders


def test_a_loader_that_cannot_be_read_is_taken_for_the_systems():
    settings = read_loader_settings("/nowhere/ld.so", "aarch64")
    assert settings.cache == "/etc/ld.so.cache"
    assert settings.folders[0] == "/lib/aarch64-linux-gnu"


def test_the_c_library_of_an_interpreter_with_its_own_loader_counts(process_of, tmp_path):
    """A copied glibc with patchelf: the interpreter names another loader, and finds another libc.so.6."""
    own = tmp_path / "glibc"
    own.mkdir()
    system = Elf(os.path.realpath(sys.executable)).interpreter
    libc = next(
        library.elf.path
        for library in process_of(tmp_path, torch=False).global_scope
        if library.elf.soname == "libc.so.6"
    )
    shutil.copy(system, own / "ld-linux-x86-64.so.2")
    shutil.copy(libc, own / "libc.so.6")
    program = build_program(tmp_path / "python", own / "ld-linux-x86-64.so.2", f"-Wl,-rpath,{own}")
    process = process_of(tmp_path, torch=False, executable=program)
    assert process.load(Extension("/", ["libc.so.6"], []))[0]["libc.so.6"].elf.path == str(own / "libc.so.6")


def test_a_library_for_another_machine_is_skipped(process_of, tmp_path):
    foreign, narrow, good = (build(tmp_path / name / "libmany.so") for name in "abc")
    data = bytearray(foreign.read_bytes())
    data[18:20] = (8).to_bytes(2, "little")  # EM_MIPS
    foreign.write_bytes(data)
    narrow.write_bytes(narrow.read_bytes()[:4] + b"\1" + narrow.read_bytes()[5:])  # ELFCLASS32
    process = process_of(tmp_path, torch=False)
    found, _missing = process.load(Extension(str(tmp_path), ["libmany.so"], ["$ORIGIN/a", "$ORIGIN/b", "$ORIGIN/c"]))
    assert found["libmany.so"].elf.path == str(good)
    assert process.unreadable == {}


def test_torch_brings_its_libraries_and_those_of_nvidia(process_of, tmp_path):
    cudart = build(tmp_path / "nvidia/cuda_runtime/lib/libcudart.so.12", "int cuda;")
    c10 = build(tmp_path / "torch/lib/libc10.so")
    build(tmp_path / "torch/_C.cpython-x.so", "", str(c10), str(cudart), "-Wl,-rpath,$ORIGIN/lib")
    process = process_of(tmp_path)
    assert process.doubts == []
    found, missing = process.load(Extension("/elsewhere", ["libc10.so", "libcudart.so.12", "libcudart.so.11.0"], []))
    assert {name: library.elf.path for name, library in found.items()} == {
        "libc10.so": str(c10),
        "libcudart.so.12": str(cudart),
    }
    assert missing == ["libcudart.so.11.0"]


def test_a_library_that_torch_itself_lacks_is_a_doubt(process_of, tmp_path):
    lost = build(tmp_path / "torch/lib/liblost.so")
    build(tmp_path / "torch/_C.so", "", str(lost))
    lost.unlink()
    (doubt,) = process_of(tmp_path).doubts
    assert doubt == "torch's own _C.so needs liblost.so: it is nowhere on this node"


def test_a_library_that_is_loaded_already_goes_before_others_of_its_name(process_of, tmp_path):
    mine = build(tmp_path / "torch/lib/libsame.so")
    build(tmp_path / "torch/_C.so", "", str(mine), "-Wl,-rpath,$ORIGIN/lib")
    build(tmp_path / "other/libsame.so")
    found, _missing = process_of(tmp_path).load(Extension(str(tmp_path), ["libsame.so"], ["$ORIGIN/other"]))
    assert found["libsame.so"].elf.path == str(mine)


def test_a_fork_leaves_its_process_as_it_was(process_of, tmp_path):
    build(tmp_path / "libnew.so")
    process = process_of(tmp_path, torch=False)
    extension = Extension(str(tmp_path), ["libnew.so"], ["$ORIGIN"])
    assert list(process.fork().load(extension)[0]) == ["libnew.so"]
    assert process.load(extension._replace(runpath=[])) == ({}, ["libnew.so"])


def test_the_old_path_of_the_program_counts_for_all(process_of, tmp_path):
    """As conda's Python has it."""
    build(tmp_path / "lib/libconda.so")
    program = tmp_path / "bin/python"
    program.parent.mkdir()
    command = ["gcc", "-x", "c", "-", "-o", program, "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib"]
    subprocess.run(command, input="int main(void) { return 0; }", text=True, check=True)
    process = process_of(tmp_path, torch=False, executable=program)
    assert list(process.load(Extension("/elsewhere", ["libconda.so"], []))[0]) == ["libconda.so"]
    assert process.load(Extension("/elsewhere", ["libother.so"], ["/nowhere"])) == ({}, ["libother.so"])


def test_libraries_that_need_each_other_are_each_found_once(process_of, tmp_path):
    first = build(tmp_path / "libfirst.so")
    second = build(tmp_path / "libsecond.so", "", str(first), "-Wl,-rpath,$ORIGIN")
    build(first, "", str(second), "-Wl,-rpath,$ORIGIN")
    found, _missing = process_of(tmp_path, torch=False).load(Extension(str(tmp_path), ["libfirst.so"], ["$ORIGIN"]))
    names = [os.path.basename(library.elf.path) for library in with_dependencies(found.values())]
    assert names[0] == "libfirst.so"
    assert sorted(names) == sorted(set(names))
    assert "libsecond.so" in names


def test_origin_is_expanded():
    assert expand_origin(["$ORIGIN", "${ORIGIN}/../lib", "/usr/lib", "/x/$LIB"], "/a") == [
        "/a",
        "/a/../lib",
        "/usr/lib",
    ]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import edited, edits

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.archives import (
    ArchiveError,
    Limits,
    UnsoundArchiveError,
)

SMALL = Limits(members=100, single=1 << 20, total=2 << 20)
CENTRAL = b"PK\1\2"


def read(path: Path, limits: Limits = SMALL) -> dict[str, bytes]:
    """All files of an archive."""
    with archives.open_any(str(path), limits) as archive:
        return {
            member.name: archive.open(member).read_all(limits.single)
            for member in archive
            if member.kind == archives.FILE
        }


def outcome(path: Path, limits: Limits = SMALL) -> str:
    """What comes of reading an archive, in a word or in the one message."""
    try:
        read(path, limits)
    except ArchiveError as exc:
        assert "\n" not in str(exc)
        assert not str(exc).endswith(".")
        return str(exc)
    return "read"


@pytest.fixture
def write_zip(tmp_path):
    def write_zip(*members, method=zipfile.ZIP_DEFLATED, mode=0):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members:
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16
                archive.writestr(info, data, method)
        return path

    return write_zip


@pytest.fixture
def write_tar(tmp_path):
    """Writes blocks, and what ends a tar, as they are or packed."""

    def write_tar(*blocks, pack=lambda data: data):
        path = tmp_path / "a.tar"
        path.write_bytes(pack(b"".join(blocks) + bytes(1024)))
        return path

    return write_tar


def header(name, kind=tarfile.REGTYPE, data=b"", size=None, raw_size=None, target="") -> bytes:
    """The blocks of a member: its header and its content."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data) if size is None else size, target
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if raw_size is not None:
        block[124:136] = raw_size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(-len(data) % 512)


def extended(**records) -> bytes:
    """The blocks of an extended header (pax)."""
    lines = b""
    for name, value in records.items():
        rest = f" {name.replace('__', '.')}={value}\n".encode()
        length = len(rest) + len(str(len(rest) + 2))
        lines += str(length).encode() + rest
    return header("pax", tarfile.XHDTYPE, lines)


PACKED = {"as it is": lambda data: data, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("pack", PACKED)
def test_a_tar_is_read_however_it_is_packed(pack, write_tar):
    content = os.urandom(3 << 18)
    path = write_tar(
        header("k/a", data=content), extended(path="k/" + "b" * 300), header("x", data=b"2"), pack=PACKED[pack]
    )
    assert read(path) == {"k/a": content, "k/" + "b" * 300: b"2"}


def test_several_streams_of_xz_are_one_file(write_tar):
    def pack(data):
        return lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]) + bytes(4)

    assert read(write_tar(header("a", data=b"1" * 2000), pack=pack)) == {"a": b"1" * 2000}


def test_a_bundle_may_not_be_packed(write_tar):
    path = write_tar(header("a"), pack=gzip.compress)
    with pytest.raises(ArchiveError), archives.open_tar(str(path), SMALL, is_packed=False) as archive:
        list(archive)


def test_the_members_of_both_kinds_are_described_alike(write_tar, write_zip):
    tar = write_tar(header("k", tarfile.DIRTYPE), header("k/a", data=b"1"), header("k/l", tarfile.SYMTYPE, target="a"))
    link = write_zip(("l", b"a"), mode=stat.S_IFLNK | 0o777)
    with archives.open_any(str(tar), SMALL) as archive:
        assert [(member.name, member.kind, member.target) for member in archive] == [
            ("k", "folder", ""),
            ("k/a", "file", ""),
            ("k/l", "link", "a"),
        ]
    with archives.open_any(str(link), SMALL) as archive:
        assert [(member.kind, member.target) for member in archive] == [("link", "a")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../a", b"")], "leads out of the folder"),
        ([("a/../../b", b"")], "leads out of the folder"),
        ([("a\\..\\b", b"")], "leads out of the folder"),
        ([("/etc/a", b"")], "leads out of the folder"),
        ([("C:\\a", b"")], "leads out of the folder"),
        ([("a\nb", b"")], "can be printed"),
        ([("\x1b[2Ja", b"")], "can be printed"),
        ([("a\u202eb", b"")], "can be printed"),
        ([("a", b"1"), ("a", b"2")], "twice"),
        ([(f"{number}", b"") for number in range(101)], "it has 101 files, wanted are no more than 100"),
        ([("a", bytes((1 << 20) + 1))], "has 1048577 bytes, wanted are no more than 1048576"),
        ([(name, bytes(900_000)) for name in "xyz"], "its files have 2700000 bytes, wanted are no more than 2097152"),
    ],
)
def test_a_zip_that_was_made_to_do_harm_is_refused_before_any_of_it_is_read(members, reason, write_zip):
    path = write_zip(*members)
    with pytest.raises(UnsoundArchiveError, match=reason), archives.open_zip(str(path), SMALL):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_not_unpacked_by_methods_that_zipfile_does_not_bound(method, write_zip):
    """3 KB of bzip2 are 4 GiB in one call."""
    path = write_zip(("a", bytes(64 << 20)), method=method)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(CENTRAL) + 24, 100)
    path.write_bytes(data)
    assert "is packed by method" in limited.run(lambda: outcome(path), mebibytes=32)


def test_a_link_in_a_wheel_is_refused(write_zip):
    path = write_zip(("a", b"/etc/shadow"), mode=stat.S_IFLNK | 0o777)
    with pytest.raises(UnsoundArchiveError, match="symbolic link"), archives.open_zip(str(path), archives.WHEEL):
        raise AssertionError("it was opened")


def test_a_zip_of_many_entries_takes_no_memory_for_each(tmp_path):
    entry = struct.pack("<4s4B4HL2L5H2L", CENTRAL, 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
    directory = b"".join(entry + b"%04x" % (number & 0xFFFF) for number in range(160_000))
    path = tmp_path / "a.zip"
    path.write_bytes(directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(directory), 0, 0))
    reason = limited.run(lambda: outcome(path, archives.WHEEL), seconds=1, mebibytes=48)
    assert reason == "it has 160000 files, wanted are no more than 50000"


def test_a_directory_of_gigabytes_is_not_read(tmp_path, write_zip):
    path = write_zip(("a", b""))
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    with path.open("wb") as file:
        file.write(content[:end])
        file.seek(2 << 30, os.SEEK_CUR)
        file.write(content[end : end + 12] + struct.pack("<L", 2 << 30) + content[end + 16 :])
    assert "its directory has more than" in limited.run(lambda: outcome(path), mebibytes=64)


def test_files_that_lie_over_each_other_are_refused(write_zip):
    """As in zip bombs: each entry leads to the same few bytes."""
    path = write_zip(("aaaa", bytes(16 << 20)))
    content = path.read_bytes()
    directory, end = content.index(CENTRAL), content.rindex(b"PK\5\6")
    entries = b"".join(content[directory:end].replace(b"aaaa", b"%04d" % number) for number in range(90))
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 90, 90, len(entries), directory, 0)
    path.write_bytes(content[:directory] + entries + last)
    limits = Limits(members=100, single=1 << 30, total=1 << 40)
    assert "no more than 200 times as many" in outcome(path, limits)


NEGATIVE = b"\xff" * 4 + struct.pack(">q", -1024)
HOSTILE_TARS = {
    "a size below zero": [header("a", raw_size=NEGATIVE), header("b")],
    "a name of less than no bytes": [header("a", tarfile.GNUTYPE_LONGNAME, raw_size=NEGATIVE)],
    "a name of gigabytes": [header("a", tarfile.GNUTYPE_LONGNAME, size=6 << 30)],
    "an extended header of megabytes": [header("a", tarfile.XHDTYPE, bytes(32 << 20))],
    "a size beyond every file": [extended(size="9" * 23), header("a"), header("b")],
    "a size that goes back": [extended(size="-1024"), header("a", data=b"1"), header("b")],
    "a sparse map of words": [extended(GNU__sparse__map="a,b", GNU__sparse__size="x"), header("a")],
    "a sparse file of words": [
        extended(GNU__sparse__major="1", GNU__sparse__minor="0"),
        header("a", data=b"zzz\n" * 128),
    ],
    "extended headers of extended headers": [extended(path="x")] * 3000,
    "names of names": [header("l", tarfile.GNUTYPE_LONGNAME, b"x\0")] * 3000,
    "a number of many digits": [header("x", tarfile.XHDTYPE, b"1" * 16000), header("a")],
    "a time that is none": [extended(mtime="nan"), header("a"), header("../b")],
    "a name that leads up": [header("k/../../a")],
    "an absolute name": [header("/etc/a")],
    "a name that is no line": [header("a\x1b[2J")],
    "too many": [header(f"{number}") for number in range(101)],
    "too large": [header("a", data=bytes((1 << 20) + 1))],
    "too much": [header(f"{number}", data=bytes(900_000)) for number in range(3)],
}


@pytest.mark.parametrize("pack", ["as it is", "gzip"])
@pytest.mark.parametrize("case", HOSTILE_TARS)
def test_a_crafted_tar_ends_in_one_message_soon(case, pack, write_tar):
    path = write_tar(*HOSTILE_TARS[case], pack=PACKED[pack])
    assert limited.run(lambda: outcome(path), seconds=2, mebibytes=48) != "read"


def test_extended_headers_are_not_read_for_ever(write_tar):
    """A sparse map may go on in the next block, and in the next."""
    sparse = bytearray(header("a", tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    path = write_tar(
        bytes(sparse), ((b"%011o\0%011o\0" % (1, 1)) * 21 + b"\1" + bytes(7)) * (1 << 16), pack=gzip.compress
    )
    assert "its headers are larger" in limited.run(lambda: outcome(path), seconds=2, mebibytes=48)


@pytest.mark.parametrize("pack", ["gzip", "bzip2", "xz"])
def test_what_unpacks_to_far_more_than_it_has_is_refused(pack, write_tar):
    path = write_tar(*[header(f"{number}", data=bytes(1 << 20)) for number in range(40)], pack=PACKED[pack])
    limits = Limits(members=100, single=1 << 30, total=1 << 40)
    reason = limited.run(lambda: outcome(path, limits), seconds=5, mebibytes=96)
    assert "no more than 200 times as many as it has" in reason


def test_xz_takes_no_more_memory_than_it_may(write_tar):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    path = write_tar(header("a", data=b"1"), pack=lambda data: lzma.compress(data, filters=filters))
    data = bytearray(path.read_bytes())
    # the size of the dictionary stands behind the number of the filter and its own length (the .xz file format, 5.3.1)
    place = data.index(b"\x21\x01", 12) + 2
    data[place] = 39  # 3 GiB
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    path.write_bytes(data)
    assert "emory" in limited.run(lambda: outcome(path), mebibytes=64)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9", b"PK\5\6" + bytes(18)])
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_what_is_no_archive_is_told(content, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert (outcome(path) == "read") == (suffix == "zip" and content.startswith(b"PK"))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_pipe_in_the_place_of_an_archive_keeps_nobody_waiting(suffix, tmp_path):
    os.mkfifo(tmp_path / f"a.{suffix}")
    assert outcome(tmp_path / f"a.{suffix}") == "it is no regular file"


def test_a_file_is_not_read_past_what_is_wanted(write_zip):
    path = write_zip(("a", bytes(1000)))
    with archives.open_zip(str(path), SMALL) as archive:
        assert archive.open_file("a").read_all(1000) == bytes(1000)
        with pytest.raises(UnsoundArchiveError, match="has 1000 bytes, wanted are no more than 999"):
            archive.open_file("a").read_all(999)
        with pytest.raises(ArchiveError, match="it has no 'b'"):
            archive.open_file("b")


def test_the_content_of_a_tar_that_is_not_packed_can_be_found_in_its_file(write_tar):
    path = write_tar(header("a", data=b"1" * 600), header("b", data=b"22"))
    with archives.open_tar(str(path), SMALL) as archive:
        offsets = {member.name: archive.offset_of(member) for member in archive}
    assert path.read_bytes()[offsets["b"] :][:2] == b"22"


@pytest.mark.slow
def test_a_damaged_zip_is_read_or_refused(write_zip, tmp_path):
    whole = write_zip(("k/a", b"text" * 50), ("k/b", os.urandom(300)), ("k/c/", b"")).read_bytes()
    path = tmp_path / "damaged.zip"
    seen = set()

    @given(edits(len(whole), 0, whole.index(CENTRAL), whole.rindex(CENTRAL), len(whole) - 22))
    def check(edit):
        path.write_bytes(edited(whole, edit))
        seen.add(outcome(path) == "read")

    assert limited.check_property(check, seconds=1, mebibytes=64, result=lambda: sorted(seen)) == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("pack", PACKED)
def test_a_damaged_tar_is_read_or_refused(pack, tmp_path):
    blocks = [
        extended(path="k/" + "a" * 200, mtime="1700000000.5"),
        header("x", data=b"text" * 50),
        header("l", tarfile.GNUTYPE_LONGNAME, b"k/" + b"b" * 200 + b"\0"),
        header("x", data=b"more" * 200),
        header("k/l", tarfile.SYMTYPE, target="b"),
        header("k/h", tarfile.LNKTYPE, target="k/b"),
    ]
    whole = b"".join(blocks) + bytes(1024)
    path = tmp_path / "damaged.tar"
    seen = set()

    @given(edits(len(whole), 0, 124, 512, 1024 + 124, 1024 + 156, 2048), st.booleans())
    def check(edit, has_sums):
        data = edited(whole, edit)
        path.write_bytes(PACKED[pack](with_sums(data) if has_sums else data))
        seen.add(outcome(path) == "read")

    assert limited.check_property(check, seconds=1, mebibytes=96, result=lambda: sorted(seen)) == [False, True]


def with_sums(data: bytes) -> bytes:
    """The blocks of a tar, each that looks like a header with its checksum."""
    blocks = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        block = blocks[start : start + 512]
        if b"ustar" in block[257:265]:
            block[148:156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_no_bytes_at_all_break_a_reader(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    magic = st.sampled_from([b"", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0", b"PK\3\4", b"PK\1\2", b"PK\5\6"])

    @given(st.lists(st.one_of(magic, st.binary(max_size=600), st.just(bytes(512))), max_size=6))
    def check(pieces):
        path.write_bytes(b"".join(pieces))
        outcome(path)

    limited.check_property(check, seconds=1, mebibytes=64)


def test_the_parts_of_an_archive_are_closed(write_tar):
    path = write_tar(header("a", data=b"1"), pack=gzip.compress)
    before = len(os.listdir("/proc/self/fd"))
    read(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_time_of_a_file_that_has_none_is_the_first(write_zip):
    path = write_zip(("a", b""))
    data = bytearray(path.read_bytes())
    data[data.index(CENTRAL) + 12 : data.index(CENTRAL) + 16] = bytes(4)
    path.write_bytes(data)
    with archives.open_any(str(path), SMALL) as archive:
        assert [member.modified for member in archive] == [0]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import shutil
import subprocess

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libraries import PTX, SASS, fatbin, fatbin_entry
from mutations import edited, edits

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import fatbin as fatbin_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.bounded_reading import (
    Budget,
    UnreadableError,
)

ONLY_THIS_ARCHITECTURE, ONLY_THIS_FAMILY = 0x100000, 0x200000
PACKED = 0x8000


def read(data: bytes, size: int | None = None, budget: Budget | None = None):
    return fatbin_module.read_gpu_code(io.BytesIO(data), 0, len(data) if size is None else size, budget or Budget())


def test_sass_and_ptx_are_told_apart():
    gpu_code = read(fatbin(fatbin_entry(SASS, 80), fatbin_entry(PTX, 90)))
    assert (gpu_code.sass, gpu_code.ptx, gpu_code.other_kinds) == ({"80"}, {"90"}, frozenset())


@pytest.mark.parametrize(
    ("architecture", "flags", "name"),
    [
        (90, 0x11, "90"),
        (90, 0x11 | ONLY_THIS_ARCHITECTURE, "90a"),
        (90, 0x11 | ONLY_THIS_ARCHITECTURE | PACKED, "90a"),
        (100, 0x11 | ONLY_THIS_FAMILY, "100f"),
        (103, 0x1000011 | ONLY_THIS_ARCHITECTURE, "103a"),
    ],
)
def test_an_architecture_has_the_letter_that_nvcc_was_given(architecture, flags, name):
    assert read(fatbin(fatbin_entry(SASS, architecture, flags))).sass == {name}


def test_all_translation_units_are_read_with_what_the_linker_puts_between_them():
    first = fatbin(fatbin_entry(SASS, 80), fatbin_entry(SASS, 86, header_size=112, payload=b"x" * 4096))
    second = fatbin(fatbin_entry(SASS, 120, header_size=72))
    assert read(first + bytes(24) + second + bytes(5000)).sass == {"80", "86", "120"}


def test_a_unit_without_gpu_code_is_no_error():
    assert read(fatbin()).sass == frozenset()


def test_code_of_other_kinds_has_no_architecture_and_is_reported():
    gpu_code = read(fatbin(fatbin_entry(8, 90)))
    assert (gpu_code.sass, gpu_code.ptx, gpu_code.other_kinds) == (frozenset(), frozenset(), {8})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (fatbin(magic=0x466243B1), "magic"),
        (fatbin(version=2), "version 2"),
        (fatbin(size=1), "only has 0 left"),
        (fatbin(size=2**64 - 1), "only has 0 left"),
        (fatbin(b"\x02\0"), "only has 2 left"),
        (fatbin(fatbin_entry(SASS, 80)[:-1]), "only has 15 left"),
        (fatbin(fatbin_entry(SASS, 80, header_size=0xFFFF)[:200]), "only has 200 left"),
        (fatbin()[:9], "only has 9 left"),
        (b"no fat binary at all", "magic"),
    ],
)
def test_wrong_sizes_are_an_error(data, message):
    with pytest.raises(UnreadableError, match=message):
        read(data)


def test_a_section_that_extends_beyond_the_file_is_an_error():
    with pytest.raises(UnreadableError, match="ends before"):
        read(fatbin(fatbin_entry(SASS, 80)), size=1 << 40)


@pytest.mark.parametrize("header_size", [0, 1, 63])
def test_a_header_of_size_zero_causes_no_endless_loop(header_size):
    entry = fatbin_entry(SASS, 80, payload=b"")
    entry = entry[:4] + header_size.to_bytes(4, "little") + entry[8:]
    with pytest.raises(UnreadableError):
        read(fatbin(*[entry] * 4), budget=Budget(entries=4))


def test_no_more_entries_are_read_than_are_allowed():
    data = fatbin(*[fatbin_entry(SASS, 80)] * 10)
    assert read(data, budget=Budget(entries=11)).sass == {"80"}
    with pytest.raises(UnreadableError, match="left to read"):
        read(data, budget=Budget(entries=10))


def test_architectures_are_sorted_by_their_numbers():
    assert sorted(["100", "90a", "90", "100f", "80"], key=fatbin_module.architecture_sort_key) == [
        "80",
        "90",
        "90a",
        "100",
        "100f",
    ]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_the_output_of_nvcc_has_the_architectures_that_nvcc_was_given(tmp_path):
    options = ["-Xfatbin", "-compress-all", "-gencode", "arch=compute_90a,code=sm_90a"]
    options += ["-gencode", "arch=compute_80,code=[sm_80,compute_80]"]
    source, compiled = tmp_path / "a.cu", tmp_path / "a.fatbin"
    source.write_text("__global__ void kernel(float *x) { x[threadIdx.x] *= 2; }\n")
    subprocess.run(["nvcc", "-fatbin", *options, source, "-o", compiled], check=True, capture_output=True)
    gpu_code = read(compiled.read_bytes())
    assert (gpu_code.sass, gpu_code.ptx, gpu_code.other_kinds) == ({"80", "90a"}, {"80"}, frozenset())


@pytest.mark.slow
def test_damaged_gpu_code_is_read_or_refused():
    whole = fatbin(fatbin_entry(SASS, 80), fatbin_entry(PTX, 90)) + bytes(24) + fatbin(fatbin_entry(SASS, 86))
    seen = set()

    @given(edits(len(whole), 0, 8, 16, 16 + 4, 16 + 8, whole.rindex(b"\x50\xed\x55\xba")), st.integers(0, 1 << 64))
    def check(edit, size):
        data = edited(whole, edit)
        for claimed in (len(data), size):
            try:
                read(data, claimed)
            except UnreadableError as exc:
                assert "\n" not in str(exc)
                seen.add("refused")
            else:
                seen.add("read")

    assert limited.check_property(check, mebibytes=32, result=lambda: sorted(seen)) == ["read", "refused"]

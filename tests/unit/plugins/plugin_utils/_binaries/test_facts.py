# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import platform
import re
import stat
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import limited
import pytest
from hypothesis import given
from libraries import (
    PTX,
    SASS,
    build_library,
    calling,
    defining,
    fatbin,
    fatbin_entry,
    wheel_members,
    with_section,
)
from mutations import edited, edits
from wheels import build_wheel

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import facts as facts_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import library_needs

OLD = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
SECONDS = 15  # for what takes below one on a machine with nothing else to do


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder in which libraries are built once for all tests."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="module")
def extension(built) -> bytes:
    """A library with something in every table that is read."""
    lines = ["V1 { global: versioned; }; V2 { global: newer; };"]
    script = built / "versions.map"
    script.write_text("\n".join(lines))
    needed = build_library(
        built / "libother.so",
        defining("versioned", "newer"),
        f"-Wl,--version-script={script}",
        "-Wl,-soname,libother.so",
    )
    code = with_section(built, ".nv_fatbin", fatbin(fatbin_entry(SASS, 80), fatbin_entry(PTX, 90)))
    source = (
        code + calling("versioned", "newer", NEW, "PyModule_Create2") + calling("maybe", weak=True).replace("f0", "g")
    )
    return build_library(built / "extension.so", source, needed, "-Wl,-rpath,$ORIGIN/../torch/lib").read_bytes()


@pytest.fixture
def wheel(tmp_path):
    """Makes a wheel of libraries, and of whatever other members."""

    def make(*paths: Path, extra=(), requires=()) -> str:
        return str(build_wheel(tmp_path / "wheels", extra=[*wheel_members(*paths), *extra], requires=requires))

    return make


@pytest.fixture
def calls(tmp_path, wheel):
    """The facts about a wheel whose only library calls functions of these names."""

    def make(*symbols: str) -> dict:
        return facts_module.read_facts(wheel(build_library(tmp_path / "extension.so", calling(*symbols))))

    return make


def test_a_library_is_described_by_its_own_tables(extension, wheel):
    facts = facts_module.read_facts(wheel(extra=[("pkg/extension.so", extension)]))
    assert facts == {
        "version": 4,
        "filename": "flash_attn-2.8.3-py3-none-any.whl",
        "files": ["flash_attn/__init__.py", "pkg/extension.so"],
        "libraries": [
            {
                "path": "pkg/extension.so",
                "machine": platform.machine(),
                "soname": None,
                "needed": ["libother.so", *facts["libraries"][0]["needed"][1:]],  # and those of the compiler
                "runpath": ["$ORIGIN/../torch/lib"],
                "versions": {**facts["libraries"][0]["versions"], "libother.so": ["V1", "V2"]},
                "undefined": sorted(["versioned", "newer", NEW, "PyModule_Create2"]),
            }
        ],
        "cxx11_abi": True,
        "torch_abi": "unstable",
        "cuda": None,
        "architectures": {"sass": ["80"], "ptx": ["90"]},
        "requires_torch": [],
        "problems": [],
    }
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(
    ("symbols", "torch_abi"),
    [
        (["aoti_torch_empty_strided", "torch_call_dispatcher"], "stable"),
        (["aoti_torch_empty_strided", "_ZN5torch6stable6Tensor4dataEv"], "stable"),
        (["aoti_torch_empty_strided", NEW], "unstable"),
        (["aoti_torch_empty_strided", "_ZTIN3c105ErrorE"], "unstable"),  # a type, without a function
        (["_ZNK2at10TensorBase4sizeEl"], "unstable"),
        (["THPVariableClass"], "unstable"),
        (["cudaMalloc", "PyModule_Create2"], None),
    ],
)
def test_the_facts_tell_which_part_of_torch_the_binaries_need(symbols, torch_abi, tmp_path, wheel):
    library = build_library(tmp_path / "extension.so", calling(*symbols))
    assert facts_module.read_facts(wheel(extra=[("pkg/e.so", library.read_bytes())]))["torch_abi"] == torch_abi


def test_the_facts_hold_what_metadata_requires_of_torch(wheel):
    facts = facts_module.read_facts(wheel(requires=["torch (==2.8.*)", "torchvision", "einops", "Torch>=2.8.1"]))
    assert facts["requires_torch"] == ["torch (==2.8.*)", "Torch>=2.8.1"]


def test_the_needed_versions_of_libc_are_in_the_facts(tmp_path, wheel):
    library = build_library(tmp_path / "extension.so", "#include <string.h>\nvoid *p = memcpy;\nvoid *q = strlen;\n")
    versions = facts_module.read_facts(wheel(library))["libraries"][0]["versions"]["libc.so.6"]
    assert ("GLIBC_2.14" if platform.machine() == "x86_64" else "GLIBC_2.17") in versions


def test_a_wheel_without_libraries_needs_nothing(wheel):
    facts = facts_module.read_facts(wheel())
    assert [facts[key] for key in ("libraries", "cxx11_abi", "cuda", "architectures")] == [[], None, None, None]
    assert facts["problems"] == []


def test_libraries_that_the_wheel_has_itself_are_not_needed(tmp_path, wheel):
    by_soname = build_library(tmp_path / "renamed.so", defining("a"), "-Wl,-soname,libown.so.1")
    by_name = build_library(tmp_path / "libunnamed.so.2", defining("b"))
    foreign = build_library(tmp_path / "away" / "libforeign.so", defining("c"), "-Wl,-soname,libforeign.so.3")
    links = [by_soname, f"-L{tmp_path}", "-l:libunnamed.so.2", foreign]
    library = build_library(tmp_path / "extension.so", calling("a", "b", "c", "d"), *links)
    facts = facts_module.read_facts(
        wheel(library, by_soname, extra=[("pkg.libs/libunnamed.so.2", by_name.read_bytes())])
    )
    by_path = {item["path"]: item for item in facts["libraries"]}
    assert by_path["extension.so"]["needed"][0] == "libforeign.so.3"
    assert not {"libown.so.1", "libunnamed.so.2"} & set(by_path["extension.so"]["needed"])
    assert by_path["extension.so"]["undefined"] == ["c", "d"]
    assert by_path["renamed.so"]["soname"] == "libown.so.1"


def test_a_renamed_copy_does_not_serve_libraries_that_need_the_original(tmp_path, wheel):
    """As in torchvision 0.25: image.so has the copy, and _C.so takes the node's, which must be there."""
    original = build_library(tmp_path / "original.so", defining("a"), "-Wl,-soname,libcudart.so.12")
    copy = build_library(tmp_path / "libcudart.e8e8b82a.so.12", defining("a"), "-Wl,-soname,libcudart.e8e8b82a.so.12")
    image = build_library(tmp_path / "image.so", calling("a"), copy)
    rest = build_library(tmp_path / "_C.so", calling("a"), original)
    copy.write_bytes(original.read_bytes())  # torchvision leaves the SONAME as it was
    by_path = {item["path"]: item for item in facts_module.read_facts(wheel(image, rest, copy))["libraries"]}
    assert by_path["image.so"]["needed"] == ["libc.so.6"]
    assert by_path["_C.so"]["needed"] == ["libcudart.so.12", "libc.so.6"]


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_the_folders_of_the_runpath_keep_their_order(tags, tmp_path, wheel):
    library = build_library(tmp_path / "extension.so", "", f"-Wl,{tags},-rpath,/b:$ORIGIN/a")
    assert facts_module.read_facts(wheel(library))["libraries"][0]["runpath"] == ["/b", "$ORIGIN/a"]


@pytest.mark.parametrize(
    ("symbols", "cxx11_abi"),
    [
        ([OLD], False),
        ([NEW], True),
        (["_ZNKR3c106IValue8toStringERKSs"], False),
        (["_ZNK3c104Type3strB5cxx11Ev"], True),
        (["_ZN5torch3jit11parseSchemaERKSsb"], False),
        (["_ZN2at1fILi12EEEvRKSs"], False),  # the 12 is no length of a name
        (["_ZN2at1fERKS8_RKSs"], False),
        (["_ZN2at4_ops5zeros4callEl"], None),
        (["_ZN3c106ClaSsyC1Ev"], None),  # the letters in a name
        (["_ZN2at6TensorixILm4EENS0_3SsxES1_"], None),
        (["_ZNSsC1ERKSs", "_ZN4boost1aERKSs"], None),  # nothing of torch's
        ([], None),
    ],
)
def test_torchs_cxx_abi_follows_from_its_symbols_with_strings(symbols, cxx11_abi, calls):
    facts = calls(*symbols)
    assert (facts["cxx11_abi"], facts["problems"]) == (cxx11_abi, [])


@pytest.mark.parametrize("cxx11_abi", [False, True])
def test_torchs_cxx_abi_is_recognised_in_compiled_code(cxx11_abi, tmp_path, wheel):
    source = """#include <string>
        namespace c10 { struct Error { Error(std::string text, const int (&sizes)[12]); }; }
        static const int sizes[12] = {}; void fail() { throw c10::Error("", sizes); }"""
    library = build_library(
        tmp_path / "extension.so", source, f"-D_GLIBCXX_USE_CXX11_ABI={cxx11_abi:d}", language="c++"
    )
    assert facts_module.read_facts(wheel(library))["cxx11_abi"] is cxx11_abi


def test_symbols_of_both_cxx_abis_are_a_problem(calls):
    facts = calls(OLD, NEW)
    assert facts["cxx11_abi"] is None
    assert "both C++ ABIs" in facts["problems"][0]


@pytest.mark.parametrize(
    ("sonames", "cuda"),
    [
        (["libcudart.so.12"], "12"),
        (["libcudart.so.11.0"], "11"),
        (["libcublas.so.13", "libcufft.so.12"], "13"),
        (["libcufft.so.11"], None),  # of CUDA 12
        (["libcuda.so.1"], None),  # the driver's
    ],
)
def test_the_cuda_runtime_is_the_one_that_is_linked(sonames, cuda, tmp_path, wheel):
    stubs = [build_library(tmp_path / f"{name}.stub", "", f"-Wl,-soname,{name}") for name in sonames]
    facts = facts_module.read_facts(wheel(build_library(tmp_path / "extension.so", "", *stubs)))
    assert (facts["cuda"], facts["problems"]) == (cuda, [])


def test_a_cuda_runtime_in_the_wheel_itself_counts_too(tmp_path, wheel):
    name = "libcudart-1a2b3c4d.so.12.4.127"
    runtime = build_library(tmp_path / name, "", f"-Wl,-soname,{name}")
    facts = facts_module.read_facts(wheel(build_library(tmp_path / "extension.so", "", runtime), runtime))
    assert facts["cuda"] == "12"
    assert name not in facts["libraries"][0]["needed"]


def test_two_cuda_runtimes_are_a_problem(tmp_path, wheel):
    stubs = [build_library(tmp_path / f"{major}", "", f"-Wl,-soname,libcudart.so.{major}") for major in (12, 13)]
    facts = facts_module.read_facts(wheel(build_library(tmp_path / "extension.so", "", *stubs)))
    assert facts["cuda"] is None
    assert "12, 13" in facts["problems"][0]


def test_gpu_code_of_all_libraries_counts_in_the_order_of_numbers(tmp_path, wheel):
    paths = []
    for section, numbers in ((".nv_fatbin", (90, 100)), ("__nv_relfatbin", (80, 90))):
        code = fatbin(*(fatbin_entry(SASS, number) for number in numbers))
        paths.append(build_library(tmp_path / f"{section.strip('._')}.so", with_section(tmp_path, section, code)))
    assert facts_module.read_facts(wheel(*paths))["architectures"] == {"sass": ["80", "90", "100"], "ptx": []}


def test_unreadable_gpu_code_does_not_hide_the_other_facts(tmp_path, wheel):
    good = with_section(tmp_path, ".nv_fatbin", fatbin(fatbin_entry(SASS, 80)))
    bad = with_section(tmp_path, "__nv_relfatbin", fatbin(version=9))
    facts = facts_module.read_facts(
        wheel(build_library(tmp_path / "a.so", calling(OLD) + good), build_library(tmp_path / "b.so", bad))
    )
    assert (facts["architectures"], facts["cxx11_abi"], len(facts["libraries"])) == (None, False, 2)
    assert facts["problems"] == [
        "The GPU code of b.so cannot be read: its GPU code has the magic 0xba55ed50 and version 9, wanted are"
        " 0xba55ed50 and 1."
    ]


def test_a_file_that_is_no_library_is_a_problem_and_others_are_read(extension, wheel):
    facts = facts_module.read_facts(
        wheel(
            extra=[
                ("text.so", b"INPUT(libother.so)"),
                ("empty.so", b""),
                ("half.so", extension[:3000]),
                ("notes.so.txt", b"no library, and no problem"),
                ("whole.so", extension),
            ]
        )
    )
    assert [item["path"] for item in facts["libraries"]] == ["whole.so"]
    assert [problem.split()[0] for problem in facts["problems"]] == ["empty.so", "half.so", "text.so"]


def changed(data: bytes, offset: int, layout: str, value: int) -> bytes:
    piece = struct.pack(layout, value)
    return data[:offset] + piece + data[offset + len(piece) :]


def header_of(data: bytes, wanted: str) -> int:
    """Where the header of a section is, by its type or name."""
    elf = library_needs.ELFFile(io.BytesIO(data))
    index = next(
        index for index, section in enumerate(elf.iter_sections()) if wanted in (section["sh_type"], section.name)
    )
    return elf["e_shoff"] + index * elf["e_shentsize"]


SH_OFFSET, SH_SIZE, SH_LINK, SH_INFO = (0x18, "<Q"), (0x20, "<Q"), (0x28, "<I"), (0x2C, "<I")  # of 64-bit ELF
LIES = {
    "no section headers": (None, 0x28, "<Q", 0),
    "section headers behind the end": (None, 0x28, "<Q", 1 << 40),
    "section headers beyond every file": (None, 0x28, "<Q", (1 << 64) - 1),
    "section headers of another size": (None, 0x3A, "<H", 1),
    "more section headers than the file has": (None, 0x3C, "<H", 0xFEFF),
    "names of sections in no section": (None, 0x3E, "<H", 0x7FFF),
    "names of sections in a section of symbols": (None, 0x3E, "<H", 1),
    "an exabyte of symbols": ("SHT_DYNSYM", *SH_SIZE, 1 << 60),
    "symbols behind the end": ("SHT_DYNSYM", *SH_OFFSET, 1 << 40),
    "symbols whose names are symbols": ("SHT_DYNSYM", *SH_LINK, 0),
    "names of no section": ("SHT_DYNSYM", *SH_LINK, 0xFFFFFFFF),
    "an exabyte of what is needed": ("SHT_DYNAMIC", *SH_SIZE, 1 << 60),
    "an exabyte of names": ("SHT_STRTAB", *SH_SIZE, 1 << 60),
    "names behind the end": ("SHT_STRTAB", *SH_OFFSET, 1 << 40),
    "names that do not end": ("SHT_STRTAB", *SH_SIZE, 2),
    "versions behind the end": ("SHT_GNU_verneed", *SH_OFFSET, 1 << 40),
    "two tables of symbols": ("SHT_GNU_verneed", 4, "<I", 11),
    "four billion versions": ("SHT_GNU_verneed", *SH_INFO, 0xFFFFFFFF),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_library_with_wrong_tables_is_a_problem(lie, extension, wheel):
    kind, offset, layout, value = LIES[lie]
    lying = changed(extension, offset + (header_of(extension, kind) if kind else 0), layout, value)
    started = time.monotonic()
    facts = facts_module.read_facts(wheel(extra=[("lying.so", lying)]))
    assert time.monotonic() - started < SECONDS
    if lie == "four billion versions":  # the chain of them ends all the same
        assert facts["problems"] == []
    else:
        assert (facts["libraries"], len(facts["problems"])) == ([], 1)
        assert facts["problems"][0].startswith("lying.so cannot be read: ")


def test_a_name_with_a_control_character_is_escaped_in_the_message(extension, wheel):
    name = extension.index(b"libother.so\0")
    facts = facts_module.read_facts(wheel(extra=[("a.so", changed(extension, name, "<B", 0x1B))]))
    assert facts["problems"] == [
        "a.so cannot be read: it has the name '\\x1bibother.so', wanted are names that can be printed."
    ]


def test_an_empty_section_of_a_file_of_debugging_symbols_is_no_gpu_code(extension, wheel):
    no_bits = changed(extension, header_of(extension, ".nv_fatbin") + 4, "<I", 8)
    facts = facts_module.read_facts(wheel(extra=[("a.so", no_bits)]))
    assert (facts["architectures"], facts["problems"]) == (None, [])


@pytest.mark.parametrize("place", [1 << 40, 1 << 62, (1 << 64) - 1])
def test_gpu_code_behind_the_end_of_a_library_is_a_problem(place, extension, wheel):
    lying = changed(extension, header_of(extension, ".nv_fatbin") + SH_OFFSET[0], "<Q", place)
    facts = facts_module.read_facts(wheel(extra=[("lying.so", lying)]))
    assert (len(facts["libraries"]), facts["architectures"]) == (1, None)
    assert facts["problems"][0].startswith("The GPU code of lying.so cannot be read: ")


def archive(path: Path, *members: tuple[str, bytes], attributes: int = 0) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return str(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "attributes", "message"),
    [
        ([("../a.so", b"")], 0, "below its own folder"),
        ([("a/../../b", b"")], 0, "below its own folder"),
        ([("a\\..\\b.so", b"")], 0, "below its own folder"),
        ([("/etc/a.so", b"")], 0, "below its own folder"),
        ([("C:\\a.so", b"")], 0, "below its own folder"),
        ([("a\nproblem.so", b"")], 0, "can be printed"),
        ([("\x1b[2Ja.so", b"")], 0, "can be printed"),
        ([("a.so", b"/etc/shadow")], stat.S_IFLNK | 0o777, "symbolic link"),
        ([("a.so", b"1"), ("a.so", b"2")], 0, "twice"),
        ([(f"{number}", b"") for number in range(50_001)], 0, "50001 files"),
        ([(f"{number}.so", b"") for number in range(501)], 0, "501 shared libraries"),
        ([(f"{number}" * 20_000, b"") for number in range(100, 250)], 0, "its directory has"),
        ([("a.so", bytes(17 << 20))], 0, "no more than 200 times as many"),
    ],
)
def test_an_archive_made_to_do_harm_is_refused_in_one_message(members, attributes, message, tmp_path):
    path = archive(tmp_path / "a-1-py3-none-any.whl", *members, attributes=attributes)
    started = time.monotonic()
    with pytest.raises(TorchExtensionError, match=message) as error:
        facts_module.read_facts(path)
    assert time.monotonic() - started < SECONDS
    assert "torch_extension_sources" in str(error.value)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["a-1-py3-none-any.whl"]


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


@pytest.mark.parametrize(
    ("signature", "offset", "layout", "value", "message"),
    [
        (CENTRAL, 8, "<H", 1, "encrypted"),
        (CENTRAL, 10, "<H", 12, "packed by method 12"),  # bzip2, which zipfile unpacks without a limit
        (CENTRAL, 10, "<H", 99, "packed by method 99"),
        (CENTRAL, 16, "<I", 1, "CRC"),
        (CENTRAL, 24, "<I", 5, "CRC"),  # larger than it says
        (CENTRAL, 24, "<I", 1 << 22, "is cut off"),  # smaller than it says
        (CENTRAL, 24, "<I", 0xFFFFFFFE, "no more than 200 times as many"),
        (CENTRAL, 42, "<I", 0xFFFFFF, "cannot be read as a wheel"),
        (LOCAL, 0, "<I", 0, "cannot be read as a wheel"),
        (LOCAL, 34, "<I", 0xFFFFFFFF, "cannot be read as a wheel"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(signature, offset, layout, value, message, extension, tmp_path):
    path = Path(archive(tmp_path / "a-1-py3-none-any.whl", ("a.so", extension)))
    data = path.read_bytes()
    path.write_bytes(changed(data, data.index(signature) + offset, layout, value))
    with pytest.raises(TorchExtensionError, match=message):
        facts_module.read_facts(str(path))
    assert os.listdir(tmp_path) == ["a-1-py3-none-any.whl"]


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\5\6" + bytes(17), b"PK\3\4" * 1000])
def test_a_file_that_is_no_archive_is_refused(data, tmp_path):
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(data)
    with pytest.raises(TorchExtensionError, match="cannot be read as a wheel"):
        facts_module.read_facts(str(tmp_path / "a-1-py3-none-any.whl"))


def test_a_missing_wheel_is_an_error(tmp_path):
    with pytest.raises(TorchExtensionError, match="No such file"):
        facts_module.read_facts(str(tmp_path / "a-1-py3-none-any.whl"))


def test_nothing_is_left_beside_the_wheel_and_another_folder_may_be_used(extension, wheel, tmp_path):
    path = wheel(extra=[("a.so", extension)])
    (tmp_path / "room").mkdir()
    facts = facts_module.read_facts(path)
    assert facts_module.read_facts(path, str(tmp_path / "room")) == facts
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert os.listdir(tmp_path / "room") == []
    with pytest.raises(TorchExtensionError, match="torch_extension_cache_dir"):
        facts_module.read_facts(path, str(tmp_path / "missing"))


def test_a_full_disk_is_an_error_before_anything_is_written(extension, wheel, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(TorchExtensionError, match="1 MiB free"):
        facts_module.read_facts(wheel(extra=[("a.so", extension)]))


def test_without_pyelftools_the_message_says_what_to_install(wheel, monkeypatch):
    monkeypatch.setattr(library_needs, "ELFTOOLS_IMPORT_ERROR", ImportError("No module named 'elftools'"))
    with pytest.raises(TorchExtensionError, match=r"lacks pyelftools .* requirements\.txt"):
        facts_module.read_facts(wheel())


def test_facts_are_kept_beside_the_wheel(extension, wheel):
    path = wheel(extra=[("a.so", extension)])
    facts = facts_module.read_facts_cached(path, "ab" * 32)
    Path(path).unlink()  # so that nobody can read it again
    assert facts_module.read_facts_cached(path, "AB" * 32) == facts
    kept = json.loads(Path(f"{path}.facts.json").read_text())
    assert (kept["sha256"], kept["version"]) == ("ab" * 32, facts_module.FACTS_VERSION)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path) + ".facts.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: json.dumps({**kept, "version": 0}),
        lambda kept: json.dumps({**kept, "sha256": "cd" * 32}),
        lambda kept: json.dumps({**kept, "facts": None}),
        lambda kept: json.dumps({**kept, "facts": {"filename": kept["facts"]["filename"]}}),
        lambda kept: json.dumps({**kept, "facts": {**kept["facts"], "filename": "other.whl"}}),
        lambda kept: json.dumps(kept)[:-3],
        lambda kept: "[" * 100_000,
        lambda kept: "[]",
        lambda kept: "\ud800",
        lambda kept: "",
    ],
)
def test_kept_facts_of_another_file_or_damaged_ones_are_read_anew(damage, extension, wheel):
    path = wheel(extra=[("a.so", extension)])
    facts = facts_module.read_facts_cached(path, "ab" * 32)
    facts_path = Path(f"{path}.facts.json")
    good = facts_path.read_text()
    facts_path.write_bytes(damage(json.loads(good)).encode("utf-8", "surrogatepass"))
    assert facts_module.read_facts_cached(path, "ab" * 32) == facts
    assert facts_path.read_text() == good


def test_facts_may_be_kept_in_another_folder(extension, wheel, tmp_path):
    path = wheel(extra=[("a.so", extension)])
    (tmp_path / "facts").mkdir()
    facts_module.read_facts_cached(path, "ab" * 32, str(tmp_path / "facts"))
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert os.listdir(tmp_path / "facts") == [os.path.basename(path) + ".facts.json"]


MEASURED = """
import json, resource, sys
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import facts as facts_module
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
facts = facts_module.read_facts(sys.argv[1])
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, facts]))
"""


def measured(path: Path) -> tuple[int, dict]:
    """By how many bytes a process of its own grows that reads a wheel, and what it tells."""
    search = str(Path(next(iter(ansible_collections.__path__))).parent)
    command = [sys.executable, "-c", MEASURED, path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": search})
    grown, facts = json.loads(done.stdout)
    return grown << 10, facts


def test_a_large_library_is_not_read_into_memory(extension, tmp_path):
    unit = fatbin(fatbin_entry(SASS, 80, payload=(os.urandom(8 << 10) + bytes(56 << 10)) * 16))  # 1 MiB
    header = header_of(extension, ".nv_fatbin")
    library = changed(extension, header + SH_OFFSET[0], "<Q", len(extension))
    library = changed(library, header + SH_SIZE[0], "<Q", len(unit) * 128)
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("a.so", "w") as member:
        member.write(library)
        for _number in range(128):
            member.write(unit)
    grown, facts = measured(path)
    assert (facts["architectures"], facts["problems"]) == ({"sass": ["80"], "ptx": []}, [])
    assert grown < 40 << 20


def test_what_a_library_has_the_loader_look_for_is_bounded(tmp_path, wheel):
    """Each name that it needs is looked for in each folder of its RUNPATH, on each node."""
    stubs = [build_library(tmp_path / f"{number}.stub", "", f"-Wl,-soname,lib{number}.so") for number in range(12)]
    folders = ":".join(f"/{number}" for number in range(9000))
    library = build_library(tmp_path / "a.so", "", *stubs, f"-Wl,--no-as-needed,-rpath,{folders}")
    facts = facts_module.read_facts(wheel(library))
    assert facts["libraries"] == []
    assert re.search(r"it has the loader look for 1[01][0-9]{4} more files, and 100000 are left", facts["problems"][0])


@pytest.mark.parametrize("flag", [0, 0x800])
def test_sections_that_are_compressed_are_not_unpacked(flag, extension, wheel):
    """SHF_COMPRESSED, by zlib or zstd: only what tells of debugging has that, and GPU code is read as it lies there."""
    header = header_of(extension, ".nv_fatbin")
    lying = changed(extension, header + 8, "<Q", flag | 2)
    facts = facts_module.read_facts(wheel(extra=[("a.so", lying)]))
    assert facts["architectures"] == {"sass": ["80"], "ptx": ["90"]}


SYMBOL = struct.Struct("<IBBHQQ")


@pytest.mark.parametrize(
    ("count", "name_size", "problem"),
    [(2_000_000, 3, "more entries"), (240_000, 60_000, "bytes of names"), (100, 70_000, "does not end")],
)
def test_neither_the_number_nor_the_names_of_symbols_fill_the_memory(count, name_size, problem, extension, tmp_path):
    table, strings = header_of(extension, "SHT_DYNSYM"), header_of(extension, ".dynstr")
    offset, size = (struct.unpack_from(layout, extension, strings + at)[0] for at, layout in (SH_OFFSET, SH_SIZE))
    names = extension[offset : offset + size] + b"a" * name_size + bytes(1)
    symbols = b"".join(SYMBOL.pack(size + number % 3, 0x10, 0, 0, 0, 0) for number in range(10_000))
    data = changed(extension, strings + SH_OFFSET[0], "<Q", len(extension))
    data = changed(data, strings + SH_SIZE[0], "<Q", len(names))
    data = changed(data, table + SH_OFFSET[0], "<Q", len(extension) + len(names))
    data = changed(data, table + SH_SIZE[0], "<Q", count * SYMBOL.size)
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file, file.open("a.so", "w") as member:
        member.write(data + names)
        for _number in range(count // 10_000 + 1):
            member.write(symbols)
    grown, facts = measured(path)
    assert facts["libraries"] == []
    assert problem in facts["problems"][0]
    assert grown < 200 << 20


def outcome(path: Path):
    """What read() says about a damaged wheel; any other end of it than facts or its own error fails the test."""
    try:
        facts = facts_module.read_facts(str(path))
    except TorchExtensionError as exc:
        assert "\n" not in str(exc)
        return str(exc)
    assert json.loads(json.dumps(facts)) == facts
    assert os.listdir(path.parent) == [path.name]
    return facts


@pytest.mark.slow
def test_a_damaged_library_is_read_or_is_a_problem(extension, tmp_path):
    path = tmp_path / "a-1-py3-none-any.whl"
    kinds = ("SHT_DYNSYM", "SHT_DYNAMIC", "SHT_STRTAB", "SHT_GNU_verneed", "SHT_PROGBITS")
    headers = [header_of(extension, kind) for kind in kinds]
    tables = [struct.unpack_from("<Q", extension, header + SH_OFFSET[0])[0] for header in headers]
    seen = set()

    @given(edits(len(extension), 0, *headers, *tables, extension.index(fatbin()[:8])))
    def check(edit):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.so", edited(extension, edit))
        facts = outcome(path)
        assert isinstance(facts, dict)
        seen.add((len(facts["libraries"]), bool(facts["problems"])))

    found = limited.check_property(check, result=lambda: seen)
    assert found == {(0, True), (1, True), (1, False)}  # the damage did reach all of it


@pytest.mark.slow
def test_a_damaged_archive_is_read_or_is_refused(extension, tmp_path):
    whole = archive(tmp_path / "whole", ("a.so", extension), ("b.txt", b"text"), ("a-1.dist-info/METADATA", b"Name: a"))
    data = Path(whole).read_bytes()
    Path(whole).unlink()
    path = tmp_path / "a-1-py3-none-any.whl"
    seen = set()

    @given(edits(len(data), 0, data.index(CENTRAL), data.index(CENTRAL) + 46, len(data) - 22))
    def check(edit):
        path.write_bytes(edited(data, edit))
        seen.add(type(outcome(path)))

    assert limited.check_property(check, mebibytes=64, result=lambda: seen) == {dict, str}

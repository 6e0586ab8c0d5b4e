# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import zipfile

import pytest
from wheels import LABEL, build_wheel, write_zip

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import (
    check_metadata,
    find_modules,
    parse_name,
    public_version,
    read_metadata,
    tag_mismatch,
)

OFFICIAL = "flash_attn-2.8.3+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
SOUND = b"Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3\n"


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        (["flash_attn/__init__.py", "flash_attn_2_cuda.abi3.so", "hopper/__init__.py"], ["flash_attn", "hopper"]),
        (["our_kernels.py", "our_kernels_cuda.cpython-311-x86_64-linux-gnu.so"], ["our_kernels"]),
        (["kernels.abi3.so", "tests/__init__.py", "a-1.dist-info/METADATA", "a-1.data/__init__.py"], ["kernels"]),
        (["namespace/module.py", "not-a-name.py"], []),
    ],
)
def test_a_wheel_is_tried_out_by_its_packages_else_by_its_modules_else_by_its_libraries(names, modules):
    assert find_modules(names) == modules


def test_a_name_is_taken_apart():
    name = parse_name(OFFICIAL)
    assert (name.name, name.version) == ("flash-attn", "2.8.3+cu12torch2.6cxx11abiFALSE")
    assert (name.pythons, name.abis, name.platforms) == ({"cp311"}, {"cp311"}, {"linux_x86_64"})
    many = parse_name("ninja-1.11-1-py2.py3-none-manylinux_2_5_x86_64.manylinux1_x86_64.whl")
    assert (many.pythons, many.platforms) == ({"py2", "py3"}, {"manylinux_2_5_x86_64", "manylinux1_x86_64"})
    assert (name.build, many.build) == ((), (1, ""))
    assert parse_name("a-1-12rc1-py3-none-any.whl").build == (12, "rc1")


@pytest.mark.parametrize(
    "filename",
    [
        "flash_attn-2.8.3.tar.gz",
        "flash_attn-2.8.3.whl",
        "flash_attn-2.8.3-py3-none-any.zip",
        "a-1-2-3-4-py3-none-any.whl",
        "../a-1-py3-none-any.whl",
        "/a-1-py3-none-any.whl",
        "a-1-py3-none-any.whl\n",
        "a 1-1-py3-none-any.whl",
        "-r-1-py3-none-any.whl",  # an option where names stand in a file of requirements
        "_r-1-py3-none-any.whl",  # likewise, once it is normalised
        "\u0661-1-py3-none-any.whl",
        "a-1-py3-none-any-torch210.whl",  # a label of a variant, as PEP 825 drafts it
        "",
    ],
)
def test_a_name_that_is_not_that_of_a_wheel_is_refused(filename):
    with pytest.raises(TorchExtensionError, match="is not the name of a wheel"):
        parse_name(filename)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("cp311-cp311-linux_x86_64", None),
        ("cp311-cp311-manylinux_2_28_x86_64.manylinux2014_x86_64", None),
        ("py3-none-any", None),
        ("py2.py3-none-any", None),
        ("py311-none-any", None),
        ("cp311-none-linux_x86_64", None),
        ("cp38-abi3-linux_x86_64", None),
        ("cp312-abi3-linux_x86_64", "it is for Python cp312-abi3, this interpreter is cp311"),
        ("cp310-cp310-linux_x86_64", "it is for Python cp310, this interpreter is cp311"),
        ("py2-none-any", "it is for Python py2"),
        ("cp311-cp311t-linux_x86_64", "it is for Python cp311-cp311t, this interpreter is cp311"),
        ("py39-none-manylinux_2_28_x86_64", None),  # xformers 0.0.35
        ("py312-none-any", "it is for Python py312-none, this interpreter is cp311"),
        ("cp311-cp311-linux_aarch64", "it is for linux_aarch64, this node is linux on x86_64"),
        ("cp311-cp311-win_amd64", "it is for win_amd64"),
    ],
)
def test_tags_that_do_not_fit_are_a_mismatch(tags, words, environment):
    told = tag_mismatch(parse_name(f"a-1-{tags}.whl"), environment)
    assert told == words or words in told


def test_a_renamed_wheel_is_the_one_that_its_name_says(tmp_path):
    wheel = build_wheel(tmp_path, label=LABEL, requires=["torch", "einops>=0.6"], requires_python=">=3.9")
    found = check_metadata(str(wheel), wheel.name)
    assert found == ("flash-attn", "2.8.3", ("torch", "einops>=0.6"), ">=3.9")


@pytest.mark.parametrize(
    "name", ["flash_attn-2.8.2-py3-none-any.whl", "mamba_ssm-2.8.3-py3-none-any.whl"], ids=["version", "distribution"]
)
def test_another_wheel_under_its_name_is_refused(name, tmp_path):
    with pytest.raises(TorchExtensionError, match=rf"{name} is not what its name says.*flash-attn 2\.8\.3"):
        check_metadata(str(build_wheel(tmp_path)), name)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("flash_attn/__init__.py", b"")], "has 0 METADATA files"),
        ([("deep/flash_attn-2.8.3.dist-info/METADATA", SOUND)], "has 0 METADATA files"),
        ([("a-1.dist-info/METADATA", SOUND), ("b-1.dist-info/METADATA", SOUND)], "has 2 METADATA files"),
        ([("a-1.dist-info/METADATA", SOUND + b" " * (4 << 20))], "has 4194358 bytes, wanted are no more than 4194304"),
        ([("a-1.dist-info/METADATA", SOUND + b"Requires-Dist: a\n" * 1001)], "has 1001 lines Requires-Dist"),
        ([("a-1.dist-info/METADATA", SOUND + b"Requires-Dist: " + b"a" * 2001)], "the longest of 2001 characters"),
        ([("a-1.dist-info/METADATA", b"Name: a\x1b[2J\nVersion: 1\n")], "cannot be printed"),
        ([("a-1.dist-info/METADATA", b"Name: flash_attn\n")], "no Name or no Version"),
        ([("a-1.dist-info/METADATA", b"\xff\xfe")], "no Name or no Version"),
    ],
    ids=[
        "no METADATA",
        "METADATA elsewhere",
        "two METADATA",
        "huge METADATA",
        "many lines",
        "a long line",
        "an escape",
        "no version",
        "no text",
    ],
)
def test_hostile_metadata_is_refused(members, words, tmp_path):
    path = tmp_path / "flash_attn-2.8.3-py3-none-any.whl"
    write_zip(path, members)
    with pytest.raises(TorchExtensionError, match=words):
        read_metadata(str(path))


def test_metadata_that_lies_about_its_size_fills_no_memory(tmp_path):
    path = tmp_path / "flash_attn-2.8.3-py3-none-any.whl"
    write_zip(path, [("a-1.dist-info/METADATA", SOUND + b"X" * (64 << 20))])
    real, lie = struct.pack("<L", len(SOUND) + (64 << 20)), struct.pack("<L", 100)
    path.write_bytes(path.read_bytes().replace(real, lie))
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == 100
    with pytest.raises(TorchExtensionError, match="is not a wheel"):
        read_metadata(str(path))


def test_a_wheel_that_was_cut_anywhere_is_no_wheel(tmp_path):
    whole = build_wheel(tmp_path).read_bytes()
    path = tmp_path / "cut.whl"
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(TorchExtensionError, match=r"cut\.whl is not a wheel"):
            read_metadata(str(path))


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF], ids=hex)
def test_a_changed_byte_is_an_error_or_harmless(change, tmp_path):
    whole = build_wheel(tmp_path).read_bytes()
    path = tmp_path / "bad.whl"
    refused = 0
    for place in range(0, len(whole), 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        try:
            assert read_metadata(str(path))[:2] == ("flash-attn", "2.8.3")
        except TorchExtensionError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("what", ["folder", "nothing", "web page"])
def test_a_file_that_is_not_an_archive_is_no_wheel(what, tmp_path):
    path = tmp_path / "a-1-py3-none-any.whl"
    if what == "folder":
        path.mkdir()
    elif what == "web page":
        path.write_text("<!DOCTYPE html>")
    with pytest.raises(TorchExtensionError, match=r"a-1-py3-none-any.whl is not a wheel"):
        read_metadata(str(path))


@pytest.mark.parametrize(("version", "public"), [("2.8.3", "2.8.3"), ("2.8.3.post1+cu12torch2.6", "2.8.3.post1")])
def test_the_public_version_has_no_label(version, public):
    assert public_version(version) == public

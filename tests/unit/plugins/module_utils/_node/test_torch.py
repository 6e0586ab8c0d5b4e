# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import Distribution
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.torch import read_torch

NEW_ABI = b"\x7fELF\0_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0"
OLD_ABI = b"\x7fELF\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0_ZNSt7__cxx1112basic_stringIcE9_M_createERmm\0"
NEITHER = b"\x7fELF\0_ZN3c105Error4whatEv\0_ZNSt7__cxx1112basic_stringIcE9_M_createERmm\0"

PLAIN = "__version__ = '1.13.1+cu117'\ndebug = False\ncuda = '11.7'\ngit_version = 'ab'\nhip = None\n"
ANNOTATED = (
    "from typing import Optional\n__all__ = ['cuda']\n__version__ = '2.6.0+rocm6.2'\ncuda: Optional[str] = None\n"
    "hip: Optional[str] = '6.2.41133-dd7f95766'\nxpu: Optional[str] = None\n"
)
CPU = "__version__ = '2.2.0+cpu'\ncuda = None\n"


def module_of(packages):
    return str(packages / "torch" / "__init__.py")


def test_no_torch_is_no_error():
    assert read_torch(None, None, []) == (None, [])


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (PLAIN, {"version": "1.13.1+cu117", "cuda": "11.7", "hip": None}),
        (ANNOTATED, {"version": "2.6.0+rocm6.2", "cuda": None, "hip": "6.2.41133-dd7f95766"}),
        (CPU, {"version": "2.2.0+cpu", "cuda": None, "hip": None}),
    ],
    ids=["plain", "annotated", "CPU only"],
)
def test_version_py_is_read_as_each_torch_wrote_it(text, facts, tmp_path, make_torch):
    path = make_torch(tmp_path, version=text)
    found, warnings = read_torch(module_of(tmp_path), None, [])
    assert found == {**facts, "cxx11_abi": False, "path": str(path)}
    assert warnings == []


def test_version_py_is_not_run(tmp_path, make_torch):
    make_torch(tmp_path, version=f"{PLAIN}open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert read_torch(module_of(tmp_path), None, [])[0]["version"] == "1.13.1+cu117"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("library", "abi"), [(NEW_ABI, True), (OLD_ABI, False), (NEITHER, None)], ids=["new", "old", "neither"]
)
def test_the_abi_is_what_the_constructor_of_the_error_class_takes(library, abi, tmp_path, make_torch):
    make_torch(tmp_path, library=library)
    found, warnings = read_torch(module_of(tmp_path), None, [])
    assert found["cxx11_abi"] is abi
    assert [warning for warning in warnings if "C++ ABI" in warning] == warnings
    assert bool(warnings) == (abi is None)


def test_condas_torch_has_its_library_in_the_folder_of_the_environment(tmp_path, make_torch):
    torch = make_torch(tmp_path / "packages", library=NEW_ABI)
    (torch / "lib").rename(tmp_path / "lib")
    assert read_torch(module_of(tmp_path / "packages"), None, [str(tmp_path / "lib")])[0]["cxx11_abi"] is True


def test_its_own_library_goes_before_that_of_the_environment(tmp_path, make_torch):
    make_torch(tmp_path / "packages", library=OLD_ABI)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libc10.so").write_bytes(NEW_ABI)
    assert read_torch(module_of(tmp_path / "packages"), None, [str(tmp_path / "lib")])[0]["cxx11_abi"] is False


def test_what_is_left_of_a_torch_may_be_a_folder_without_a_module(tmp_path, make_torch):
    torch = make_torch(tmp_path)
    (torch / "__init__.py").unlink()
    assert read_torch(str(torch), None, [])[0]["path"] == str(torch)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda torch: (torch / "version.py").unlink(), "half removed.*no version.py"),
        (lambda torch: shutil.rmtree(torch / "lib"), "half removed.*has no libc10.so, looked for in"),
        (lambda torch: (torch / "lib" / "libc10.so").write_bytes(b""), "libc10.so cannot be read"),
        (lambda torch: (torch / "version.py").write_text("__version__ = "), "does not tell its version .SyntaxError"),
        (lambda torch: (torch / "version.py").write_text("cuda = '12.1'"), "does not tell its version .KeyError"),
        (lambda torch: (torch / "version.py").write_bytes(b"\0"), "does not tell its version"),
        (lambda torch: (torch / "version.py").write_bytes(b"x = '\xff'"), "does not tell its version"),
    ],
    ids=["no version.py", "no lib", "empty library", "cut version.py", "no __version__", "zeros", "not UTF-8"],
)
def test_a_half_removed_torch_is_an_error_that_says_so(damage, words, tmp_path, make_torch):
    torch = make_torch(tmp_path)
    damage(torch)
    with pytest.raises(TorchExtensionError, match=f"torch is broken.*{words}.*Install torch anew"):
        read_torch(module_of(tmp_path), None, [])


def test_torchs_metadata_without_torch_is_an_error_that_says_so(tmp_path):
    left = Distribution("torch", "2.2.0", str(tmp_path / "torch-2.2.0.dist-info"), True)
    with pytest.raises(TorchExtensionError, match=r"torch-2.2.0.dist-info says 2.2.0, and Python finds no module"):
        read_torch(None, left, [])

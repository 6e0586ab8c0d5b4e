# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil

import pytest
from builds import install_cuda

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import compilers


@pytest.fixture
def shelf(tmp_path):
    """A folder of programs that are those of this machine under other names."""

    def make(**programs):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, program in programs.items():
            (folder / name.replace("_", "-").replace("xx", "++")).symlink_to(shutil.which(program))
        return str(folder)

    return make


def test_the_compilers_of_this_machine_are_found(run):
    pair = compilers.find_pairs(os.environ["PATH"], run)[0]
    real = run(["g++", "-dumpfullversion"])[1].strip()
    assert (pair.cxx.path, pair.cxx.version) == (shutil.which("g++"), real)
    assert (pair.cc.path, pair.cc.version) == (shutil.which("gcc"), real)
    assert pair.cxx.major == int(real.split(".")[0])


def test_one_compiler_of_several_names_is_one(shelf, run):
    found = compilers.find_pairs(shelf(gxx="g++", cxx="g++", gxx_12="g++", gcc="gcc"), run)
    assert [os.path.basename(pair.cxx.path) for pair in found] == ["g++"]


def test_compilers_with_a_version_in_their_name_are_found(shelf, run):
    (pair,) = compilers.find_pairs(shelf(gxx_13="g++", gcc_13="gcc"), run)
    assert (os.path.basename(pair.cxx.path), os.path.basename(pair.cc.path)) == ("g++-13", "gcc-13")


def test_what_does_not_tell_its_version_is_none(tmp_path, run):
    (tmp_path / "g++").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "g++").chmod(0o755)
    assert compilers.find_pairs(str(tmp_path), run) == []


def test_cuda_is_found_by_its_variable_and_on_the_path(tmp_path, run):
    by_variable, on_path = (install_cuda(tmp_path / name) for name in ("variable", "path"))
    nothing = str(tmp_path / "nothing")
    found = compilers.find_nvcc(f"{on_path}/bin", {"CUDA_HOME": str(by_variable)}, run)
    assert found == (f"{by_variable}/bin/nvcc", str(by_variable), "12.8", "12.8.93", 14)
    assert compilers.find_nvcc(f"{on_path}/bin", {"CUDA_HOME": nothing}, run).home == str(on_path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/nvcc").symlink_to(on_path / "bin/nvcc")
    assert compilers.find_nvcc(str(tmp_path / "links"), {}, run).home == str(on_path)


def test_a_script_that_stands_for_nvcc_elsewhere_is_no_toolkit(tmp_path, run):
    home = install_cuda(tmp_path / "cuda")
    (home / "include/crt/host_config.h").unlink()
    assert compilers.look_at_nvcc(str(home), run) is None


def test_an_nvcc_that_does_not_run_is_none(tmp_path, run):
    home = install_cuda(tmp_path / "cuda")
    (home / "bin/nvcc").write_text("#!/bin/sh\nexit 127\n")
    assert compilers.look_at_nvcc(str(home), run) is None


def test_the_newest_gcc_is_read_from_nvidias_header():
    text = "#if defined(__GNUC__)\n\n#if __GNUC__ > 15\n\n#error -- unsupported GNU version! gcc versions later than 15"
    assert compilers.parse_max_gcc(text) == 15
    assert compilers.parse_max_gcc("") is None


def test_an_nvcc_without_the_options_is_not_repeatable(tmp_path, run):
    home = install_cuda(tmp_path / "cuda")
    assert compilers.is_repeatable(str(home / "bin/nvcc"), run) is False
    (home / "bin/nvcc").write_text("#!/bin/sh\necho --frandom-seed --objdir-as-tempdir\n")
    assert compilers.is_repeatable(str(home / "bin/nvcc"), run) is True

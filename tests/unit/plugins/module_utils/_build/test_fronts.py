# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the fronts make of the command lines of packages: as functions, and as programs before stand-ins that write down what they get."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import fronts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.compilers import Compiler, Pair
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.front_files import write_fronts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder

SETTINGS = {
    "standard": "c++20",
    "maps": [["/home/me/job", "/job"], ["/home/me/job/sources/p-1", "/build"]],
    "archs": ["90", "120+PTX"],
    "repeatable": True,
    "host": "/job/bin/host/g++",
    "programs": {},
}


@pytest.mark.parametrize(
    ("archs", "wanted", "chosen"),
    [
        (["90"], [], ["sm_90"]),
        (["90"], ["sm_80", "sm_90", "sm_100"], ["sm_90"]),
        (["90"], ["sm_80", "sm_90a"], ["sm_90a"]),
        (["90"], ["sm_90", "sm_90a", "compute_90"], ["sm_90", "sm_90a"]),
        (["90a"], ["sm_90", "sm_90a"], ["sm_90a"]),
        (["90", "120"], ["sm_80"], ["sm_90", "sm_120"]),
        (["90", "120+PTX"], ["sm_90", "compute_120"], ["sm_90", "sm_120", "compute_120"]),
        (["103"], ["sm_100f", "sm_90"], ["sm_100f"]),
        (["100"], ["sm_103f"], ["sm_100"]),
        (["110"], ["sm_100f"], ["sm_110"]),
        (["90"], ["lto_90"], ["lto_90"]),
    ],
)
def test_each_of_our_architectures_is_compiled_for_and_no_other(archs, wanted, chosen):
    assert fronts.choose_codes(wanted, archs) == chosen


FORMS = [
    ["-gencode", "arch=compute_80,code=sm_80", "-gencode", "arch=compute_90a,code=sm_90a"],
    ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90a,code=sm_90a"],
    ["--generate-code=arch=compute_80,code=[sm_80,compute_80]", "--generate-code", "arch=compute_90a,code=[sm_90a]"],
    ["-gencode", "'arch=compute_90a,code=\"[sm_90a,compute_90a]\"'"],
    ["-arch", "sm_90a"],
    ["-arch=sm_90a"],
    ["--gpu-architecture=compute_90a", "--gpu-code=sm_90a,sm_80"],
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_architectures_are_read_in_each_form_of_nvcc(form):
    changed = fronts.change_nvcc([*form, "-c", "a.cu"], {**SETTINGS, "archs": ["90"]})
    assert [argument for argument in changed if "90" in argument or "80" in argument] == [
        "arch=compute_90a,code=sm_90a"
    ]


def test_all_and_native_are_ours():
    for arch in ("all", "all-major", "native"):
        changed = fronts.change_nvcc([f"-arch={arch}", "-c", "a.cu"], SETTINGS)
        assert [argument for argument in changed if "arch" in argument] == [
            "arch=compute_90,code=sm_90",
            "arch=compute_120,code=sm_120",
            "arch=compute_120,code=compute_120",
        ]


@pytest.mark.parametrize("question", [[], ["--version"], ["-V"], ["--help"], ["--list-gpu-arch"], ["-arch-ls"]])
def test_a_question_to_nvcc_is_passed_on(question):
    assert fronts.change_nvcc(question, SETTINGS) == question


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("c++11", "c++20"),
        ("c++17", "c++20"),
        ("gnu++17", "gnu++20"),
        ("c++1z", "c++20"),
        ("c++98", "c++20"),
        ("c++20", "c++20"),
        ("c++2b", "c++2b"),
        ("c++23", "c++23"),
        ("c17", "c17"),
        ("gnu99", "gnu99"),
    ],
)
def test_an_older_standard_of_cxx_is_raised_and_nothing_else(asked, given):
    for forms in ([f"-std={asked}"], [f"--std={asked}"], ["-std", asked]):
        assert f"-std={given}" in fronts.change_nvcc([*forms, "-c", "a.cu"], SETTINGS), forms
    assert f"-std={given}" in fronts.change_cxx([f"-std={asked}", "-c", "a.cpp"], SETTINGS)
    assert f"-std={asked}" in fronts.change_cxx([f"-std={asked}", "-c", "a.cpp"], {**SETTINGS, "standard": None})


def test_threads_and_other_host_compilers_are_dropped():
    given = ["--threads", "4", "-t=2", "-ccbin", "/usr/bin/gcc", "--compiler-bindir=/opt/gcc", "-O3", "-c", "a.cu"]
    changed = fronts.change_nvcc(given, SETTINGS)
    assert changed[:4] == ["-O3", "-c", "a.cu", "-ccbin=/job/bin/host/g++"]
    assert not {"4", "-t=2", "/usr/bin/gcc", "--compiler-bindir=/opt/gcc"} & set(changed)


def test_seeds_are_the_same_in_each_folder_and_differ_between_objects():
    def seed(path):
        arguments = ["-c", "/home/me/job/sources/p-1/a.cu", "-o", path]
        return next(each for each in fronts.change_nvcc(arguments, SETTINGS) if "random" in each)

    assert seed("/home/me/job/sources/p-1/build/a.o") == "-frandom-seed=/build/build/a.o"
    assert seed("/home/me/job/sources/p-1/build/b.o") == "-frandom-seed=/build/build/b.o"
    plain = fronts.change_nvcc(["-c", "a.cu", "-o", "a.o"], {**SETTINGS, "repeatable": False})
    assert not [each for each in plain if "random" in each or each == "-objtemp"]


def test_marks_of_the_preprocessor_get_names():
    text = b'# 1 "/home/me/job/sources/p-1/a.cu"\nchar* s = "/home/me/job/x";\n# 7 "/usr/include/a.h" 3\n'
    mapped = b'# 1 "/build/a.cu"\nchar* s = "/home/me/job/x";\n# 7 "/usr/include/a.h" 3\n'
    assert fronts.map_marks(text, SETTINGS["maps"]) == mapped


def test_parts_of_nvcc_get_a_name_for_the_path_of_the_source():
    path = "/home/me/job/sources/p-1/a.cu"
    assert fronts.change_part(["--orig_src_path_name", path, path, f"--ident={path}", "-ident"], SETTINGS) == [
        "--orig_src_path_name",
        "/build/a.cu",
        path,
        "--ident=/build/a.cu",
        "-ident",
    ]


@pytest.fixture
def written(tmp_path):
    """Fronts before programs that write down what they are called with."""
    folder = JobFolder(str(tmp_path), "job")
    cuda = tmp_path / "cuda"
    programs = [cuda / "bin/nvcc", cuda / "bin/cudafe++", cuda / "bin/fatbinary", cuda / "nvvm/bin/cicc"]
    for program in [*programs, tmp_path / "g++", tmp_path / "gcc"]:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" > {tmp_path}/{program.name}.called\nexit 7\n')
        program.chmod(0o755)
    (tmp_path / "job").mkdir()
    Path(folder.compiler).symlink_to(cuda)
    pair = Pair(Compiler(str(tmp_path / "gcc"), "12.2.0"), Compiler(str(tmp_path / "g++"), "12.2.0"))
    write_fronts(
        folder, pair, str(cuda), True, ["/opt/venv/packages"], f"{folder.sources}/p-1", ["9.0", "12.0+PTX"], None
    )
    return folder


def test_a_front_becomes_the_program_with_other_arguments(written, tmp_path):
    def call(name, *arguments):
        done = subprocess.run([Path(written.bin, name), *arguments], check=False, cwd=tmp_path)
        assert done.returncode == 7
        program = {"c++": "g++", "cc": "gcc", "host/g++": "g++"}.get(name, name)
        return (tmp_path / f"{program}.called").read_text().splitlines()

    called = call("nvcc", "-arch=sm_80", "-c", "with space.cu")
    assert called[:4] == [f"{written.compiler}/bin/nvcc", "-c", "with space.cu", f"-ccbin={written.bin}/host/g++"]
    assert "arch=compute_120,code=compute_120" in called
    for name in ("g++", "c++", "gcc", "cc", "host/g++"):
        called = call(name, "-c", "a.cpp")
        assert called[1:3] == ["-c", "a.cpp"]
        assert f"-ffile-prefix-map={written.sources}/p-1=/build" == called[-1]
        assert "-ffile-prefix-map=/opt/venv/packages=/packages" in called
    for name in ("cudafe++", "fatbinary", "cicc"):
        assert call(name, "--orig_src_path_name", f"{written.sources}/p-1/a.cu")[2] == "/build/a.cu"
    compiled = Path(written.compiled).read_text().splitlines()
    assert [line.split(" ", 2)[1:] for line in compiled] == [
        ["nvcc", f"{tmp_path}/with space.cu"],
        *([name, f"{tmp_path}/a.cpp"] for name in ("c++", "c++", "cc", "cc")),
    ]


def test_a_preprocessor_that_fails_is_told_by_its_status(written, tmp_path):
    done = subprocess.run([Path(written.bin, "host/g++"), "-E", "a.cpp", "-o", "a.ii"], check=False, cwd=tmp_path)
    assert done.returncode == 7


def test_without_cuda_there_is_no_front_of_nvcc_and_without_gcc_that_of_gcc_is_one_of_gxx(tmp_path):
    folder = JobFolder(str(tmp_path), "job")
    (tmp_path / "job").mkdir()
    write_fronts(folder, Pair(None, Compiler("/usr/bin/g++", "12.2.0")), None, False, [], "/s", [], None)
    names = {path.name for path in Path(folder.bin).iterdir()}
    assert names == {"c++", "g++", "cc", "gcc", "host", "fronts.py", "fronts.json"}
    settings = json.loads(Path(folder.bin, "fronts.json").read_text())
    assert settings["programs"]["cc"] == "/usr/bin/g++"

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real libraries with real faults: the verdict on each is held against what the real loader makes of it."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from binaries import compile_library, exported_names, loader_complains, no_facts, read_facts
from venvs import make_plain_venv, site_packages

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.proof import demangle, prove_all

pytestmark = pytest.mark.slow  # they compile libraries

C10 = """
#include <string>
namespace c10 {
struct SourceLocation { const char *function, *file; unsigned line; };
struct Error { Error(SourceLocation, std::string); std::string message; };
}
"""
AT = "namespace at { int add(int); }\n"
EXTENSION = """
extern "C" void *PyLong_FromLong(long);
__attribute__((weak)) extern int may_be_absent;
extern "C" void *probe() {
  if (&may_be_absent) return 0;
  new c10::Error({"", "", 0}, "no");
  return PyLong_FromLong(at::add(1));
}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """An environment with a small torch whose libraries are real ones."""
    folder = tmp_path_factory.mktemp("node")
    packages = site_packages(make_plain_venv(folder / "venv"))
    torch, lib = packages / "torch", packages / "torch/lib"
    lib.mkdir(parents=True)
    (torch / "version.py").write_text("__version__ = '2.6.0+cu124'\ncuda = '12.4'\n")
    here = f"-L{lib}"
    c10 = "c10::Error::Error(SourceLocation, std::string text) : message(text) {}\n"
    compile_library(lib / "libc10.so", C10 + c10, soname="libc10.so")
    compile_library(lib / "libtorch_cpu.so", f"{C10}{AT}int at::add(int one) {{ c10::Error error({{}}, {{}}); return one; }}",
                    here, "-lc10", "-Wl,-rpath,$ORIGIN", soname="libtorch_cpu.so")  # fmt: skip
    compile_library(lib / "libtorch_hidden.so", "int of_torch_alone;", soname="libtorch_hidden.so")
    compile_library(lib / "libgomp-1234.so.1", "int for_all;", language="c", soname="libgomp-1234.so.1")
    compile_library(lib / "libtorch_global_deps.so", "", here, "-Wl,--no-as-needed", "-l:libgomp-1234.so.1",
                    "-Wl,-rpath,$ORIGIN", language="c")  # fmt: skip
    compile_library(torch / "_C.cpython-xyz.so", f"{AT}int start = at::add(1);", here, "-Wl,--no-as-needed", "-ltorch_cpu",
                    "-ltorch_hidden", "-lc10", "-Wl,-rpath,$ORIGIN/lib")  # fmt: skip
    return Node(folder, packages)


class Node:
    def __init__(self, folder, packages):
        self.folder, self.packages, self.lib = folder, packages, packages / "torch/lib"
        self.python = folder / "venv/bin/python"
        self.torch = [f"+{self.lib}/libtorch_global_deps.so", next(self.lib.parent.glob("_C.*"))]

        def run(command):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr

        self.environment, _warnings = environment.describe_environment(str(self.python), [], run, {})

    def extension(self, name, source="", *options, torch=("-ltorch_cpu", "-lc10"), member=None):
        """Compile an extension into the folder of the packages, where an installer would put it."""
        linked = [f"-L{self.lib}", *options, *torch]
        self.path = compile_library(self.packages / (member or f"{name}.so"), C10 + AT + EXTENSION + source, *linked)
        return self.path

    def prove(self, path, environ=None, **more):
        facts = read_facts(path, str(path.relative_to(self.packages)), **more)
        return prove_all([facts], self.environment, environ or {})[0]

    def hold_against_loader(self, path, verdict, environ=None):
        complaint = loader_complains(self.python, [*self.torch, path], environ or {})
        assert (complaint is None) == (verdict.verdict == "fits"), (complaint, verdict)
        return complaint


def stub(node, file, version="", names="stub", soname=None):
    """A library that is only there to be linked against; none of its kind is on this machine."""
    folder = node.folder / f"stub-{file}{version}"
    folder.mkdir(exist_ok=True)
    (folder / "script").write_text(f"{version or 'NONE'} {{ {names}; }};\n")
    options = [f"-Wl,--version-script={folder}/script"] if version else []
    source = "".join(f"int {name};" for name in names.split("; "))
    return compile_library(folder / file, source, "-nostdlib", *options, language="c", soname=soname or file)


def test_a_library_that_has_all_it_needs_fits(node):
    path = node.extension("good")
    found = node.prove(path, cxx11_abi=True)
    assert found == ("fits", [])
    node.hold_against_loader(path, found)


@pytest.mark.parametrize(
    "name, source, options, reason",
    [
        (
            "old_abi",
            "",
            ["-D_GLIBCXX_USE_CXX11_ABI=0"],
            r"needs a symbol that torch 2.6.0\+cu124 does not export: _ZN3c105ErrorC\dENS_14SourceLocationESs"
            r" \(c10::Error::Error\)$",
        ),
        (
            "old_torch",
            "namespace at { int gone(); int lost(const char *); } int use = at::gone() + at::lost(0);",
            [],
            r"needs 2 symbols that torch 2.6.0\+cu124 does not export: _ZN2at4goneEv \(at::gone\), _ZN2at4lostEPKc"
            r" \(at::lost\)$",
        ),
        (
            "old_python",
            'extern "C" int PyLong_FromTheFuture(); int use = PyLong_FromTheFuture();',
            [],
            r"needs a symbol that Python 3\S+ does not export: PyLong_FromTheFuture$",
        ),
        (
            "no_scope",
            "extern int of_torch_alone; int use = of_torch_alone;",
            [],
            "no library here exports: of_torch_alone$",
        ),
        (
            "many",
            "".join(f'extern "C" int lost_{number}(); int use_{number} = lost_{number}();' for number in range(8)),
            [],
            "needs 8 symbols that no library here exports: lost_0, lost_1, lost_2, lost_3, lost_4 and 3 more$",
        ),
    ],
)
def test_a_symbol_that_nothing_exports_does_not_fit(node, name, source, options, reason):
    path = node.extension(name, source, *options)
    found = node.prove(path)
    assert found.verdict == "does not fit"
    assert len(found.reasons) == 1
    assert re.search(reason, found.reasons[0]), found.reasons
    assert "undefined symbol" in node.hold_against_loader(path, found)


def test_an_abi_that_contradicts_the_name_is_reported(node):
    path = node.extension("old_abi_again", "", "-D_GLIBCXX_USE_CXX11_ABI=0")
    found = node.prove(path, cxx11_abi=False)
    assert found.reasons[0] == (
        "was built with the old C++ ABI although its name says TRUE; torch 2.6.0+cu124 was built with the new one"
    )
    honest = node.prove(path, cxx11_abi=False, filename="x-1+cxx11abiFALSE-py3-none-any.whl")
    assert "although" not in honest.reasons[0]


def test_an_abi_that_makes_no_difference_is_no_fault(node):
    path = node.extension("good_whatever")
    found = node.prove(path, cxx11_abi=False)
    assert found.verdict == "fits"
    node.hold_against_loader(path, found)


@pytest.mark.parametrize(
    "file, version, reason",
    [
        ("libc.so.6", "GLIBC_2.99", "needs GLIBC_2.99 of libc.so.6, this node has glibc {libc}"),
        (
            "libstdc++.so.6",
            "GLIBCXX_3.4.999",
            "needs GLIBCXX_3.4.999 of libstdc\\+\\+.so.6, the newest in .* is GLIBCXX_3.4.{cxx}",
        ),
    ],
)
def test_a_version_that_the_node_lacks_does_not_fit(node, file, version, reason):
    made = stub(node, file, version, "of_the_future")
    path = node.extension("needs_" + version, "extern int of_the_future; int *use = &of_the_future;", str(made))
    found = node.prove(path)
    assert found.verdict == "does not fit"
    platform = node.environment["platform"]
    pattern = reason.format(libc=platform["libc"]["version"], cxx=platform["libstdcxx"].split(".")[-1])
    assert any(re.fullmatch(pattern, text) for text in found.reasons), found.reasons
    assert f"version `{version}' not found" in node.hold_against_loader(path, found)


def test_a_library_that_is_nowhere_does_not_fit(node):
    made = stub(node, "libcudart.so.11.0", names="cudaMalloc")
    path = node.extension("cuda11", "extern int cudaMalloc; int *use = &cudaMalloc;", str(made))
    found = node.prove(path)
    assert found.verdict == "does not fit"
    assert found.reasons == ["needs libcudart.so.11.0, which is nowhere on this node (torch is built for CUDA 12.4)"]
    assert "libcudart.so.11.0: cannot open shared object file" in node.hold_against_loader(path, found)


def test_a_library_whose_own_needs_are_nowhere_does_not_fit(node):
    gone = stub(node, "libgone.so.1", names="gone")
    between = compile_library(node.packages / "between/libbetween.so", "extern int gone; int *between = &gone;", str(gone),
                              language="c", soname="libbetween.so")  # fmt: skip
    path = node.extension(
        "far", "extern int *between; int **use = &between;", str(between), "-Wl,-rpath,$ORIGIN/between"
    )
    found = node.prove(path)
    assert found.reasons[0] == f"needs {between}, which needs libgone.so.1, which is nowhere on this node"
    assert found.verdict == "does not fit"
    assert "libgone.so.1" in node.hold_against_loader(path, found)


def test_a_library_for_another_machine_does_not_fit(node):
    path = node.extension("foreign")
    data = bytearray(path.read_bytes())
    data[18:20] = (183 if data[18] == 62 else 62).to_bytes(2, "little")  # e_machine
    path.write_bytes(data)
    facts = read_facts(node.extension("native"), "foreign.so")
    facts["libraries"][0]["machine"] = "another"
    found = prove_all([facts], node.environment, {})[0]
    assert found.verdict == "does not fit"
    assert "is for another, the interpreter for " in found.reasons[0]
    assert "foreign.so" in node.hold_against_loader(path, found)


@pytest.mark.parametrize("tags", ["enable", "disable"])
def test_the_path_in_a_library_leads_to_what_is_beside_it(node, tags):
    beside = compile_library(node.packages / "beside/libbeside.so", "int beside;", language="c", soname="libbeside.so")
    source = "extern int beside; int *use = &beside;"
    path = node.extension(f"led_{tags}", source, str(beside), f"-Wl,--{tags}-new-dtags,-rpath,$ORIGIN/beside")
    found = node.prove(path)
    assert found == ("fits", [])
    node.hold_against_loader(path, found)
    lost = node.extension(f"lost_{tags}", source, str(beside))
    found = node.prove(lost)
    assert found.reasons == ["needs libbeside.so, which is nowhere on this node"]
    node.hold_against_loader(lost, found)


def test_the_library_path_of_the_environment_counts(node):
    other = compile_library(node.folder / "other/libother.so", "int other;", language="c", soname="libother.so")
    path = node.extension("pathed", "extern int other; int *use = &other;", str(other))
    for environ in ({}, {"LD_LIBRARY_PATH": f"/nowhere:{other.parent}"}):
        found = node.prove(path, environ)
        assert found.verdict == ("fits" if environ else "does not fit")
        node.hold_against_loader(path, found, environ)


def test_libraries_that_torch_loads_globally_count(node):
    path = node.extension("global", "extern int for_all; int *use = &for_all;")
    found = node.prove(path)
    assert found == ("fits", [])
    node.hold_against_loader(path, found)


def test_dependencies_of_a_dependency_count(node):
    path = node.extension("through", torch=["-Wl,--no-as-needed", "-ltorch_cpu", "-Wl,--allow-shlib-undefined"])
    found = node.prove(path)
    assert "libc10.so" not in read_facts(path, "x")["libraries"][0]["needed"]
    assert found == ("fits", [])
    node.hold_against_loader(path, found)


def test_libraries_of_one_wheel_serve_each_other(node):
    own = compile_library(node.packages / "own.libs/libown-1.so", "int own;", language="c", soname="libown-1.so")
    source = "extern int own; int *use = &own;"
    path = node.extension("with_own", source, str(own), "-Wl,-rpath,$ORIGIN/own.libs")
    facts = read_facts(path, "with_own.so")
    library = read_facts(own, "x-1.data/platlib/own.libs/libown-1.so")["libraries"][0]
    facts["libraries"].append(library)
    own.unlink()  # the wheel is not here yet
    facts["libraries"][0]["needed"].remove("libown-1.so")  # as the wheel brings it itself
    facts["libraries"][0]["undefined"].remove("own")
    assert prove_all([facts], node.environment, {}) == [("fits", [])]
    facts["libraries"][0]["undefined"].append("of_nobody")
    assert prove_all([facts], node.environment, {})[0].reasons == [
        "needs a symbol that no library here exports: of_nobody"
    ]


def test_a_library_sees_what_another_of_its_wheel_brings_along(node):
    """Whatever the wheel's facts say of how its libraries need each other."""
    path = node.extension("alone", torch=[])
    facts = read_facts(path, "alone.so")
    assert not any("torch" in name for name in facts["libraries"][0]["needed"])
    assert prove_all([facts], node.environment, {})[0].verdict == "does not fit"
    between = read_facts(node.extension("brings", member="own.libs/libbrings.so"), "own.libs/libbrings.so")
    facts["libraries"].append(between["libraries"][0])
    assert prove_all([facts], node.environment, {}) == [("fits", [])]


def test_a_copy_in_the_wheel_is_not_what_another_library_of_it_finds(node):
    """Whether or not the copy bears the name by which that library asks."""
    original = stub(node, "libcudart.so.11.0", names="cudaFree")
    path = node.extension("with_copy", "extern int cudaFree; int *use = &cudaFree;", str(original))
    facts = read_facts(path, "with_copy.so", filename="x-1-py3-none-any.whl")
    copy = read_facts(original, "x.libs/libcudart.e8e8b82a.so.11.0")["libraries"][0]
    assert copy["soname"] == "libcudart.so.11.0"
    facts["libraries"].append(copy)
    found = prove_all([facts], node.environment, {})[0]
    assert found.verdict == "does not fit"
    assert "needs libcudart.so.11.0, which is nowhere on this node (torch is built for CUDA 12.4)" in found.reasons
    assert "libcudart.so.11.0: cannot open shared object file" in node.hold_against_loader(path, found)


def test_several_wheels_are_each_judged_for_itself(node):
    good, bad = node.extension("first"), node.extension("second", "int gone(); int use = gone();")
    facts = [read_facts(path, path.name) for path in (bad, good, bad)]
    verdicts = [found.verdict for found in prove_all(facts, node.environment, {})]
    assert verdicts == ["does not fit", "fits", "does not fit"]


def test_a_wheel_of_python_alone_fits(node):
    assert prove_all([no_facts()], node.environment, {}) == [("fits", [])]


def test_a_wheel_that_could_not_be_read_whole_leaves_the_question_open(node):
    found = prove_all([no_facts(problems=["x.so is damaged"])], node.environment, {})
    assert found == [("cannot be told", ["x.so is damaged"])]
    bad = node.prove(node.extension("bad_too", "int gone(); int use = gone();"), problems=["x.so is damaged"])
    assert bad.verdict == "does not fit"
    assert not any("damaged" in reason for reason in bad.reasons)


def test_a_torch_that_cannot_be_read_leaves_the_question_open(node):
    path = node.extension("open")
    torch = {**node.environment["torch"], "path": str(node.folder / "no/torch")}
    found = prove_all([read_facts(path, "open.so")], {**node.environment, "torch": torch}, {})[0]
    assert found.verdict == "cannot be told"
    assert "no _C.*.so" in found.reasons[0]
    assert any("needs libc10.so, which is nowhere on this node" in reason for reason in found.reasons)


def test_a_damaged_library_on_the_node_leaves_the_question_open(node):
    hurt = compile_library(node.packages / "hurt/libhurt.so", "int hurt;", language="c", soname="libhurt.so")
    path = node.extension("hurt", "extern int hurt; int *use = &hurt;", str(hurt), "-Wl,-rpath,$ORIGIN/hurt")
    hurt.write_bytes(hurt.read_bytes()[:1000])
    found = node.prove(path)
    assert found.verdict == "cannot be told"
    assert "libhurt.so ends too early" in found.reasons[0]
    assert node.hold_against_loader(path, found)


def test_a_program_that_is_no_binary_leaves_the_question_open(node):
    script = node.folder / "python"
    script.write_text('#!/bin/sh\nexec python3 "$@"\n')
    python = {**node.environment["python"], "executable": str(script), "program": str(script)}
    path = node.extension("scripted")
    found = prove_all([read_facts(path, path.name)], {**node.environment, "python": python}, {})[0]
    assert found.verdict == "cannot be told"
    assert any("the interpreter cannot be read" in reason for reason in found.reasons)


def test_another_c_library_leaves_the_question_open(node):
    platform = {**node.environment["platform"], "libc": {"name": "musl", "version": None}}
    found = prove_all([read_facts(node.extension("musl"), "x.so")], {**node.environment, "platform": platform}, {})
    assert found == [("cannot be told", ["needs glibc, and this node has musl"])]


def test_facts_of_another_version_are_not_judged(node):
    assert prove_all([no_facts(version=1)], node.environment, {})[0].verdict == "cannot be told"


def test_gpus_are_judged_with_the_libraries(node):
    gpus = [{"name": "Tesla T4", "compute_capability": "7.5", "memory_mib": 15360}]
    facts = read_facts(node.extension("gpu"), "gpu.so", architectures={"sass": ["80"], "ptx": []}, cuda="12")
    driver = {"version": "550.1", "cuda": "12.4"}
    found = prove_all([facts], {**node.environment, "gpus": gpus, "driver": driver}, {})
    assert found == [("does not fit", ["has code for sm_80; this node has sm_75 (GPU 0, Tesla T4)"])]


def test_no_file_stays_open(node):
    facts = [read_facts(node.extension("closed"), "closed.so")]
    before = len(os.listdir("/proc/self/fd"))
    prove_all(facts, node.environment, {})
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "name, meaning",
    [
        ("_ZN3c105ErrorC2ENS_14SourceLocationESs", "c10::Error::Error"),
        ("_ZN3c104impl12PyObjectSlotD1Ev", "c10::impl::PyObjectSlot::~PyObjectSlot"),
        ("_ZNK2at10TensorBase4sizeEl", "at::TensorBase::size"),
        ("_ZNR5torch7Library4_defEOSt7variant", "torch::Library::_def"),
        ("_ZTVN5torch8autograd4NodeE", "torch::autograd::Node"),
        ("_ZNSt6vectorIiE4sizeEv", "std::vector"),
        ("_Z3addii", "add"),
        ("cudaMalloc", None),
        ("_Z", None),
        ("_ZN99999999c10", "c10"),
    ],
)
def test_names_are_demangled(name, meaning):
    assert demangle(name) == meaning


def test_names_from_the_compiler_are_demangled(node):
    assert {demangle(name) for name in exported_names(node.lib / "libtorch_cpu.so")} >= {"at::add"}

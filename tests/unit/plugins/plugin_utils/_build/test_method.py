# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from planned_builds import BUILD, KIND, machine

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build import method
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File


def nvcc(version):
    return {"path": "/usr/local/cuda/bin/nvcc", "home": "/usr/local/cuda", "version": version, "max_gcc": 15}


def choose(build=BUILD, *, uses_cuda=True, cuda_place="", limits=None, **more):
    return method.choose_method(build, machine(**more), uses_cuda, cuda_place, limits or method.Limits())


@pytest.mark.parametrize(
    ("cuda", "found", "place", "toolchain"),
    [
        ("13.0", nvcc("13.2"), "", method.FOUND),
        ("13.0", nvcc("12.8"), "", method.WHEELS),  # of another major version, with which torch does not build
        ("13.0", None, "", method.WHEELS),
        ("13.0", None, "/srv/cuda", method.ARCHIVES),
        ("12.8", None, "", method.ARCHIVES),  # the index has no nvcc for it
        ("12.8", nvcc("12.4"), "/srv/cuda", method.FOUND),
    ],
)
def test_the_compiler_of_the_builder_is_taken_if_it_is_for_torchs_cuda_and_else_one_is_brought(
    cuda, found, place, toolchain
):
    kind = {**KIND, "cuda": cuda[:2]}
    build = BUILD._replace(cuda=cuda, kind=kind)
    assert choose(build, nvcc=found, cuda_place=place).toolchain == toolchain


def test_without_sources_for_gpus_no_compiler_of_nvidias_is_wanted_and_no_architecture():
    chosen = choose(BUILD._replace(architectures=[]), uses_cuda=False)
    assert (chosen.toolchain, chosen.nvcc) == (method.NONE, None)


def test_gpus_that_nobody_knows_are_a_refusal_with_the_knob():
    with pytest.raises(
        TorchExtensionError, match=r"none of n01, n02 says which it has. Set torch_extension_build_archs"
    ):
        choose(BUILD._replace(architectures=[]))


@pytest.mark.parametrize(
    ("torch", "brings"),
    [
        ({"version": "2.14.1+cu132", "cuda": "13.2", "cxx11_abi": True}, False),
        ({"version": "2.13.0+cu130", "cuda": "13.0", "cxx11_abi": True}, True),
        ({"version": "2.14.1+cu130", "cuda": "13.0", "cxx11_abi": False}, True),
        ({"version": "2.14.1+cpu", "cuda": None, "cxx11_abi": True}, True),
        (None, True),
    ],
)
def test_torch_is_brought_where_the_builders_is_not_like_that_of_the_nodes(torch, brings):
    assert choose(torch=torch).brings_torch is brings


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"machine": "aarch64"}, "that is aarch64, and n01, n02 want it for x86_64"),
        (
            {"python": {"executable": "/usr/bin/python3", "tag": "cp312", "abi": "cp312", "version": "3.12.1"}},
            "/usr/bin/python3 there is Python cp312, wanted is cp311",
        ),
        ({"libc": "2.41"}, "its glibc is 2.41, .* does not load with glibc 2.36"),
        ({"cxx": None}, r"it has no C\+\+ compiler \(g\+\+\)"),
        ({"python_headers": False}, r"it has no headers of Python 3\.11\.2"),
    ],
)
def test_a_machine_that_cannot_build_for_the_nodes_is_refused(facts, words):
    with pytest.raises(TorchExtensionError, match=f"causal-conv1d 1.7.0 cannot be built on b01: {words}"):
        choose(**facts)


def test_a_glibc_that_is_not_newer_will_do():
    assert choose(libc="2.28").cxx == "12.2.0"
    assert choose(libc="2.4").cxx == "12.2.0"  # compared as numbers


def test_compilers_at_once_are_limited_by_cores_and_memory_and_the_operator():
    assert choose().jobs == 16
    assert choose(memory_mib=5000).jobs == 2
    assert choose(memory_mib=100).jobs == 1
    assert choose(limits=method.Limits(jobs=4)).jobs == 4


def test_the_estimate_grows_with_the_architectures_and_shrinks_with_compilers():
    one = choose(limits=method.Limits(jobs=1)).minutes
    assert choose(BUILD._replace(architectures=["8.0", "9.0"]), limits=method.Limits(jobs=1)).minutes == 2 * one
    assert choose(limits=method.Limits(jobs=2)).minutes == round(one / 2)
    own = BUILD._replace(name="our-kernels")
    assert choose(own).minutes is None
    assert method.describe_estimate(choose(own)) == ""


def test_a_build_is_described_with_all_that_an_operator_approves():
    chosen = choose(limits=method.Limits(jobs=2))
    assert method.describe_build(BUILD, chosen, "would be built", method.describe_estimate(chosen)) == (
        "causal-conv1d 1.7.0: would be built on b01 from causal_conv1d-1.7.0.tar.gz against torch 2.14.1+cu130 for sm_90, with nvcc 13.0"
        " (brought as wheels) and g++ 12.2.0, in about 6 min with 2 compilers at once"
    )


def test_the_job_says_what_to_build_and_names_files_by_their_hashes():
    materials = method.Materials(
        File("/c/causal_conv1d-1.7.0.tar.gz", "a" * 64),
        [File("/c/pip-26-py3-none-any.whl", "b" * 64)],
        [],
        [File("/c/nvcc.whl", "c" * 64)],
    )
    told = method.make_job(BUILD, choose(), 1700000000, materials, method.Limits(3600, 0), [])
    assert told["sdist"] == {"filename": "causal_conv1d-1.7.0.tar.gz", "sha256": "a" * 64}
    assert told["toolchain"] == {"wheels": [{"filename": "nvcc.whl", "sha256": "c" * 64}]}
    assert (told["archs"], told["label"], told["epoch"]) == (["9.0"], "cu13torch2.14cxx11abiTRUE", 1700000000)
    assert told["cxx_standard"] == "c++20"  # of torch's headers since 2.13
    assert told["environ"]["CAUSAL_CONV1D_FORCE_BUILD"] == "TRUE"
    assert (told["slurm"], told["time_limit"]) == (None, 3600)


def test_with_a_toolkit_of_the_builder_nothing_is_brought_for_it():
    chosen = choose(nvcc=nvcc("13.0"))
    materials = method.Materials(File("/c/s.tar.gz", "a" * 64), [], [], [])
    told = method.make_job(BUILD._replace(is_slurm=True), chosen, 0, materials, method.Limits(), ["--partition=gpu"])
    assert told["toolchain"] == {"home": "/usr/local/cuda"}
    assert told["slurm"] == {"options": ["--partition=gpu"]}


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (
            {"free_mib": 100},
            r"/builds on b01 has 100 MiB free, a build of causal-conv1d 1\.7\.0 wants \d+ MiB.* torch_extension_build_dir",
        ),
        ({"memory_mib": 100}, r"b01 has 100 MiB of memory free, one compiler of causal-conv1d 1\.7\.0 wants \d+ MiB"),
    ],
)
def test_a_machine_without_room_is_refused_before_anything_is_brought(room, words):
    roomy = {"folder": "/builds", "free_mib": 50000}
    method.check_room(BUILD, machine(**roomy))
    with pytest.raises(TorchExtensionError, match=words):
        method.check_room(BUILD, machine(**{**roomy, **room}))


def test_the_memory_of_a_machine_that_hands_out_others_does_not_count():
    method.check_room(BUILD._replace(is_slurm=True), machine(folder="/builds", free_mib=50000, memory_mib=100))

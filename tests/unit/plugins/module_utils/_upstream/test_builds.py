# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES

ROWS = sorted(builds.BUILDS.items())


@pytest.mark.parametrize(("name", "build"), ROWS)
def test_a_row_is_of_a_known_package_and_makes_its_setup_py_compile(name, build):
    switches = [switch.variable for _first, switch in PACKAGES[name].force_build if switch]
    assert set(switches) <= {variable for variable, value in build.environ if value == builds.ON}
    assert switches


@pytest.mark.parametrize(("name", "build"), ROWS)
def test_another_source_is_the_repository_of_the_package(name, build):
    assert build.repository in (None, PACKAGES[name].repository)
    assert build.contents


def test_the_archive_of_a_tag_stands_in_where_it_is_complete():
    expected = "Dao-AILab/causal-conv1d/archive/refs/tags/v1.4.0.tar.gz"
    assert builds.tag_archive(builds.find_build("causal-conv1d"), "1.4.0") == expected
    assert builds.tag_archive(builds.find_build("flash-attn"), "2.8.3") is None, "it lacks the submodule"


def test_contents_are_those_of_the_version():
    build = builds.find_build("flash-attn")
    assert "csrc/cutlass/include/cutlass/cutlass.h" in builds.required_contents(build, "2.8.3+ours")
    assert builds.required_contents(build, "1.0.9") == ()


def test_requirements_can_be_read_and_leave_torch_out():
    texts = [*builds.REQUIREMENTS, *(text for _name, build in ROWS for text in build.requirements)]
    assert "torch" not in {Requirement(text).name for text in texts}


@pytest.mark.parametrize(
    ("torch", "standard"),
    [
        ("2.12.1+cu130", None),
        ("2.13.0", "c++20"),
        ("2.13.0a0+5228986c39.nv25.06", "c++20"),
        ("2.14.1+cu130", "c++20"),
        ("3.0", "c++20"),
        ("2.9.1", None),
        ("unknown", None),
    ],
)
def test_sources_are_compiled_as_the_cxx_of_torch_where_that_is_newer(torch, standard):
    for build in (builds.find_build("flash-attn"), builds.find_build("our-kernels")):
        assert builds.cxx_standard(build, torch) == standard


@pytest.mark.parametrize(
    ("torch", "setuptools"),
    [("1.13.1+cu117", "<70"), ("2.1.2", "<70"), ("2.2.0+cu121", "<82"), ("2.13.0", "<82"), ("2.14.1", ">=77.0.3")],
)
def test_setuptools_is_one_that_torch_can_do_with(torch, setuptools):
    requirements = builds.list_requirements(builds.find_build("flash-attn"), torch)
    assert f"setuptools{setuptools}" in requirements
    assert {"ninja", "psutil"} <= set(requirements)


def test_architectures_are_written_as_upstream_reads_them():
    build = builds.find_build("flash-attn")
    archs = ["9.0", "12.0", "12.0+PTX"]
    assert builds.make_environ(build, archs) == {
        "FLASH_ATTENTION_FORCE_BUILD": "TRUE",
        "FLASH_ATTN_CUDA_ARCHS": "90;120",
    }
    assert builds.make_environ(builds.find_build("causal-conv1d"), archs) == {"CAUSAL_CONV1D_FORCE_BUILD": "TRUE"}
    assert "FLASH_ATTN_CUDA_ARCHS" not in builds.make_environ(build, [])


def test_headers_from_wheels_are_looked_for_only_without_a_toolkit():
    build = builds.find_build("transformer-engine-torch")
    variable = "NVTE_BUILD_USE_NVIDIA_WHEELS"
    assert variable not in builds.make_environ(build, ["9.0"])
    assert builds.make_environ(build, ["9.0"], has_toolkit=False)[variable] == "1"


def test_an_estimate_grows_with_the_architectures_as_far_as_these_matter():
    causal, engine = builds.find_build("causal-conv1d"), builds.find_build("transformer-engine-torch")
    one, two = (builds.estimate_core_minutes(causal, archs) for archs in (["9.0"], ["9.0", "12.0"]))
    assert two == 2 * one
    assert builds.estimate_core_minutes(engine, ["9.0"]) == builds.estimate_core_minutes(engine, ["9.0", "12.0"])


def test_a_package_without_a_row_has_defaults_and_no_estimate():
    build = builds.find_build("our-kernels")
    assert builds.make_environ(build, ["9.0"]) == {}
    assert builds.estimate_core_minutes(build, ["9.0"]) is None
    assert (build.requirements, build.contents, build.repository) == ((), (), None)
    assert build.memory_per_job_mib > 0

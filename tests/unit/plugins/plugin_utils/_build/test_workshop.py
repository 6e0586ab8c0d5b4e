# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess

import pytest
from libraries import SASS, build_library, fatbin, fatbin_entry, with_section
from planned_builds import BUILD, SDIST, machine
from wheels import build_sdist, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import choose_method
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.sdist_file import SdistFacts
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.sources import Sources
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.workshop import Workshop
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import CommandResult
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Download
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import INDEX_OF_PIP, Sdist

SOURCES = Sources(
    Sdist(name="causal-conv1d", version="1.7.0", requires_python=None, **SDIST),
    Download("/srv/causal_conv1d-1.7.0.tar.gz", "a" * 64, 1, False),
    SdistFacts((), 0, "1.7.0", None, frozenset({"csrc/kernel.cu"})),
)
TAGS = "cp311-cp311-linux_x86_64"


def execute(command):
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return CommandResult(result.returncode, result.stdout, result.stderr)


@pytest.fixture
def store(context, tmp_path):
    """Takes a wheel as it comes from the builder."""

    def store(wheel, build=BUILD):
        path = build_wheel(tmp_path / "builder", **{"version": "1.7.0", "label": "cu13torch2.14cxx11abiTRUE", "tags": TAGS, **wheel})
        built = {"path": str(path), "filename": path.name, "size": path.stat().st_size, "sha256": sha256(path)}
        job = {"wheel": built, "compilers": {"cxx": "12.2.0", "nvcc": None}, "core_seconds": 12.5}
        method = choose_method(build, machine(), True, "")
        return Workshop(context).store(build, method, machine(), job, SOURCES, execute)

    return store


@pytest.fixture
def code_for(tmp_path):
    """A library with code for GPUs, as a member of a wheel."""

    def code_for(*numbers):
        source = with_section(tmp_path, ".nv_fatbin", fatbin(*(fatbin_entry(SASS, number) for number in numbers)))
        library = build_library(tmp_path / "causal_conv1d_cuda.so", source)
        return [("causal_conv1d_cuda.so", library.read_bytes())]

    return code_for


def test_a_wheel_that_is_what_was_wanted_is_kept_with_how_it_was_built(store, context):
    built = store({"name": "causal-conv1d"})
    record = built.record
    assert (record.torch, record.builder, record.compilers) == ("2.14.0+cu130", "b01", {"cxx": "12.2.0"})
    assert (record.sdist_sha256, record.asked_sha256, record.architectures) == ("a" * 64, "a" * 64, ("9.0",))
    assert Workshop(context).find_built(BUILD) == built


def test_a_wheel_that_was_built_for_others_does_not_count(store, context):
    store({"name": "causal-conv1d"})
    workshop = Workshop(context)
    assert workshop.find_built(BUILD._replace(architectures=["8.0", "9.0"])) is None
    assert workshop.find_built(BUILD._replace(version="1.6.0")) is None
    assert workshop.find_built(BUILD._replace(sdist={**SDIST, "sha256": "b" * 64})) is None


def test_a_wheel_of_another_package_is_refused_and_not_kept(store, context, tmp_path):
    with pytest.raises(TorchExtensionError, match=r"causal_conv1d-1\.7\.0\.tar\.gz is the sdist of mamba-ssm, and causal-conv1d is"):
        store({"name": "mamba-ssm"})
    assert list((tmp_path / "cache" / "built").iterdir()) == []


def test_a_wheel_with_code_for_all_architectures_is_kept(store, code_for):
    build = BUILD._replace(architectures=["8.0", "9.0"])
    assert store({"name": "causal-conv1d", "extra": code_for(80, 90)}, build).record.architectures == ("8.0", "9.0")


def test_a_wheel_whose_setup_py_left_out_an_architecture_is_refused(store, code_for):
    build = BUILD._replace(architectures=["8.0", "9.0"])
    with pytest.raises(TorchExtensionError, match="its libraries have no code for sm_90, only for sm_80"):
        store({"name": "causal-conv1d", "extra": code_for(80)}, build)


def test_what_the_operator_should_know_of_a_file_is_kept(context, tmp_path, tls_server, monkeypatch):
    """Nobody tells the hash of this sdist."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{tls_server.url}/simple/")
    sdist = build_sdist(tmp_path, "our-kernels", "0.1.0")
    url = tls_server.serve_body(f"/{sdist.name}", sdist.read_bytes())
    source = {"filename": sdist.name, "url": url, "sha256": None, "size": None, "source": INDEX_OF_PIP}
    workshop = Workshop(context)
    workshop.get_sources(BUILD._replace(name="our-kernels", version="0.1.0", sdist=source))
    [warning] = workshop.warnings
    assert f"{sdist.name} has no published hash" in warning

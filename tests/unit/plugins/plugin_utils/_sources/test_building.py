# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet
from planned_builds import store_built
from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.building import find_or_build
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import BuildKind
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import parse_source


@pytest.fixture
def node(environment):
    return {**environment, "gpus": [{"compute_capability": "9.0"}]}


@pytest.fixture
def folder(tmp_path):
    """A folder with sdists of causal-conv1d; what is in them does not matter here."""
    folder = tmp_path / "sdists"
    folder.mkdir()
    for version in ("1.6.0", "1.7.0"):
        (folder / f"causal_conv1d-{version}.tar.gz").write_text(version)
    return folder


@pytest.fixture
def ask(node, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")

    def ask(specifier="", *, node=node, sources=(f"directory:{folder}", "build"), architectures=()):
        access = SourceAccess(str(tmp_path / "cache"), build_architectures=architectures)
        requirement = WheelRequirement("causal-conv1d", SpecifierSet(specifier), None)
        return find_or_build(requirement, node, [parse_source(source) for source in sources], access)

    return ask


@pytest.fixture
def store(node, folder, tmp_path):
    """Puts a wheel into the store, as if it had been built from an sdist in the folder."""

    def store(version="1.7.0", **more):
        return store_built(tmp_path / "cache", node, folder / f"causal_conv1d-{version}.tar.gz", **more)

    return store


def test_the_newest_sdist_is_to_be_built_for_the_nodes_gpus(ask, folder, node):
    (wheel,) = ask()
    assert (wheel["version"], wheel["url"], wheel["source"]) == ("1.7.0", None, "build")
    assert wheel["filename"] == "causal_conv1d-1.7.0+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    assert wheel["build"]["architectures"] == ["9.0"]
    assert wheel["build"]["kind"] == BuildKind.of(node)._asdict()
    assert wheel["build"]["sdist"]["sha256"] == sha256(folder / "causal_conv1d-1.7.0.tar.gz")


def test_a_requirement_limits_the_versions(ask):
    assert [wheel["version"] for wheel in ask("<1.7")] == ["1.6.0"]


def test_what_was_built_is_taken_and_says_how(ask, store):
    built = store()
    (wheel,) = ask()
    assert (wheel["url"], wheel["sha256"], wheel["size"]) == (built.url, "a" * 64, 5)
    assert wheel["built"]["builder"] == "b01"
    assert wheel["build"]["architectures"] == ["9.0"]  # it counts for others that are built
    assert "it was built from causal_conv1d-1.7.0.tar.gz with torch 2.2.0+cu121 for sm_90, on b01" in wheel["ground"]


def test_another_sdist_of_the_same_version_is_built_anew(ask, store, folder):
    store()
    (folder / "causal_conv1d-1.7.0.tar.gz").write_text("patched")
    assert [wheel["url"] for wheel in ask()] == [None]


def test_an_older_wheel_does_not_keep_a_newer_sdist_from_being_built(ask, store):
    store("1.6.0")
    assert [wheel["version"] for wheel in ask()] == ["1.7.0"]


def test_architectures_that_are_asked_for_count_instead_of_the_gpus(ask, store):
    store()
    (wheel,) = ask(architectures=("8.0",))
    assert (wheel["url"], wheel["build"]["architectures"]) == (None, ["8.0"])


def test_where_no_index_can_be_asked_what_was_built_before_serves(ask, store):
    with pytest.raises(UnavailableError):
        ask(sources=("build",))
    store()
    (wheel,) = ask(sources=("build",))
    assert wheel["version"] == "1.7.0"
    assert wheel["warnings"][0].startswith("build: ")
    with pytest.raises(UnavailableError):
        ask("<1.7", sources=("build",))


def test_a_hash_beside_an_sdist_that_is_not_its_own_is_an_error(ask, folder):
    (folder / "causal_conv1d-1.7.0.tar.gz.sha256").write_text("0" * 64)
    with pytest.raises(TorchExtensionError, match="it is another file or it is damaged"):
        ask()


def test_for_rocm_nothing_is_built(ask, node):
    torch = {**node["torch"], "cuda": None, "hip": "6.2.1"}
    with pytest.raises(TorchExtensionError, match="this torch is for ROCm"):
        ask(node={**node, "torch": torch})


def test_where_no_index_tells_the_hash_of_an_sdist_the_version_of_a_wheel_counts(ask, store, server, monkeypatch):
    store("1.6.0")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    server.serve_page("/simple/causal-conv1d/", '<a href="/f/causal_conv1d-1.7.0.tar.gz">x</a>')
    assert [(wheel["version"], wheel["url"]) for wheel in ask(sources=("build",))] == [("1.7.0", None)]
    store()
    assert [wheel["version"] for wheel in ask(sources=("build",))] == ["1.7.0"]

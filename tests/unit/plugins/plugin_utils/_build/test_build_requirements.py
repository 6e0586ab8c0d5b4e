# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from servers import running_server
from wheels import build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.requirements import (
    find_build_requirements,
    find_torch_wheels,
    read_cuda,
)

pytestmark = pytest.mark.slow  # most of them run pip

SDIST = "our_kernels-0.1.0.tar.gz"
TOOLS = [{"name": name, "version": "1"} for name in ("pip", "wheel", "ninja", "packaging")]
SETUPTOOLS = {"name": "setuptools", "version": "81"}


@pytest.fixture
def find(context, environment):
    def find(*requires, package="our-kernels", torch="2.13.0", sdist=SDIST):
        return find_build_requirements(
            sdist, requires, builds.find_build(package), torch, environment, context
        )

    return find


def torch(version="2.14.1", cuda="'13.0'", tags="cp311-cp311-manylinux_2_28_x86_64", **more):
    text = f"from typing import Optional\n__version__ = '{version}'\ncuda: Optional[str] = {cuda}\n"
    return {"name": "torch", "version": version, "tags": tags, "files": {"torch/version.py": text}, **more}


@pytest.fixture
def find_torch(context, environment):
    def find_torch(version="2.14.1+cu130", cuda="13.0", **options):
        return find_torch_wheels(environment, version, cuda, context, **options)

    return find_torch


def versions(found):
    return {item.name: item.version for item in found}


def test_a_build_has_its_tools_what_the_sdist_lists_and_what_these_require_but_no_torch(find, publish, environment):
    publish(*TOOLS, SETUPTOOLS, {"name": "numpy", "version": "2", "requires": ["a[x]"]}, torch())
    publish({"name": "a", "version": "1", "requires": ["b; extra == 'x'", "c; extra == 'y'"]}, {"name": "b", "version": "1"})
    environment["distributions"].update(setuptools="1", ninja="1")  # of the node, which the build leaves alone
    found = find("setuptools", "numpy", "Torch>=2.1", "d; python_version < '3.10'")
    assert list(versions(found)) == ["a", "b", "ninja", "numpy", "packaging", "pip", "setuptools", "wheel"]
    for item in found:
        with open(item.path, "rb") as file:
            assert len(file.read()) == item.size
        assert os.path.basename(item.path) == item.filename


def test_what_the_table_asks_for_is_there_too(find, publish):
    publish(*TOOLS, SETUPTOOLS, {"name": "psutil", "version": "7"})
    assert "psutil" in versions(find(package="flash-attn"))


def test_of_each_name_there_is_one_wheel_that_meets_all_that_ask_for_it(find, publish):
    publish(*TOOLS, *({"name": "setuptools", "version": version} for version in ("60", "70", "81", "82")))
    publish(
        {"name": "a", "version": "1", "requires": ["c"]},
        {"name": "b", "version": "1", "requires": ["d"]},
        {"name": "d", "version": "1", "requires": ["c<2"]},
        *({"name": "c", "version": version} for version in ("1", "2")),
    )
    assert versions(find("setuptools>=61"))["setuptools"] == "81", "torch 2.13 cannot do with 82"
    assert versions(find("setuptools>=61", "setuptools<75", "a", "b")) == {
        **{item["name"]: "1" for item in TOOLS},
        **{"setuptools": "70", "a": "1", "b": "1", "c": "1", "d": "1"},
    }


def test_a_level_of_requirements_takes_one_run_of_pip(find, publish, monkeypatch, tmp_path):
    """To start it takes longer than to find most wheels."""
    publish(*TOOLS, SETUPTOOLS, {"name": "a", "version": "1", "requires": ["b", "c"]})
    publish({"name": "b", "version": "1"}, {"name": "c", "version": "1"})
    log = tmp_path / "pip.log"
    monkeypatch.setenv("PIP_LOG", str(log))
    assert len(find("a")) == 8
    assert log.read_text().count("Created build tracker") == 2, "once a run"


def test_what_is_in_the_cache_needs_no_index(find, publish, server, monkeypatch):
    publish(*TOOLS, SETUPTOOLS)
    first = find()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    server.requests.clear()
    assert find() == first
    assert server.requests == []


def test_a_requirement_that_cannot_be_had_names_the_sdist_and_pip(find, publish):
    publish(*TOOLS, SETUPTOOLS)
    find()
    with pytest.raises(TorchExtensionError, match=f"cmake>=3, which {SDIST} requires for the build, cannot be had") as failure:
        find("cmake>=3")
    assert "Configure pip on the control node" in str(failure.value)
    assert "on the node" not in str(failure.value)
    with pytest.raises(TorchExtensionError, match=r"setuptools<82,>=99"):
        find("setuptools>=99")


@pytest.mark.parametrize("text", ["cmake @ https://evil.example/cmake.whl", "-r /etc/passwd", "a b", "", "cmake; nonsense"])
def test_what_is_no_requirement_of_an_index_is_refused_before_pip_runs(text, find, server, publish):
    publish(*TOOLS, SETUPTOOLS)
    with pytest.raises(TorchExtensionError, match=f"{SDIST} lists .* build requirement.*pyproject.toml"):
        find(text)
    assert server.requests == []


def test_torch_comes_with_all_that_it_requires_but_the_tools_of_each_build(find_torch, publish):
    publish(
        torch(requires=["setuptools>=77", "cuda-toolkit[nvrtc]==13.0.3; platform_system == 'Linux'", "cublas"]),
        {"name": "cuda-toolkit", "version": "13.0.3", "requires": ["nvrtc==13.0.*; extra == 'nvrtc'"]},
        {"name": "cublas", "version": "13", "requires": ["nvrtc"]},
        {"name": "nvrtc", "version": "13.5"},
        {"name": "nvrtc", "version": "13.0.88"},
        SETUPTOOLS,
    )
    found = find_torch()
    assert versions(found) == {"torch": "2.14.1", "cublas": "13", "cuda-toolkit": "13.0.3", "nvrtc": "13.0.88"}
    assert found[0].name == "torch"
    assert all(os.path.isfile(item.path) for item in found)


def test_torch_in_the_cache_needs_no_index(find_torch, publish, monkeypatch):
    publish(torch())
    first = find_torch()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    assert find_torch() == first
    assert find_torch("2.14.1") == first


def test_torch_for_another_cuda_comes_from_the_index_of_the_project(find_torch, publish, tmp_path, server):
    wheel = build_wheel(tmp_path / "index", **torch())
    publish()
    server.serve_file(f"/files/{wheel.name}", wheel.read_bytes())
    with running_server() as other:
        wheel = build_wheel(tmp_path / "other", **torch("2.14.1+cu126", "'12.6'"))
        href = wheel.name.replace("+", "%2B")
        other.serve_page("/m/whl/cu126/torch/", f'<a href="/files/{href}#sha256={sha256(wheel)}">x</a>')
        other.serve_file(f"/files/{href}", wheel.read_bytes())
        other.serve_file(f"/files/{wheel.name}", wheel.read_bytes())
        (found,) = find_torch(cuda="12.6", place_urls={"pytorch": f"{other.url}/m/"})
    assert (found.filename, found.sha256) == (wheel.name, sha256(wheel))
    assert read_cuda(found.path) == "12.6"


def test_both_builds_of_torch_are_told_apart_in_the_cache(find_torch, publish, context, tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "requirements"
    for wheel in (torch(), torch("2.14.1+cu126", "'12.6'"), torch("2.14.1+cpu", "None")):
        cached = build_wheel(folder, **wheel)
        cached.with_name(f"{cached.name}.sha256").write_text(sha256(cached))
    (folder / "torch-2.14.1-cp38-abi3-any.whl").touch()  # a power cut
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    names = [find_torch(cuda=cuda)[0].version for cuda in ("13.0", "12.6", None)]
    assert names == ["2.14.1", "2.14.1+cu126", "2.14.1+cpu"]


def test_a_large_wheel_of_torch_for_another_cuda_is_not_downloaded(find_torch, server, tmp_path, monkeypatch):
    wheel = build_wheel(tmp_path / "index", **torch(extra=[("torch/lib.so", os.urandom(1 << 20))]))
    url = server.serve_index(tmp_path / "index")
    server.serve_file(f"/files/{wheel.name}", wheel.read_bytes())
    page = f'<a href="/files/{wheel.name}#sha256={sha256(wheel)}" data-core-metadata="true" data-dist-info-metadata="true">x</a>'
    server.serve_page("/simple/torch/", page)
    server.serve_page(f"/files/{wheel.name}.metadata", "Metadata-Version: 2.1\nName: torch\nVersion: 2.14.1\n")
    monkeypatch.setenv("PIP_INDEX_URL", url)
    with pytest.raises(TorchExtensionError, match="is built for CUDA 13.0"):
        find_torch(cuda="12.6", place_urls={"pytorch": f"{server.url}/nowhere"})
    asked = zip(server.methods, server.requests, server.headers, strict=True)
    wholes = [path for method, path, headers in asked if method == "GET" and path.endswith(".whl") and "Range" not in headers]
    assert wholes == []
    assert not (tmp_path / "cache" / "requirements").exists()


def test_torch_from_a_server_that_gives_no_parts_is_told_from_another_once_it_is_here(find_torch, publish, server):
    publish(torch())
    with pytest.raises(TorchExtensionError, match=r"torch-2\.14\.1-.* is built for CUDA 13\.0\."):
        find_torch(cuda="12.6", place_urls={"pytorch": f"{server.url}/nowhere"})
    assert find_torch()[0].filename.startswith("torch-2.14.1-"), "it serves another build"


def test_no_torch_to_be_had_is_one_message(find_torch, publish, server):
    publish(torch())
    with pytest.raises(TorchExtensionError) as failure:
        find_torch("2.15.0", place_urls={"pytorch": f"{server.url}/nowhere"})
    text = str(failure.value)
    assert text.startswith("The build needs torch 2.15.0 for CUDA 13.0 for cp311 on x86_64, which cannot be had.")
    for part in ("torch==2.15.0 cannot be had from the index", f"torch==2.15.0+cu130 cannot be had from {server.url}/nowhere/whl/cu130"):
        assert part in text
    for knob in ("Configure pip", "torch_extension_place_urls", "torch_extension_builder"):
        assert knob in text
    assert "\n" not in text


@pytest.mark.parametrize("text", ["cuda = '13'", "cuda = 'x; rm'", "def f(:", "\0"])
def test_a_wheel_that_does_not_tell_its_cuda_is_refused(text, tmp_path):
    wheel = build_wheel(tmp_path, **{**torch(), "files": {"torch/version.py": text}})
    with pytest.raises(TorchExtensionError, match="does not tell its CUDA"):
        read_cuda(str(wheel))


def test_what_is_no_wheel_of_torch_is_refused(tmp_path):
    wheel = build_wheel(tmp_path, **{**torch(), "files": {"torch/__init__.py": ""}})
    with pytest.raises(TorchExtensionError, match="does not tell its CUDA"):
        read_cuda(str(wheel))
    assert read_cuda(str(build_wheel(tmp_path, **torch(cuda="None")))) is None

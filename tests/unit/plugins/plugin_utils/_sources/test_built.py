# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
from pathlib import Path

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import (
    BuildKind,
    BuildRecord,
    find_built,
    list_built,
    store_wheel,
)

KIND = BuildKind("cp311", "x86_64", "2.14", "13", None, True)
RECORD = BuildRecord(
    name="causal-conv1d",
    version="1.7.0",
    filename="causal_conv1d-1.7.0+cu13torch2.14cxx11abiTRUE-cp311-cp311-linux_x86_64.whl",
    sha256="a" * 64,
    size=5,
    kind=KIND,
    libc="2.36",
    architectures=("9.0",),
    sdist="causal_conv1d-1.7.0.tar.gz",
    sdist_sha256="b" * 64,
    asked_sha256="b" * 64,
    torch="2.14.1+cu130",
    compilers={"cxx": "12.2.0", "nvcc": "13.0.88"},
    builder="b01",
    core_seconds=600.5,
    built_at=1.0,
)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def store(cache: Path, record: BuildRecord = RECORD):
    cache.mkdir(exist_ok=True)
    (cache / "new.whl").write_bytes(b"wheel")
    return store_wheel(str(cache), str(cache / "new.whl"), record)


def find(cache, *, kind=KIND, libc="2.36", sdist=RECORD.sdist_sha256, architectures=("9.0",)):
    found = find_built(str(cache), "causal-conv1d", kind, libc, sdist, architectures)
    return [built.record for built in found]


def test_what_is_stored_is_found_as_it_was(cache):
    built = store(cache)
    assert find(cache) == [RECORD]
    assert Path(built.path).read_bytes() == b"wheel"
    assert built.url == f"file://{built.path.replace('+', '%2B')}"
    assert not (cache / "new.whl").exists()


@pytest.mark.parametrize(
    "node",
    [
        {"kind": KIND._replace(torch="2.13")},
        {"kind": KIND._replace(python="cp312")},
        {"kind": KIND._replace(cuda="12")},
        {"kind": KIND._replace(cxx11_abi=False)},
        {"kind": KIND._replace(machine="aarch64")},
        {"libc": "2.31"},
        {"sdist": "c" * 64},
        {"architectures": ("8.0", "9.0")},
    ],
)
def test_a_wheel_serves_no_node_that_differs_in_what_it_is_bound_to(cache, node):
    store(cache)
    assert find(cache, **node) == []


@pytest.mark.parametrize(
    "node",
    [
        {"libc": "2.41"},
        {"libc": None},
        {"sdist": None},  # nobody could be asked which sdist there is
        {"architectures": ()},
    ],
)
def test_a_wheel_serves_nodes_that_differ_in_nothing_that_matters(cache, node):
    store(cache)
    assert find(cache, **node) == [RECORD]


def test_the_patch_release_of_torch_and_python_are_no_part_of_a_kind():
    environment = {
        "python": {"abi": "cp311", "version": "3.11.9"},
        "platform": {"machine": "x86_64"},
        "torch": {"version": "2.14.0+cu130", "cuda": "13.0", "hip": None, "cxx11_abi": True},
    }
    assert BuildKind.of(environment) == KIND
    assert KIND.label == "cu13torch2.14cxx11abiTRUE"


def test_the_wheel_for_most_architectures_comes_first_and_then_the_newest(cache):
    more = RECORD._replace(architectures=("8.0", "9.0"), sha256="d" * 64)
    newer = RECORD._replace(built_at=2.0, sha256="e" * 64)
    for record in (RECORD, more, newer):
        store(cache, record)
    assert find(cache) == [more, newer, RECORD]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "nothing", "9" * 5000])
def test_a_record_that_cannot_be_read_counts_for_nothing(cache, content):
    built = store(cache)
    Path(built.path).with_name("build.json").write_text(content)
    assert list_built(str(cache)) == []


def test_a_wheel_that_is_not_whole_counts_for_nothing(cache):
    built = store(cache)
    Path(built.path).write_bytes(b"whe")
    assert find(cache) == []


def test_a_record_names_no_file_elsewhere(cache):
    built = store(cache)
    record = Path(built.path).with_name("build.json")
    (cache / "other.whl").write_bytes(b"other")
    record.write_text(json.dumps({**json.loads(record.read_text()), "filename": "../../other.whl"}))
    assert list_built(str(cache)) == []


def test_a_store_that_is_not_there_is_empty(cache):
    assert list_built(str(cache)) == []

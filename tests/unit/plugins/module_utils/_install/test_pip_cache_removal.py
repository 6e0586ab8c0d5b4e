# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from kills import run_until_killed
from servers import running_server
from wheels import LABEL, as_wanted, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.pip_cache import add_wheel
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.pip_cache_removal import (
    plan_removal,
    remove,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.cache import wheel_path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache/http-v2").mkdir(parents=True)
    return tmp_path / "cache"


@pytest.fixture
def node(venv, run, cache):
    return describe_environment(str(venv), [], run, os.environ)[0]


@pytest.fixture
def add(node, tmp_path):
    """Puts a wheel into pip's cache, where an sdist leads to; its path."""

    def add(sdist="flash_attn-2.8.3", label=LABEL, **wheel):
        path = build_wheel(tmp_path / "delivered", label=label, **wheel)
        url = f"https://mirror.example/{sdist}.tar.gz"
        place = wheel_path(url, path.name, node)
        add_wheel(as_wanted(path, sdist_url=url, pip_cache_path=place), str(tmp_path / "delivered"), node)
        return Path(place)

    return add


@pytest.mark.parametrize("label", [LABEL, ""], ids=["a project's own", "without a label"])
def test_all_that_was_put_there_goes_and_the_rest_stays(label, add, node, cache):
    before = tree_state(cache)
    assert not plan_removal(["flash-attn"], node).changes
    add(label=label), add("of another index", version="2.8.2", label=label)
    other = add("conv", name="causal-conv1d")
    foreseen = plan_removal(["flash-attn"], node)
    assert (foreseen.packages[0].action, foreseen.changes) == ("remove", True)
    assert remove(["flash-attn"], node) == foreseen
    assert [path.name for path in cache.rglob("*.whl")] == [other.name]
    again = remove(["flash-attn"], node)
    assert (again.changes, again.packages[0].reason) == (
        False, f"flash-attn is not among what was put into pip's cache ({cache})"
    )  # fmt: skip
    remove(["causal-conv1d"], node)
    assert tree_state(cache) == {**before, str(cache / "wheels"): "folder"}


def test_a_wheel_that_pip_itself_has_built_stays_and_is_told(node, venv, tmp_path, cache):
    """pip builds it from an sdist, whose backend hands over a wheel."""
    wheel = build_wheel(tmp_path)
    sdist = tmp_path / "source/flash_attn-2.8.3"
    sdist.mkdir(parents=True)
    (sdist / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n")
    (sdist / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    code = f"import shutil\ndef build_wheel(folder, *more):\n    shutil.copy({str(wheel)!r}, folder)\n    return {wheel.name!r}\n"
    (sdist / "backend.py").write_text(code)
    (tmp_path / "index").mkdir()
    shutil.make_archive(str(tmp_path / "index" / sdist.name), "gztar", sdist.parent, sdist.name)
    with running_server() as server:
        index = server.serve_index(tmp_path / "index")
        command = [venv / "bin/python", "-m", "pip", "install", "-q", "--index-url", index, "flash-attn"]
        subprocess.run(command, check=True, cwd=tmp_path)
    (built,) = cache.rglob("*.whl")
    assert sha256(built) == sha256(wheel)
    before = tree_state(cache)
    done = remove(["flash-attn"], node)
    assert (done.changes, done.stays) == (False, [f"{built} (pip has built it itself)"])
    assert tree_state(cache) == before


def test_what_an_earlier_release_has_put_there_is_known_by_its_label(add, node, cache):
    path = add()
    (path.parent / "airgap.torch_extensions.json").unlink()
    assert remove(["flash-attn"], node).changes
    assert not list(cache.rglob("*.whl"))


def test_killed_at_any_moment_the_next_run_finishes(add, node, cache):
    remaining = tree_state(cache).keys() | {str(cache / "wheels")}
    for last in range(9):
        add()
        was_killed = run_until_killed(lambda: remove(["flash-attn"], node), last, "remove", "rmdir")
        remove(["flash-attn"], node)
        assert not list(cache.rglob("*.whl"))
        if not was_killed:
            break
    assert last == 7, "three files, four folders"
    assert tree_state(cache).keys() == remaining


def test_without_a_cache_nothing_is_there(node):
    node["pip_cache"]["dir"] = None
    assert not remove(["flash-attn"], node).changes

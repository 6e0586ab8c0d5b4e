# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.retrieval import fetch_wheel
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import CommandResult

NAME = "causal_conv1d-1.7.0-cp311-cp311-linux_x86_64.whl"


def execute(command):
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return CommandResult(result.returncode, result.stdout, result.stderr)


@pytest.fixture
def built(tmp_path):
    """A file on the builder, of some pieces and a bit."""
    path = tmp_path / "it's here" / NAME
    path.parent.mkdir()
    path.write_bytes(os.urandom(17 << 20) + b"end")
    return {"filename": NAME, "path": str(path), "size": path.stat().st_size, "sha256": sha256(path)}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def test_a_wheel_comes_whole_through_the_output_of_commands(built, store):
    path = fetch_wheel(built, str(store), execute)
    assert path == str(store / NAME)
    assert sha256(store / NAME) == built["sha256"]


def test_a_terminal_may_end_lines_in_its_own_way(built, store):
    def in_terminal(command):
        result = execute(command)
        return result._replace(out=result.out.replace("\n", "\r\n"))

    assert sha256(Path(fetch_wheel(built, str(store), in_terminal))) == built["sha256"]


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": 5 << 20}, {"path": "/nowhere"}])
def test_what_is_not_the_wheel_is_an_error_and_leaves_nothing(built, store, change):
    with pytest.raises(TorchExtensionError, match="Run again"):
        fetch_wheel({**built, **change}, str(store), execute)
    assert list(store.iterdir()) == []


def test_a_command_that_prints_something_else_is_an_error(built, store):
    with pytest.raises(TorchExtensionError, match="cannot be read on the builder"):
        fetch_wheel(built, str(store), lambda command: CommandResult(0, "Welcome!", ""))
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("name", ["../../evil.whl", "evil", "a/b-1-py3-none-any.whl"])
def test_a_builder_names_no_file_elsewhere(built, store, name):
    with pytest.raises(TorchExtensionError, match="is not the name of a wheel"):
        fetch_wheel({**built, "filename": name}, str(store), execute)
    assert not store.exists()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real bash, with a function ``module`` in the user's profile as sites have it."""

from __future__ import annotations

import os

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.commands import make_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.environment_module import load_module
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

PROFILE = """
echo welcome
module() {
  case $2 in
    cuda/13.0) export CUDA_HOME=/opt/cuda PATH=/opt/cuda/bin:$PATH TEXT='two
lines'; echo loaded; echo loaded >&2;;
    old) echo "ERROR: Unable to locate a modulefile for 'old'" >&2;;
    *) echo "Lmod has detected the following error: The following module(s) are unknown: \\"$2\\"" >&2; return 1;;
  esac
}
"""


@pytest.fixture
def run(home):
    (home / ".bash_profile").write_text(PROFILE)
    return make_run(os.environ)


def test_what_a_module_sets_is_returned_and_no_more(run):
    found = load_module("cuda/13.0", run)
    assert sorted(found) == ["CUDA_HOME", "PATH", "TEXT"]
    assert (found["CUDA_HOME"], found["TEXT"]) == ("/opt/cuda", "two\nlines")
    assert found["PATH"].startswith("/opt/cuda/bin:")


def test_no_module_runs_nothing():
    def run(command):
        raise AssertionError(command)

    assert load_module("", run) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda/99", "cannot be loaded on this node: Lmod has detected the following error: The following module"),
        ("old", "cannot be loaded on this node: ERROR: Unable to locate a modulefile for 'old'"),
        ("cuda; touch pwned", "is not the name of an environment module"),
        ("$(touch pwned)", "is not the name of an environment module"),
        ("--force", "is not the name of an environment module"),
    ],
)
def test_one_that_cannot_be_loaded_is_refused(name, words, run):
    with pytest.raises(TorchExtensionError) as refused:
        load_module(name, run)
    assert words in str(refused.value)
    assert "Set torch_extension_build_module" in str(refused.value)


def test_a_machine_without_modules_says_so(run, home):
    (home / ".bash_profile").unlink()
    with pytest.raises(TorchExtensionError, match="module: command not found"):
        load_module("cuda/13.0", run)

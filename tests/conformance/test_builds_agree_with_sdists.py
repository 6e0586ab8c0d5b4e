# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of ``builds`` against the sdists on the package index. Nothing of them is run."""

from __future__ import annotations

import re
import tarfile

import pytest
import sdists

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.builds import BUILDS, required_contents
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES

ALL = [(name, version) for name in BUILDS for version in PACKAGES[name].versions]
#: The first version whose sdist on the index has what has to be compiled; None if none has.
FIRST_COMPLETE = {
    "flash-attn": "0.2.0",
    "causal-conv1d": "1.5.2",
    "mamba-ssm": "2.2.5",
    "fast-hadamard-transform": None,
    "transformer-engine-torch": "0.0.1",
}


def _read(name: str, version: str) -> dict[str, str]:
    """The Python files of an sdist that build it, and the names of all others, by their path below the top."""
    files = {}
    with tarfile.open(sdists.fetch(name, version)) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            is_read = member.isfile() and re.fullmatch(r"setup\.py|build_tools/\w+\.py", path)
            files[path] = tar.extractfile(member).read().decode() if is_read else ""
    return files


@pytest.mark.parametrize("name", BUILDS)
def test_newest_sdist_reads_each_variable_of_its_row(name: str) -> None:
    build = BUILDS[name]
    text = "".join(_read(name, PACKAGES[name].versions[-1]).values())
    variables = [variable for variable, _value in (*build.environ, *build.environ_without_toolkit)]
    assert [
        variable for variable in (*variables, build.archs_variable) if variable and f'"{variable}"' not in text
    ] == []


@pytest.mark.parametrize("name", BUILDS)
def test_setup_py_of_the_newest_sdist_imports_nothing_that_a_build_lacks(name: str) -> None:
    text = "".join(_read(name, PACKAGES[name].versions[-1]).values())
    assert ("psutil" in text) == ("psutil" in BUILDS[name].requirements)


@pytest.mark.parametrize(("name", "version"), ALL)
def test_sdists_have_the_contents_of_their_row_exactly_from_the_version_on_that_is_known(
    name: str, version: str
) -> None:
    paths, versions = _read(name, version), PACKAGES[name].versions
    first = FIRST_COMPLETE[name]
    is_complete = all(
        any(path == content or path.startswith(f"{content}/") for path in paths)
        for content in required_contents(BUILDS[name], version)
    )
    assert is_complete == (first is not None and versions.index(version) >= versions.index(first))

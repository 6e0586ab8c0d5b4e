# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.tags import compatible_tags, cpython_tags

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import python_tags

PLATFORM = "linux_x86_64"


@pytest.mark.parametrize(
    ("version", "abi"),
    [
        ("3.7.17", "cp37m"),
        ("3.8.20", "cp38"),
        ("3.9.2", "cp39"),
        ("3.12", "cp312"),
        ("3.13.1", "cp313t"),
        ("3.14.0", "cp314t"),
    ],
)
def test_an_interpreter_accepts_the_pairs_that_packaging_finds_in_the_same_order(version, abi):
    """Nodes have no packaging, and say the same as the control node, which has it."""
    major_minor = tuple(int(part) for part in version.split(".")[:2])
    tag = "cp{}{}".format(*major_minor)
    expected = [
        *cpython_tags(major_minor, abis=[abi], platforms=[PLATFORM]),
        *compatible_tags(major_minor, interpreter=tag, platforms=[PLATFORM]),
    ]
    pairs = [(each.interpreter, each.abi) for each in expected if each.platform == PLATFORM]
    assert list(python_tags.accepted_pairs(version, tag, abi)) == list(dict.fromkeys(pairs))


def test_a_wheel_is_named_by_its_pair():
    assert python_tags.format_pairs(["cp312"], ["cp312"]) == "cp312"
    assert python_tags.format_pairs(["cp39"], ["abi3"]) == "cp39-abi3"
    assert python_tags.format_pairs(["py3", "py2"], ["none"]) == "py2/py3-none"

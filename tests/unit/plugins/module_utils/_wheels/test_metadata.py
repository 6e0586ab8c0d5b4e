# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import metadata
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.labels import Label, Torch

LINUX = {"sys_platform": "linux", "python_version": "3.11"}


def required(*lines):
    return metadata.torch_requirement(lines, LINUX)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["torch"], None),
        (["einops", "torchvision==0.20"], None),
        (["torch==2.11.*", "einops"], "torch==2.11.*"),
        (["torch (==2.9.1)"], "torch==2.9.1"),
        (["Torch >=2.9", "torch<3"], "torch<3,>=2.9"),
        (["torch==2.9.1; sys_platform == 'linux'"], "torch==2.9.1"),
        (["torch==2.9.1; sys_platform == 'win32'"], None),
        (["torch==2.9.1; extra == 'dev'"], None),
        (["torch==2.9.1; platform_machine == 'x86_64'"], "torch==2.9.1"),  # a marker that is not known here
        (["torch==2.9.1; sys_platform ~= 'win'"], "torch==2.9.1"),  # one that means nothing
        (["no requirement at all!", "torch~=2.9.0"], "torch~=2.9.0"),
    ],
)
def test_the_requirement_of_torch_is_read(lines, text):
    assert (required(*lines) and str(required(*lines))) == text


@pytest.mark.parametrize(
    ("specifier", "torch", "allows"),
    [
        ("==2.11.*", "2.11.1+cu130", True),
        ("==2.11.*", "2.12.0", False),
        (">=2.10", "2.12.0a0+50eac811a6.nv25.09", True),
        ("==2.9.1", "2.9.1+cu128", True),
        ("==2.9.1", "2.9.0+cu128", False),
    ],
)
def test_a_torch_is_allowed_whatever_its_label(specifier, torch, allows):
    assert required(f"torch{specifier}").allows(torch) == allows


@pytest.mark.parametrize(
    ("specifier", "pins"),
    [
        *[("==2.11.*", True), ("==2.9.1", True), ("~=2.9.0", True), (">=2.9,==2.9.*", True)],
        *[("==2.*", False), ("~=2.9", False), (">=2.9", False), (">=2.9,<2.10", False)],
    ],
)
def test_one_minor_version_is_a_pin(specifier, pins):
    assert required(f"torch{specifier}").pins == pins


@pytest.mark.parametrize(
    ("specifier", "built_for", "contradicts"),
    [
        ("==2.11.*", "2.11", False),
        ("==2.11.*", "2.10", True),
        ("==2.9.1", "2.9", False),
        ("==2.9.1", "2.9.0", True),
        (">=2.9", "2.11", False),
        (">=2.9", "2.8.0+cu129", True),
    ],
)
def test_a_label_and_a_requirement_contradict_each_other_where_no_torch_meets_both(specifier, built_for, contradicts):
    label = Label("CUDA", "12.8", Torch(built_for))
    assert metadata.contradicts(required(f"torch{specifier}"), label) == contradicts
    assert not metadata.contradicts(required(f"torch{specifier}"), Label())

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import platform
import sys
import sysconfig

import pytest
from packaging.tags import Tag, sys_tags

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import compatibility_tags


def test_the_tags_of_this_machine_are_those_that_packaging_finds_on_it(environment):
    """packaging reads the running interpreter; here the same has to follow from what a node says of itself."""
    name, version = platform.libc_ver()
    tag = "cp{}{}".format(*sys.version_info)
    environment["python"].update(version=platform.python_version(), tag=tag, abi=tag + sys.abiflags)
    environment["platform"].update(machine=platform.machine(), libc={"name": name, "version": version})
    assert sysconfig.get_platform() == f"linux-{platform.machine()}"
    assert list(compatibility_tags.supported_tags(environment)) == list(sys_tags())


@pytest.mark.parametrize(
    ("libc", "has", "lacks"),
    [
        ({"name": "glibc", "version": "2.17"}, "manylinux2014_x86_64", "manylinux_2_18_x86_64"),
        ({"name": "glibc", "version": "2.36"}, "manylinux_2_36_x86_64", "manylinux_2_37_x86_64"),
        ({"name": "musl", "version": "1.2"}, "musllinux_1_2_x86_64", "manylinux_2_17_x86_64"),
        ({"name": "musl", "version": None}, "linux_x86_64", "musllinux_1_1_x86_64"),
        (None, "linux_x86_64", "manylinux2014_x86_64"),
    ],
)
def test_a_platform_tag_is_a_promise_about_the_libc(libc, has, lacks, environment):
    environment["platform"]["libc"] = libc
    tags = compatibility_tags.platform_tags(environment["platform"])
    assert has in tags
    assert lacks not in tags


def test_a_free_threaded_python_takes_neither_ordinary_wheels_nor_the_stable_abi(environment):
    environment["python"].update(version="3.13.1", tag="cp313", abi="cp313t")
    tags = compatibility_tags.supported_tags(environment)
    assert Tag("cp313", "cp313t", "linux_x86_64") in tags
    assert Tag("cp313", "cp313", "linux_x86_64") not in tags
    assert Tag("cp39", "abi3", "linux_x86_64") not in tags


def test_the_stable_abi_of_an_older_python_serves_a_newer_one(environment):
    tags = compatibility_tags.supported_tags(environment)
    assert tags[Tag("cp311", "cp311", "linux_x86_64")] < tags[Tag("cp39", "abi3", "linux_x86_64")]
    assert Tag("cp312", "abi3", "linux_x86_64") not in tags

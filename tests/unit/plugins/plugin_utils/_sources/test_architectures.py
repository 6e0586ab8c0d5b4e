# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import (
    check_architectures,
    covers,
    describe_architectures,
    gpu_architectures,
)


def test_architectures_are_sorted_by_age_and_each_stands_once():
    assert check_architectures(["12.0+PTX", "9.0", "10.0", "9.0a", "9.0"]) == ("9.0", "9.0a", "10.0", "12.0+PTX")


@pytest.mark.parametrize("name", ["90", "sm_90", 9.0, "9.0+ptx", "9.0b", "9.0\n", "", "123.0", None])
def test_what_is_no_architecture_is_refused_with_an_example(name):
    with pytest.raises(TorchExtensionError, match=r"torch_extension_build_archs is no architecture.*'12\.0\+PTX'"):
        check_architectures([name])


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        (None, ()),
        ([], ()),
        ([{"compute_capability": None}], ()),
        ([{"compute_capability": "9.0"}, {"compute_capability": "8.0"}, {"compute_capability": "9.0"}], ("8.0", "9.0")),
    ],
)
def test_a_node_has_the_architectures_that_its_gpus_tell(gpus, found):
    assert gpu_architectures({"gpus": gpus}) == found


@pytest.mark.parametrize(
    ("built", "wanted", "serves"),
    [
        (["8.0", "9.0"], ["9.0"], True),
        (["8.0"], ["8.6"], True),  # the same major, and not older
        (["8.6"], ["8.0"], False),
        (["8.0"], ["9.0"], False),
        (["8.0+PTX"], ["9.0"], True),
        (["9.0a"], ["9.0"], True),
        (["9.0a"], ["9.0a"], True),
        (["9.0"], ["9.0a"], False),  # what is asked for by name
        (["9.0"], ["9.0+PTX"], False),
        (["9.0+PTX"], ["9.0+PTX"], True),
        (["9.0"], ["8.0", "9.0"], False),
        (["9.0"], [], True),
    ],
)
def test_a_wheel_covers_what_runs_its_binaries_or_its_ptx(built, wanted, serves):
    assert covers(built, wanted) is serves


def test_architectures_in_words():
    assert describe_architectures(["8.0", "9.0a", "12.0+PTX"]) == "sm_80 and sm_90a and sm_120 with PTX"

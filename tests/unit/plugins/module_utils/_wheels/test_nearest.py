# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet
from wheel_names import judge, wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import nearest, selection


@pytest.fixture
def environment(environment):
    """CUDA 12.6, torch 2.8 with the new C++ ABI, Python 3.11, glibc 2.36."""
    environment["torch"].update(version="2.8.0+cu126", cuda="12.6", cxx11_abi=True)
    return environment


def describe(filenames, environment, specifier=""):
    return nearest.describe_nearest([nearest.summarise(judge(filenames, environment), SpecifierSet(specifier))])


def test_a_newer_version_without_a_wheel_for_the_node_is_reported(environment):
    names = [wheel("cu12torch2.9cxx11abiTRUE", "2.9.0"), wheel("cu12torch2.10cxx11abiTRUE", "2.9.0"), wheel()]
    judgement = judge(names, environment)
    (best,) = selection.select_wheels(judgement.candidates, SpecifierSet(), environment).fitting
    assert best.asset.filename == wheel()
    assert nearest.explain_newer(judgement, SpecifierSet(), best) == [
        {"version": "2.9.0", "reason": "none of its 2 wheels fits. There is one for torch 2.10 or 2.9."}
    ]


def test_where_nothing_fits_the_nearest_is_described(environment):
    names = [
        *(wheel(f"cu12torch{torch}cxx11abiTRUE") for torch in ("2.4", "2.7", "2.10", "2.9")),
        wheel(tags="cp312-cp312-linux_x86_64"),
        wheel("cu13torch2.9cxx11abiTRUE"),
        wheel(version="2.7.4.post1"),
        wheel(version="2.6.3"),
    ]
    assert describe(names, environment, "==2.8.3") == [
        "There is one for torch 2.10, 2.9, 2.7 or 2.4.",
        "There is one for Python cp312.",
        "For this node as it is there is a wheel of version 2.7.4.post1 and 2.6.3.",
    ]


def test_several_mismatches_of_one_wheel_are_described_together(environment):
    names = [wheel("cu13torch2.9cxx11abiTRUE"), wheel("cu13torch2.10cxx11abiTRUE", tags="cp39-cp39-linux_x86_64")]
    assert describe(names, environment) == ["There is one for torch 2.9 and CUDA 13."]


def test_a_long_list_is_cut(environment):
    names = [wheel(f"cu12torch2.{minor}cxx11abiTRUE") for minor in range(10, 30)]
    assert describe(names, environment) == ["There is one for torch 2.29, 2.28, 2.27, 2.26, 2.25, 2.24 and 14 more."]


def test_without_wheels_there_is_no_nearest(environment):
    assert describe([], environment) == nearest.describe_nearest([]) == []


def test_what_several_sources_have_is_described_together(environment):
    summaries = [
        nearest.summarise(judge([wheel(f"cu12torch{torch}cxx11abiTRUE")], environment), SpecifierSet())
        for torch in ("2.9", "2.10")
    ]
    assert nearest.describe_nearest(summaries) == ["There is one for torch 2.10 or 2.9."]
    assert nearest.describe_nearest([nearest.Nearest(*summary) for summary in summaries]) == [
        "There is one for torch 2.10 or 2.9."
    ]


def test_a_source_whose_wheels_are_further_off_is_not_described(environment):
    names = [wheel("cu12torch2.9cxx11abiTRUE"), wheel("cu13torch2.10cxx11abiTRUE")]
    summaries = [nearest.summarise(judge([name], environment), SpecifierSet()) for name in names]
    assert nearest.describe_nearest(summaries) == ["There is one for torch 2.9."]


def test_a_label_that_is_not_understood_is_said_to_be_just_that(environment):
    assert describe([wheel("x.cu12torch2.8")], environment) == [
        "Of what there is, its label 'x.cu12torch2.8' is of a form that this collection does not know."
    ]


def test_a_file_that_is_no_wheel_by_its_name_is_told(environment):
    names = [wheel().replace(".whl", f" ({number}).whl") for number in (1, 2, 3)]
    assert describe(names, environment) == [
        f"{names[0]!r} was not looked at: a browser has numbered it; rename it to {wheel()}. Neither were 2 more."
    ]


def test_the_node_is_described_by_all_that_counts(environment):
    assert nearest.describe_node(environment) == (
        "Python cp311, torch 2.8.0+cu126 (CUDA 12.6, C++11 ABI TRUE), linux x86_64, glibc 2.36"
    )

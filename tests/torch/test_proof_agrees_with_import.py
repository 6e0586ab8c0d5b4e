# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on real wheels with real builds of torch, against what loading and importing them really does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import pairs
import pytest
import table
from pairs import Pair
from pinned import BUILDS, CUDA_12, Wheel

LOADER = re.compile(r"undefined symbol|cannot open shared object file|version `\S+' not found")  # its words


@pytest.fixture(scope="session", params=BUILDS, ids=lambda build: build.name)
def column(request: pytest.FixtureRequest) -> list[Pair]:
    """All wheels with one build."""
    return list(pairs.of(request.param).values())


def those(column: Iterable[Pair], *verdicts: str) -> list[Pair]:
    return [pair for pair in column if pair.verdict in verdicts]


def test_what_fits_loads(column: list[Pair]) -> None:
    assert [(pair.wheel.name, pair.complaints) for pair in those(column, "fits") if not pair.loads] == []


def test_what_does_not_fit_does_not_load(column: list[Pair]) -> None:
    assert [(pair.wheel.name, pair.reasons) for pair in those(column, "does not fit") if pair.loads] == []


def test_what_fits_is_imported_unless_its_python_code_refuses(column: list[Pair]) -> None:
    """The proof knows the loader's rules. A package may make its own, and then says so in its own words."""
    failures = {pair.wheel.name: pair.failure for pair in those(column, "fits") if not pair.imports}
    assert {name: failure for name, failure in failures.items() if LOADER.search(failure)} == {}
    if not column[0].build.beside:  # with torch as the index installs it there is nothing to refuse
        assert failures == {}


def test_what_cannot_be_told_has_a_reason(column: list[Pair]) -> None:
    assert [pair.wheel.name for pair in those(column, "cannot be told") if not pair.reasons] == []


def test_there_are_pairs_of_every_kind() -> None:
    every = [pair for build in BUILDS for pair in pairs.of(build).values()]
    assert {kind for pair in every for kind in table.kinds(pair)} >= {"A", "S", "C"}
    assert {pair.build for pair in those(every, "fits")} == set(BUILDS)


@pytest.mark.parametrize(
    "wheel", [Wheel("torchrl", "0.11.1"), Wheel("torchao", "0.16.0")], ids=lambda wheel: wheel.name
)
def test_a_wheel_for_2_10_serves_up_to_2_12(wheel: Wheel) -> None:
    loads = {build.version: pairs.of(build)[wheel].loads for build in BUILDS if build.beside == CUDA_12}
    assert loads == {"2.11.0": True, "2.12.0": True, "2.13.0": False}


def test_the_page_says_what_was_found(printed: list[str]) -> None:
    found = table.markdown({build: pairs.of(build) for build in BUILDS})
    printed.append(found)
    if os.environ.get("UPDATE"):
        table.write(found)
    assert table.written() == found, "UPDATE=1 make test-torch writes the page anew"

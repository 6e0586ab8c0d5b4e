# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of ``_packages`` against every sdist on the package index."""

from __future__ import annotations

import multiprocessing
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import sdists
import upstream
from environments import environments
from packaging.version import Version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._guess import (
    NoGuessError,
    guess,
    requires_python,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._packages import PACKAGES

ENVIRONMENTS = list(environments())
DOWNLOADS = 4

ALL = [pytest.param(name, version, id=f"{name}-{version}") for name, it in PACKAGES.items() for version in it.versions]


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Future]]:
    """What the setup.py of each selected sdist asks for, in the making."""
    wanted = {
        (item.callspec.params["name"], item.callspec.params["version"]): None
        for item in request.session.items
        if "answers" in getattr(item, "fixturenames", ())
    }
    for name in {name for name, _ in wanted}:
        sdists.on_index(name)
    # A fresh process for each: forked from a server that has imported nothing but what is needed.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["upstream"])
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as processes,
        ThreadPoolExecutor(DOWNLOADS) as threads,
    ):

        def ask(name: str, version: str) -> list[dict[str, str]]:
            return processes.submit(upstream.ask, sdists.fetch(name, version), ENVIRONMENTS).result()

        yield {key: threads.submit(ask, *key) for key in wanted}
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_table_has_every_version_on_the_index_in_order(name: str) -> None:
    on_index = sorted(sdists.on_index(name), key=Version)
    known = PACKAGES[name].versions
    missing = [version for version in on_index if version not in known]
    gone = [version for version in known if version not in on_index]
    assert not missing, f"versions of {name} lack {', '.join(missing)}: add them, and a row where a rule changed"
    assert not gone, f"the index has no sdist of {name} {', '.join(gone)} any more"
    assert list(known) == on_index


@pytest.mark.parametrize(("name", "version"), ALL)
def test_table_has_the_requires_python_of_the_sdist(name: str, version: str) -> None:
    assert requires_python(name, version) == sdists.on_index(name)[version].requires_python


@pytest.mark.parametrize("name", sorted(set(PACKAGES) - {"transformer-engine-torch"}))  # which installs no folder
def test_newest_sdist_has_the_package_that_is_imported(name: str) -> None:
    package = PACKAGES[name]
    with tarfile.open(sdists.fetch(name, package.versions[-1])) as tar:
        files = {member.partition("/")[2] for member in tar.getnames()}
    assert {f"{module}/__init__.py" for module in package.imports} <= files


@pytest.mark.parametrize(("name", "version"), ALL)
def test_guess_is_what_setup_py_asks_for(
    name: str, version: str, answers: dict[tuple[str, str], Future], compared: list[int]
) -> None:
    differences = []
    for environment, theirs in zip(ENVIRONMENTS, answers[name, version].result(), strict=True):
        ours = _our_answer(name, version, environment)
        if ours != _comparable(theirs):
            differences.append(f"{environment}\n  setup.py: {theirs}\n  guess:    {ours}")
    compared.append(len(ENVIRONMENTS))
    shown = "\n".join(differences[:3])
    assert not differences, f"{len(differences)} of {len(ENVIRONMENTS)} differ, the first being\n{shown}"


@pytest.mark.parametrize(("name", "version"), ALL)
def test_versions_guess_exactly_from_the_one_the_table_says(
    name: str, version: str, answers: dict[tuple[str, str], Future]
) -> None:
    # Without this, a setup.py that crashes in the suite's own stubs would agree with a table that knows no rule.
    package = PACKAGES[name]
    first, _ = package.cuda[0]
    has_rule = package.versions.index(version) >= package.versions.index(first)
    theirs = answers[name, version].result()
    assert any("url" in answer for answer in theirs) == has_rule
    assert has_rule or {answer["none"] for answer in theirs} & {"no wheel command", "no setup.py"}


def _our_answer(name: str, version: str, environment: dict) -> dict[str, str] | None:
    try:
        wheel = guess(name, version, environment)
    except NoGuessError:
        return None
    return {"url": wheel.url, "filename": wheel.filename}


def _comparable(theirs: dict[str, str]) -> dict[str, str] | None:
    return None if "none" in theirs else theirs

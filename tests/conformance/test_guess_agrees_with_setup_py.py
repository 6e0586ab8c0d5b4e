# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of ``packages`` against every sdist on the package index."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import packaging
import pytest
import sdists
import upstream
from environments import environments
from packaging.version import Version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.setup_py import (
    NoGuessError,
    guess_wheel,
    requires_python,
)

ENVIRONMENTS = list(environments())
DOWNLOADS = 4
#: All that decides what a setup.py answers, but for the sdist: what runs it, and on which nodes.
ASKED_BY = [sys.version, packaging.__version__, Path(upstream.__file__).read_text(), ENVIRONMENTS]

GUESSED = {name: package for name, package in PACKAGES.items() if package.versions}
ALL = [pytest.param(name, version, id=f"{name}-{version}") for name, it in GUESSED.items() for version in it.versions]


class Upstream:
    """A running upstream.py, which takes one sdist at a time."""

    def __enter__(self) -> Upstream:
        command = [sys.executable, upstream.__file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send(json.dumps(ENVIRONMENTS))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, archive: Path) -> list[dict[str, str]]:
        self._send(str(archive))
        answers = self._process.stdout.readline()
        if not answers:
            raise RuntimeError(f"upstream.py failed on {archive.name}; see its output")
        return json.loads(answers)

    def _send(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Future]]:
    """What the setup.py of each selected sdist asks for, in the making."""
    wanted = {
        (item.callspec.params["name"], item.callspec.params["version"]): None
        for item in request.session.items
        if "answers" in getattr(item, "fixturenames", ())
    }
    for name in {name for name, _version in wanted}:
        sdists.on_index(name)
    servers: queue.Queue[Upstream] = queue.Queue()
    asked_by = _digest(ASKED_BY)
    with contextlib.ExitStack() as stack:
        for _core in range(os.cpu_count() or 1):
            servers.put(stack.enter_context(Upstream()))

        def ask(name: str, version: str) -> list[dict[str, str]]:
            archive = sdists.fetch(name, version)
            remembered = (
                sdists.cache() / f"{archive.name}-{_digest([sdists.on_index(name)[version].sha256, asked_by])}.json"
            )
            if remembered.exists():
                return json.loads(remembered.read_bytes())
            server = servers.get()
            try:
                answer = server.ask(archive)
            finally:
                servers.put(server)
            sdists.write(remembered, json.dumps(answer).encode())
            return answer

        threads = stack.enter_context(ThreadPoolExecutor(DOWNLOADS))
        yield {key: threads.submit(ask, *key) for key in wanted}
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", GUESSED)
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


@pytest.mark.parametrize("name", sorted(set(GUESSED) - {"transformer-engine-torch"}))  # which installs no folder
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
    first = package.cuda[0][0]
    has_rule = package.versions.index(version) >= package.versions.index(first)
    theirs = answers[name, version].result()
    assert any("url" in answer for answer in theirs) == has_rule
    assert has_rule or {answer["none"] for answer in theirs} & {"no wheel command", "no setup.py"}


def _digest(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _our_answer(name: str, version: str, environment: dict) -> dict[str, str] | None:
    try:
        wheel = guess_wheel(name, version, environment)
    except NoGuessError:
        return None
    return {"url": wheel.url, "filename": wheel.filename}


def _comparable(theirs: dict[str, str]) -> dict[str, str] | None:
    return None if "none" in theirs else theirs

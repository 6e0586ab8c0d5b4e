# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import fleet
import pytest

MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[MEASURED]:
        terminalreporter.write_line(line)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are shown after the tests."""
    return request.config.stash[MEASURED]


@pytest.fixture(scope="session")
def minutes() -> int:
    """How long flash-attn is compiled."""
    return int(os.environ.get("BUILD_MINUTES", "60"))


@pytest.fixture(scope="session", autouse=True)
def nodes() -> Iterator[None]:
    """bare has a C++ compiler and an empty environment; n01 and n02 have a C++ compiler and the real torch for CUDA 13."""
    fleet.stand("down")
    fleet.stand("up", "bare=compiler", "n01=cuda13", "n02=cuda13")
    yield
    if not os.environ.get("KEEP"):
        fleet.stand("down")


@pytest.fixture(autouse=True)
def nothing_built() -> None:
    """Each test builds anew; what was downloaded stays."""
    shutil.rmtree(fleet.cache() / "control/built", ignore_errors=True)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

COMPARED = pytest.StashKey[list]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COMPARED] = []


@pytest.fixture(scope="session")
def compared(request: pytest.FixtureRequest) -> list[int]:
    """How many combinations each version was compared on, for the summary."""
    return request.config.stash[COMPARED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash[COMPARED]
    terminalreporter.write_line(f"guess compared with setup.py: {sum(counts)} combinations, {len(counts)} sdists")

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from urllib3.util import Retry
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


@pytest.fixture
def context(tmp_path):
    return DownloadContext(str(tmp_path / "cache"))


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Puts wheels on a real simple index, which the control node's pip then uses."""

    def publish(*wheels):
        for wheel in wheels:
            build_wheel(tmp_path / "index", **wheel)
        monkeypatch.setenv("PIP_INDEX_URL", server.serve_index(tmp_path / "index"))

    return publish


@pytest.fixture
def requested_files(server):
    """The names of files that were asked for."""
    return lambda: [path.rpartition("/")[2] for path in server.requests if path.startswith("/files/")]

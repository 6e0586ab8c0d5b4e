# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from urllib3.util import Retry

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


@pytest.fixture
def context(tmp_path):
    return DownloadContext(str(tmp_path / "cache"))


@pytest.fixture
def requested_files(server):
    """The names of files that were asked for."""
    return lambda: [path.rpartition("/")[2] for path in server.requests if path.startswith("/files/")]

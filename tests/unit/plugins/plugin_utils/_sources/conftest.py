# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from urllib3.util import Retry


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    """A request is repeated at once."""
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)

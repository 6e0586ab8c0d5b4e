# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys

import pytest
from builds import Builds


@pytest.fixture
def builds(tmp_path):
    """A folder of builds, for the Python that runs the tests. What still runs in the end is killed."""
    made = Builds(tmp_path / "builds", sys.executable)
    yield made
    made.end_all()

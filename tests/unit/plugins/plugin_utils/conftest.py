# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from bundles import BundleMaker
from locks import environment_of_another_kind, plans_of_two_kinds
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


@pytest.fixture
def other_environment(environment):
    return environment_of_another_kind(environment)


@pytest.fixture
def plans(environment, other_environment):
    return plans_of_two_kinds(environment, other_environment)


@pytest.fixture
def lock(plans):
    return lock_file.parse_lock(format_lock(build_lock(plans)), "wheels.lock.yml")


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Puts wheels on a real simple index, which the control node's pip then uses."""

    def publish(*wheels):
        for wheel in wheels:
            build_wheel(tmp_path / "index", **wheel)
        monkeypatch.setenv("PIP_INDEX_URL", server.serve_index(tmp_path / "index"))

    return publish


@pytest.fixture
def maker(tmp_path, environment):
    return BundleMaker(tmp_path / "made", environment)


@pytest.fixture(params=["bundle", "bundle.tar"])
def dest(request, tmp_path):
    return tmp_path / "out of the gap+" / request.param

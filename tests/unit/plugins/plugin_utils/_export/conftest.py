# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bundle_writing, lock_writing


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def lock_path(tmp_path):
    return tmp_path / "git" / "wheels.lock.yml"


@pytest.fixture
def index(tls_server, tmp_path, monkeypatch):
    """Puts wheels on an index of the control node's pip; einops 0.8.1 is there."""

    def index(*wheels):
        for wheel in wheels:
            build_wheel(tmp_path / "index", **wheel)
        monkeypatch.setenv("PIP_INDEX_URL", tls_server.serve_index(tmp_path / "index"))

    index({"name": "einops", "version": "0.8.1"})
    return index


@pytest.fixture
def publish(tls_server, tmp_path):
    """Puts a wheel on a release. Returns the lookup's answer for it."""

    def publish(version="2.8.3", content="V = 1\n", **more):
        wheel = build_wheel(
            tmp_path / "published",
            version=version,
            label=LABEL,
            requires=["torch", "einops"],
            files={"flash_attn/__init__.py": content},
        )
        url = tls_server.serve_body(f"/{wheel.name}", wheel.read_bytes())
        return {
            "name": "flash-attn",
            "version": version,
            "requirement": "flash-attn",
            "source": "guess",
            "filename": wheel.name,
            "url": url,
            "sha256": sha256(wheel),
            "size": None,
            "conflicts": [],
            "ground": None,
            **more,
        }

    return publish


@pytest.fixture
def write_lock(lock_path, cache):
    def write_lock(plans, **more):
        return lock_writing.write_lock(plans, str(lock_path), DownloadContext(str(cache)), **more)

    return write_lock


@pytest.fixture
def write_bundle(lock_path, cache, tmp_path):
    def write_bundle(dest="bundle", **more):
        return bundle_writing.write_bundle(str(lock_path), str(tmp_path / dest), DownloadContext(str(cache)), **more)

    return write_bundle


@pytest.fixture
def make_plan(environment):
    """Makes the plan of a node from wheels."""

    def make_plan(*wheels, environment=environment):
        return {"environment": environment, "wheels": list(wheels)}

    return make_plan

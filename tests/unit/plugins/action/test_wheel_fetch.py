# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from wheels import LABEL, build_wheel, sha256


@pytest.fixture
def wheel_fetch(ansible):
    return lambda *options, **arguments: ansible("airgap.torch_extensions.wheel_fetch", json.dumps(arguments), *options)


def test_the_action_runs_on_the_control_node_through_a_proxy_and_predicts_in_check_mode(
    wheel_fetch, server, tmp_path, environment
):
    wheel = build_wheel(tmp_path / "published", label=LABEL)
    url = "http://github.example/wheel"
    server.give(url, wheel.read_bytes())
    known = {"name": "flash-attn", "url": url, "filename": wheel.name, "sha256": sha256(wheel)}
    plan = {"environment": environment, "wheels": [known]}
    arguments = {"plans": {"node": plan}, "cache_dir": str(tmp_path / "cache"), "proxy": server.url}
    status, said = wheel_fetch("--check", **arguments)
    assert (status, "node | CHANGED" in said, server.requests) == (0, True, []), said
    status, said = wheel_fetch("--become", **arguments)
    assert (status, "node | CHANGED" in said, server.requests) == (0, True, [url]), said
    [cached] = (tmp_path / "cache" / "wheels").glob(f"*/{wheel.name}")
    assert cached.read_bytes() == wheel.read_bytes()
    status, said = wheel_fetch(**arguments)
    assert (status, "node | SUCCESS" in said, server.requests) == (0, True, [url]), said


def test_what_hinders_everybody_is_a_failure_in_plain_words(wheel_fetch, tmp_path):
    (tmp_path / "file").touch()
    status, said = wheel_fetch(plans={}, cache_dir=str(tmp_path / "file"))
    assert status != 0
    assert "cannot be made" in said
    assert "Traceback" not in said

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from wheels import LABEL, build_wheel, sha256


@pytest.fixture
def plans(server, tmp_path, environment):
    wheel = build_wheel(tmp_path / "published", label=LABEL)
    url = "http://github.example/wheel"
    server.serve_body(url, wheel.read_bytes())
    item = {"name": "flash-attn", "version": "2.8.3", "url": url, "filename": wheel.name, "source": "guess"}
    return {"node": {"environment": environment, "wheels": [{**item, "sha256": sha256(wheel)}]}}


def test_lock_and_bundle_are_written_on_the_control_node_and_predicted_in_check_mode(
    ansible, server, plans, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    common = {"cache_dir": str(tmp_path / "cache"), "proxy": server.url}
    for module, arguments, path in (
        ("wheel_lock", {"plans": plans, "path": "wheels.lock.yml"}, tmp_path / "wheels.lock.yml"),
        ("wheel_bundle", {"lock": "wheels.lock.yml", "dest": "bundle.tar"}, tmp_path / "bundle.tar"),
    ):
        name, arguments = f"airgap.torch_extensions.{module}", json.dumps({**arguments, **common})
        status, output = ansible(name, arguments, "--check", "--diff")
        assert (status, "node | CHANGED" in output, path.exists()) == (0, True, False), output
        assert f"+++ after: {path}" in output
        status, output = ansible(name, arguments, "--become")
        assert (status, "node | CHANGED" in output, path.is_file()) == (0, True, True), output
        status, output = ansible(name, arguments, "--diff")
        assert (status, "node | SUCCESS" in output, "+++" in output) == (0, True, False), output
    assert server.requests == ["http://github.example/wheel"] * 3, "it was looked at twice, and downloaded once"


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("wheel_lock", {"plans": {}, "path": "wheels.lock.yml"}, "There is no node to lock anything for"),
        ("wheel_lock", {"plans": {"n": {"environment": {}, "wheels": []}}, "path": "a.yml"}, "that torch_info returns"),
        ("wheel_bundle", {"lock": "missing.yml", "dest": "bundle"}, "missing.yml cannot be read"),
    ],
)
def test_an_error_fails_the_task_with_its_message(module, arguments, words, ansible, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output = ansible(f"airgap.torch_extensions.{module}", json.dumps(arguments))
    assert status != 0
    assert words in output
    assert "Traceback" not in output
    assert "exception" not in output, "of which Ansible would say more than the message"

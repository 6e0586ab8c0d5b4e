# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from servers import running_proxy
from shells import read_terminal
from wheels import LABEL, build_wheel, sha256


@pytest.fixture
def wheel_fetch(ansible):
    return lambda *options, **arguments: ansible("airgap.torch_extensions.wheel_fetch", json.dumps(arguments), *options)


def test_the_action_runs_on_the_control_node_through_a_proxy_and_predicts_in_check_mode(
    wheel_fetch, server, tmp_path, environment
):
    wheel = build_wheel(tmp_path / "published", label=LABEL)
    url = "http://github.example/wheel"
    server.serve_body(url, wheel.read_bytes())
    known = {"name": "flash-attn", "url": url, "filename": wheel.name, "sha256": sha256(wheel)}
    plan = {"environment": environment, "wheels": [known]}
    arguments = {"plans": {"node": plan}, "cache_dir": str(tmp_path / "cache"), "proxy": server.url}
    status, output = wheel_fetch("--check", **arguments)
    assert (status, "node | SUCCESS" in output, server.requests) == (0, True, [url]), output
    assert not list((tmp_path / "cache").rglob(wheel.name)), output
    server.requests.clear()
    status, output = wheel_fetch("--become", **arguments)
    assert (status, "node | CHANGED" in output, server.requests) == (0, True, [url]), output
    [cached] = (tmp_path / "cache" / "wheels").glob(f"*/{wheel.name}")
    assert cached.read_bytes() == wheel.read_bytes()
    status, output = wheel_fetch(**arguments)
    assert (status, "node | SUCCESS" in output, server.requests) == (0, True, [url]), output


def test_a_file_that_cannot_be_had_fails_no_task_that_runs_once_for_all(wheel_fetch, server, tmp_path, environment):
    lost = {"name": "flash-attn", "url": f"{server.url}/lost", "filename": build_wheel(tmp_path, label=LABEL).name}
    plan = {"environment": environment, "wheels": [{**lost, "sha256": "a" * 64}]}
    status, output = wheel_fetch(plans={"node": plan}, cache_dir=str(tmp_path / "cache"))
    assert (status, "node | SUCCESS" in output, "does not exist (404)" in output) == (0, True, True), output


def test_the_archive_of_the_next_module_is_built_on_the_control_node(wheel_fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_DEBUG", "1")
    arguments = {"plans": {}, "cache_dir": str(tmp_path / "cache")}
    status, output = wheel_fetch("--become", "-e", "ansible_connection=ssh ansible_host=host.invalid", **arguments)
    assert status == 0, output
    assert re.search(r"ANSIBALLZ: Acquiring lock\n(.*\n)*.*ANSIBALLZ: Done creating module", output), output


@pytest.fixture
def slow(tls_server, tmp_path, environment):
    """The plans for a wheel that takes two seconds and a half, and whose hash nobody knows."""
    wheel = build_wheel(tmp_path / "published", label=LABEL, extra=[("flash_attn/blob", os.urandom(1 << 20))])
    url = tls_server.serve_file("/wheel", wheel.read_bytes(), pause=0.3)
    return {
        "node": {"environment": environment, "wheels": [{"name": "flash-attn", "url": url, "filename": wheel.name}]}
    }


def in_a_terminal(command, columns, **environ):
    """What a program writes to a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **environ}, close_fds=True
    )
    os.close(its)
    output = read_terminal(ours)
    return process.wait(), output


@pytest.mark.slow
def test_progress_is_one_line_of_a_terminal_and_not_in_the_log_file(slow, tmp_path, monkeypatch):
    arguments = json.dumps({"plans": slow, "cache_dir": str(tmp_path / "cache")})
    command = [str(Path(sys.executable).with_name("ansible")), "all", "-i", "node,"]
    command += ["-m", "airgap.torch_extensions.wheel_fetch", "-a", arguments]
    environ = {
        "ANSIBLE_COLLECTIONS_PATH": next(
            path for path in sys.path if (Path(path) / "ansible_collections/airgap").is_dir()
        ),
        "ANSIBLE_LOG_PATH": str(tmp_path / "log"),
        "ANSIBLE_NOCOLOR": "1",
        "TERM": "xterm",
    }
    status, output = in_a_terminal(command, 100, **environ)
    assert status == 0, output
    states = re.findall(r"\r\x1b\[K(flash_attn-2\.8\.3\S+ \d+% \S+/1\.0\dM \S+B/s \S+ left)(?=\r)", output)
    assert len(states) >= 2, output
    assert max(len(state) for state in states) < 100
    assert re.search(r"\r\x1b\[Kflash_attn\S+ 1\.0\dMB in 00:02, \S+B/s\r\n", output), output
    assert " left" not in (tmp_path / "log").read_text()
    assert "has no published hash" in " ".join(output.split())


@pytest.mark.parametrize("progress", [True, False])
def test_without_a_terminal_progress_is_short_and_can_be_turned_off(progress, wheel_fetch, slow, tmp_path):
    status, output = wheel_fetch(plans=slow, cache_dir=str(tmp_path / "cache"), progress=progress)
    assert status == 0, output
    assert "\r" not in output
    assert " left" not in output, "there was nothing to tell within ten seconds"
    assert "[WARNING]: flash_attn" in output


def test_where_hashes_are_required_nothing_is_downloaded_without_one(wheel_fetch, tls_server, slow, tmp_path):
    status, output = wheel_fetch(plans=slow, cache_dir=str(tmp_path / "cache"), require_sha256=True)
    assert (status, tls_server.requests) == (0, [])
    assert "torch_extension_require_sha256" in output


def test_credentials_are_shown_at_no_verbosity(wheel_fetch, slow, tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(tmp_path / "log"))
    monkeypatch.setenv("ANSIBLE_DISPLAY_TRACEBACK", "always")
    with running_proxy("Basic other") as proxy:
        url = proxy.url.replace("//", "//me:hunter2@")
        status, output = wheel_fetch("-vvvvvv", plans=slow, cache_dir=str(tmp_path / "cache"), proxy=url)
    assert (status, "wants other credentials" in output) == (0, True), output
    assert "hunter2" not in output
    assert "hunter2" not in (tmp_path / "log").read_text()


def test_an_error_that_concerns_all_nodes_fails_the_task_with_its_message(wheel_fetch, tmp_path):
    (tmp_path / "file").touch()
    status, output = wheel_fetch(plans={}, cache_dir=str(tmp_path / "file"))
    assert status != 0
    assert "cannot be made" in output
    assert "Traceback" not in output

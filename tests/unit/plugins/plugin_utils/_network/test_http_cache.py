# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from kills import kills_at_each_write
from servers import running_server

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_cache import HttpCache

PAGE = "".join(f"<a href='/{number}.whl'>{number}</a>\n" for number in range(100))


@pytest.fixture
def server():
    with running_server() as server:
        server.serve_page("/simple/a/", PAGE)
        yield server


@pytest.fixture
def ask(server, tmp_path):
    """What the server says, or what is kept of it."""
    return lambda: HttpCache(str(tmp_path)).get(f"{server.url}/simple/a/", lambda answer: answer.body.decode(), "x")


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: b"",
        lambda kept: bytes(len(kept)),
        lambda kept: kept[:-1],
        lambda kept: kept[: len(kept) // 2],
        lambda kept: kept[:-500] + bytes(500),
    ],
    ids=["empty", "zeros", "cut", "cut in half", "zeros at its end"],
)
def test_an_answer_that_a_power_cut_has_damaged_is_asked_for_again(damage, ask, server, tmp_path):
    assert ask() == ask() == PAGE
    assert len(server.requests) == 1
    (kept,) = tmp_path.glob("api/*.answer")
    kept.write_bytes(damage(kept.read_bytes()))
    assert ask() == ask() == PAGE
    assert len(server.requests) == 2


def test_killed_at_any_write_the_next_run_leaves_no_other_files(ask, tmp_path):
    for _changes in kills_at_each_write(ask):
        ask()
        assert [name for name in os.listdir(tmp_path / "api") if not name.endswith((".answer", ".lock"))] == []
        for path in tmp_path.glob("api/*"):
            path.unlink()

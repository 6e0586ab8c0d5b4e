# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import progress as progress_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress, Silence

NAME = "flash_attn-2.8.3.post2+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
STATE = r"\d+% [\d.]+M/250M [\d.?]+[kM]?B/s [\d:?]+ left"


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch):
    monkeypatch.setattr(progress_module, "_TERMINAL_SECONDS", 0.02)


@pytest.fixture
def said():
    return []


@pytest.fixture
def say(said):
    return lambda text, newline: said.append(text + "\n" * newline)


def advance(gauge, seconds=0.2):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        gauge.done += 1_000_000
        time.sleep(0.01)


def shown(said):
    """What each state of the terminal's line was."""
    return [text.removeprefix("\r\x1b[K") for text in said]


def test_a_terminal_has_one_line_that_changes_in_place_and_ends(said, say):
    with Progress(say, 120) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge)
    assert all(text.startswith("\r\x1b[K") for text in said)
    *states, last = shown(said)
    assert len(states) > 3
    for state in states:
        assert re.fullmatch(rf"flash_attn-2\.8\.3\.post2.* {STATE}", state)
        assert len(state) < 120
    assert re.fullmatch(rf"{re.escape(NAME)} [\d.]+MB of 250MB in 00:00, [\d.]+MB/s\n", last)
    assert "\n" not in "".join(states)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_several_downloads_share_the_line_or_take_turns(columns, said, say, monkeypatch):
    monkeypatch.setattr(progress_module, "_TURN_SECONDS", 0.03)
    with Progress(say, columns) as progress, progress.gauge(f"a{NAME}") as one, progress.gauge(f"b{NAME}") as two:
        for gauge in (one, two):
            gauge.start(0, 250_000_000)
        advance(one)
    states = [state for state in shown(said) if not state.endswith("\n")]
    assert max(len(state) for state in states) < columns
    assert {state[0] for state in states} == {"a", "b"}
    assert any("; bfl" in state for state in states) is (columns == 200)
    assert any("; 1 more" in state for state in states) is (columns == 80)


def test_a_log_gets_a_line_now_and_then(said, say):
    with Progress(say, None, every=0.2, first=0.1) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge, 0.65)
    *states, last = said
    assert 1 <= len(states) <= 3
    assert [bool(re.fullmatch(rf"{re.escape(NAME)} {STATE}\n", state)) for state in states] == [True] * len(states)
    assert "\r" not in "".join(said)
    assert "in 00:00" in last


def test_what_is_quick_is_not_told_to_a_log(said, say):
    with Progress(say, None, every=0.05, first=10) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge)
    assert said == []


@pytest.mark.parametrize("columns", [None, 80])
def test_what_was_not_begun_is_not_told(columns, said, say):
    with Progress(say, columns, every=0.02, first=0) as progress, progress.gauge(NAME):
        time.sleep(0.1)
    assert said == []


def test_a_note_stands_on_a_line_of_its_own(said, say):
    with Progress(say, 80) as progress:
        progress.note("before")
        with progress.gauge(NAME) as gauge:
            gauge.start(0, 250_000_000)
            advance(gauge)
            progress.note("after")
            progress.note("again")
    assert said[0] == "before\n"
    assert said[said.index("again\n") - 1] == "\r\x1b[Kafter\n"


def test_a_download_of_unknown_size_tells_what_came(said, say):
    with Progress(say, 80) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, None)
        advance(gauge)
    assert re.fullmatch(r"flash_attn.* [\d.]+M [\d.]+MB/s", shown(said)[-2])


def test_what_was_there_before_is_not_counted_into_the_rate(said, say):
    with Progress(say, 80) as progress, progress.gauge(NAME) as gauge:
        gauge.start(200_000_000, 250_000_000)
        advance(gauge)
        gauge.start(0, 250_000_000)  # it had to start over
        time.sleep(0.05)
    rates = [float(rate) for state in shown(said) for rate in re.findall(r"([\d.]+)MB/s", state)]
    assert rates
    assert max(rates) < 150


def test_silence_says_nothing():
    with Silence() as silence, silence.gauge(NAME) as gauge:
        gauge.start(0, 1)
        silence.note("something")


def test_without_tqdm_it_is_told_how_to_do_without():
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules["tqdm"] = None  # as if it were not installed
from {Progress.__module__} import Progress
Progress(print, None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "lacks tqdm" in done.stderr
    assert "set torch_extension_progress to false" in done.stderr

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
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress, ProgressDisplay

NAME = "flash_attn-2.8.3.post2+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
STATE = r"\d+% [\d.]+M/250M [\d.?]+[kM]?B/s [\d:?]+ left"


@pytest.fixture(autouse=True)
def _frequent_updates(monkeypatch):
    monkeypatch.setattr(progress_module, "_TERMINAL_SECONDS", 0.02)


@pytest.fixture
def output():
    return []


@pytest.fixture
def show(output):
    return lambda text, newline: output.append(text + "\n" * newline)


def advance(gauge, seconds=0.2):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        gauge.done += 1_000_000
        time.sleep(0.01)


def line_states(output):
    """Each state of the terminal's line."""
    return [text.removeprefix("\r\x1b[K") for text in output]


def test_a_terminal_shows_one_line_that_changes_in_place_and_ends_with_a_summary(output, show):
    with ProgressDisplay(show, 120) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge)
    assert all(text.startswith("\r\x1b[K") for text in output)
    *states, last = line_states(output)
    assert len(states) > 3
    for state in states:
        assert re.fullmatch(rf"flash_attn-2\.8\.3\.post2.* {STATE}", state)
        assert len(state) < 120
    assert re.fullmatch(rf"{re.escape(NAME)} [\d.]+MB of 250MB in 00:00, [\d.]+MB/s\n", last)
    assert "\n" not in "".join(states)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_several_downloads_share_the_line_or_take_turns(columns, output, show, monkeypatch):
    monkeypatch.setattr(progress_module, "_TURN_SECONDS", 0.03)
    with (
        ProgressDisplay(show, columns) as progress,
        progress.gauge(f"a{NAME}") as first_gauge,
        progress.gauge(f"b{NAME}") as second_gauge,
    ):
        for gauge in (first_gauge, second_gauge):
            gauge.start(0, 250_000_000)
        advance(first_gauge)
    states = [state for state in line_states(output) if not state.endswith("\n")]
    assert max(len(state) for state in states) < columns
    assert {state[0] for state in states} == {"a", "b"}
    assert any("; bfl" in state for state in states) is (columns == 200)
    assert any("; 1 more" in state for state in states) is (columns == 80)


def test_a_log_gets_a_line_now_and_then(output, show):
    with ProgressDisplay(show, None, interval=0.2, delay=0.1) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge, 0.65)
    *states, last = output
    assert 1 <= len(states) <= 3
    assert [bool(re.fullmatch(rf"{re.escape(NAME)} {STATE}\n", state)) for state in states] == [True] * len(states)
    assert "\r" not in "".join(output)
    assert "in 00:00" in last


def test_a_log_does_not_mention_a_quick_download(output, show):
    with ProgressDisplay(show, None, interval=0.05, delay=10) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 250_000_000)
        advance(gauge)
    assert output == []


@pytest.mark.parametrize("columns", [None, 80])
def test_a_download_that_has_not_begun_is_not_shown(columns, output, show):
    with ProgressDisplay(show, columns, interval=0.02, delay=0) as progress, progress.gauge(NAME):
        time.sleep(0.1)
    assert output == []


def test_a_note_is_a_line_of_its_own(output, show):
    with ProgressDisplay(show, 80) as progress:
        progress.note("before")
        with progress.gauge(NAME) as gauge:
            gauge.start(0, 250_000_000)
            advance(gauge)
            progress.note("after")
            progress.note("again")
    assert output[0] == "before\n"
    assert output[output.index("again\n") - 1] == "\r\x1b[Kafter\n"


def test_a_download_of_unknown_size_shows_what_has_come(output, show):
    with ProgressDisplay(show, 80) as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, None)
        advance(gauge)
    assert re.fullmatch(r"flash_attn.* [\d.]+M [\d.]+MB/s", line_states(output)[-2])


def test_bytes_of_an_earlier_run_do_not_count_into_the_rate(output, show):
    with ProgressDisplay(show, 80) as progress, progress.gauge(NAME) as gauge:
        gauge.start(200_000_000, 250_000_000)
        advance(gauge)
        gauge.start(0, 250_000_000)  # it had to start over
        time.sleep(0.05)
    rates = [float(rate) for state in line_states(output) for rate in re.findall(r"([\d.]+)MB/s", state)]
    assert rates
    assert max(rates) < 150


def test_progress_without_a_display_accepts_all_calls():
    with Progress() as progress, progress.gauge(NAME) as gauge:
        gauge.start(0, 1)
        progress.note("something")


def test_an_error_says_how_to_do_without_tqdm():
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules["tqdm"] = None  # as if it were not installed
from {ProgressDisplay.__module__} import ProgressDisplay
ProgressDisplay(print, None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "lacks tqdm" in done.stderr
    assert "set torch_extension_progress to false" in done.stderr

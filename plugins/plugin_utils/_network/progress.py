# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The progress of downloads, shown to the operator: one line that changes in place, or, in a log, a line now and then."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact

try:
    from tqdm import tqdm
    from tqdm.std import EMA  # type: ignore[attr-defined]  # types-tqdm lacks it
except ImportError as exc:
    TQDM_IMPORT_ERROR: ImportError | None = exc
else:
    TQDM_IMPORT_ERROR = None

_TERMINAL_SECONDS = 1.0  # between two states of the line
_FIRST_SECONDS, _NEXT_SECONDS = 10.0, 30.0  # from the start of a download to its first line in a log, and between two
_TURN_SECONDS = 3.0  # for each file, where not all fit into the line
_SHORTEST_NAME = 20
_STATE = "{percentage:.0f}% {n_fmt}/{total_fmt} {rate_fmt} {remaining} left"
_STATE_WITHOUT_TOTAL = "{n_fmt} {rate_fmt}"
_START_OF_EMPTY_LINE = "\r\x1b[K"

Show = t.Callable[[str, bool], None]


class Gauge:
    """How far one download is. The download writes ``done`` and ``total``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0  # bytes
        self.total: int | None = None  # bytes
        self.started: float | None = None  # on the monotonic clock, when the first byte came

    def start(self, done: int, total: int | None) -> None:
        """A response begins. After a broken connection it is another one, and the clock goes on."""
        self.done, self.total = done, total
        self.started = self.started or time.monotonic()


class Progress:
    """Takes what downloads report, and shows nothing."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    @contextlib.contextmanager
    def gauge(self, name: str) -> t.Iterator[Gauge]:
        """The gauge of one download."""
        yield Gauge(name)

    def note(self, text: str) -> None:
        """Tell the operator what happens otherwise unseen, such as why nothing is downloaded."""


class ProgressDisplay(Progress):
    """Shows how far downloads are while it is entered. Only one thread at a time shows something."""

    def __init__(
        self, show: Show, columns: int | None, interval: float = _NEXT_SECONDS, delay: float = _FIRST_SECONDS
    ) -> None:
        """
        :param show: shows a text, with a newline after it or without
        :param columns: of the terminal; None if there is none
        :param interval: seconds between two lines of a download, where there is no terminal
        :param delay: seconds from the start of a download to its first line there
        :raises TorchExtensionError: if a library is missing
        """
        require_library("tqdm", TQDM_IMPORT_ERROR, "set torch_extension_progress to false")
        self._show, self._columns, self._interval, self._delay = show, columns, interval, delay
        self._views: dict[Gauge, _GaugeView] = {}
        self._line_is_open = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProgressDisplay:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            if self._line_is_open:
                self._write(_START_OF_EMPTY_LINE, False)

    @contextlib.contextmanager
    def gauge(self, name: str) -> t.Iterator[Gauge]:
        gauge = Gauge(name)
        with self._lock:
            self._views[gauge] = _GaugeView(gauge, self._delay)
        try:
            yield gauge
        finally:
            with self._lock:
                view = self._views.pop(gauge)
                if view.was_shown:
                    view.measure()
                    self._write_line(view.summary())

    def note(self, text: str) -> None:
        with self._lock:
            self._write_line(redact(text))

    def _run(self) -> None:
        while not self._stop.wait(_TERMINAL_SECONDS if self._columns else min(1.0, self._interval)):
            with self._lock:
                under_way = [view for view in self._views.values() if view.gauge.started]
                for view in under_way:
                    view.measure()
                if self._columns:
                    self._rewrite_line(under_way)
                else:
                    self._write_log_lines(under_way)

    def _write_log_lines(self, under_way: list[_GaugeView]) -> None:
        for view in under_way:
            if view.age() >= view.next_line_at:
                view.next_line_at = view.age() + self._interval
                view.was_shown = True
                self._write_line(f"{view.gauge.name} {view.state()}")

    def _rewrite_line(self, under_way: list[_GaugeView]) -> None:
        if not under_way:
            return
        columns = (self._columns or 0) - 1  # a terminal may wrap after its last column
        turn = int(time.monotonic() / _TURN_SECONDS) % len(under_way)
        states = [(view.gauge.name, view.state()) for view in under_way[turn:] + under_way[:turn]]
        fitting = len(states)
        while fitting > 1 and _shortest_width(states, fitting) > columns:
            fitting -= 1
        suffix = _more_suffix(len(states) - fitting)
        room = columns - len(suffix) - sum(len(state) + 3 for _name, state in states[:fitting]) + 2
        parts = [
            f"{_shortened(name, max(room // fitting, _SHORTEST_NAME))} {state}" for name, state in states[:fitting]
        ]
        self._write(_START_OF_EMPTY_LINE + ("; ".join(parts) + suffix)[:columns], False)
        self._line_is_open = True
        for view in under_way:
            view.was_shown = True

    def _write_line(self, text: str) -> None:
        self._write((_START_OF_EMPTY_LINE if self._line_is_open else "") + text, True)

    def _write(self, text: str, newline: bool) -> None:
        self._show(text, newline)
        self._line_is_open = False


class _GaugeView:
    """What is shown of a gauge."""

    def __init__(self, gauge: Gauge, next_line_at: float) -> None:
        self.gauge = gauge
        self.next_line_at = next_line_at  # seconds after its start
        self.was_shown = False
        self._rate = EMA(0.3)
        self._received = 0
        self._last: tuple[float, int] | None = None

    def age(self) -> float:
        return time.monotonic() - (self.gauge.started or time.monotonic())

    def measure(self) -> None:
        now, done = time.monotonic(), self.gauge.done
        if self._last and now > self._last[0]:
            received = max(done - self._last[1], 0)  # less than before, if it had to start over
            self._received += received
            self._rate(received / (now - self._last[0]))
        self._last = (now, done)

    def state(self) -> str:
        gauge = self.gauge
        return tqdm.format_meter(
            gauge.done,
            gauge.total or 0,
            self.age(),
            bar_format=_STATE if gauge.total else _STATE_WITHOUT_TOTAL,
            rate=self._rate() or None,
            unit="B",
            unit_scale=True,
        ).strip()

    def summary(self) -> str:
        """What came, in how long, after failures too: their reason comes with the task's result."""
        gauge = self.gauge
        whole = "" if gauge.done == gauge.total or gauge.total is None else f" of {tqdm.format_sizeof(gauge.total)}B"
        return (
            f"{gauge.name} {tqdm.format_sizeof(gauge.done)}B{whole} in {tqdm.format_interval(self.age())},"
            f" {tqdm.format_sizeof(self._received / max(self.age(), 0.001))}B/s"
        )


def _shortest_width(states: list[tuple[str, str]], number: int) -> int:
    parts = [_SHORTEST_NAME + 1 + len(state) for _name, state in states[:number]]
    return sum(parts) + 2 * (number - 1) + len(_more_suffix(len(states) - number))


def _more_suffix(number: int) -> str:
    return f"; {number} more" if number else ""


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What is under way, told to the operator: in a terminal one line that changes in place, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

try:
    from tqdm import tqdm
    from tqdm.std import EMA
except ImportError as exc:
    TQDM_IMPORT_ERROR = exc
else:
    TQDM_IMPORT_ERROR = None

_TERMINAL_SECONDS = 1.0  # between two states of the line
_FIRST_SECONDS, _NEXT_SECONDS = 10.0, 30.0  # from the start of a download to its first line in a log, and between two
_TURN_SECONDS = 3.0  # for each file, where not all fit into the line
_SHORTEST_NAME = 20
_STATE = "{percentage:.0f}% {n_fmt}/{total_fmt} {rate_fmt} {remaining} left"
_STATE_WITHOUT_TOTAL = "{n_fmt} {rate_fmt}"
_START_OF_EMPTY_LINE = "\r\x1b[K"

Say = t.Callable[[str, bool], None]


class Gauge:
    """How far one download is. Whoever downloads writes ``done`` and ``total``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0  # bytes
        self.total: int | None = None  # bytes
        self.started: float | None = None  # on the monotonic clock, when the first byte came

    def start(self, done: int, total: int | None) -> None:
        """An answer begins. After a cut it is another one, and the clock goes on."""
        self.done, self.total = done, total
        self.started = self.started or time.monotonic()


class Silence:
    """Tells nothing."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    @contextlib.contextmanager
    def gauge(self, name: str) -> t.Iterator[Gauge]:
        """Where a download writes how far it is."""
        yield Gauge(name)

    def note(self, text: str) -> None:
        """Something that the operator may wonder about, such as why nothing happens."""


class Progress(Silence):
    """Tells how far downloads are for as long as it is entered. All that it says comes from one thread at a time."""

    def __init__(
        self, say: Say, columns: int | None, every: float = _NEXT_SECONDS, first: float = _FIRST_SECONDS
    ) -> None:
        """
        :param say: shows a text, with a newline after it or without
        :param columns: of the terminal; None if there is none
        :param every: seconds between two lines of a download, where there is no terminal
        :param first: seconds from the start of a download to its first line there
        :raises TorchExtensionError: if a library is missing
        """
        if TQDM_IMPORT_ERROR:
            raise TorchExtensionError(
                f"The Python that runs Ansible on the control node lacks tqdm ({TQDM_IMPORT_ERROR}). Install the"
                " collection's requirements.txt into it, or set torch_extension_progress to false."
            )
        self._say, self._columns, self._every, self._first = say, columns, every, first
        self._shown: dict[Gauge, _Shown] = {}
        self._line_is_open = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
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
            self._shown[gauge] = _Shown(gauge, self._first)
        try:
            yield gauge
        finally:
            with self._lock:
                shown = self._shown.pop(gauge)
                if shown.was_told:
                    shown.measure()
                    self._line(shown.summary())

    def note(self, text: str) -> None:
        with self._lock:
            self._line(text)

    def _run(self) -> None:
        while not self._stop.wait(_TERMINAL_SECONDS if self._columns else min(1.0, self._every)):
            with self._lock:
                under_way = [shown for shown in self._shown.values() if shown.gauge.started]
                for shown in under_way:
                    shown.measure()
                if self._columns:
                    self._rewrite(under_way)
                else:
                    self._log(under_way)

    def _log(self, under_way: list[_Shown]) -> None:
        for shown in under_way:
            if shown.age() >= shown.due:
                shown.due = shown.age() + self._every
                shown.was_told = True
                self._line(f"{shown.gauge.name} {shown.state()}")

    def _rewrite(self, under_way: list[_Shown]) -> None:
        if not under_way:
            return
        columns = (self._columns or 0) - 1  # a terminal may wrap after its last column
        turn = int(time.monotonic() / _TURN_SECONDS) % len(under_way)
        states = [(shown.gauge.name, shown.state()) for shown in under_way[turn:] + under_way[:turn]]
        fitting = len(states)
        while fitting > 1 and _width(states, fitting) > columns:
            fitting -= 1
        more = _more(len(states) - fitting)
        room = columns - len(more) - sum(len(state) + 3 for _name, state in states[:fitting]) + 2
        parts = [
            f"{_shortened(name, max(room // fitting, _SHORTEST_NAME))} {state}" for name, state in states[:fitting]
        ]
        self._write(_START_OF_EMPTY_LINE + ("; ".join(parts) + more)[:columns], False)
        self._line_is_open = True
        for shown in under_way:
            shown.was_told = True

    def _line(self, text: str) -> None:
        self._write((_START_OF_EMPTY_LINE if self._line_is_open else "") + text, True)

    def _write(self, text: str, newline: bool) -> None:
        self._say(text, newline)
        self._line_is_open = False


class _Shown:
    """A gauge, and what of it was told."""

    def __init__(self, gauge: Gauge, due: float) -> None:
        self.gauge = gauge
        self.due = due  # seconds after its start
        self.was_told = False
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
            gauge.total,
            self.age(),
            bar_format=_STATE if gauge.total else _STATE_WITHOUT_TOTAL,
            rate=self._rate() or None,
            unit="B",
            unit_scale=True,
        ).strip()

    def summary(self) -> str:
        """What came, in how long. It is told of failures too: their reason comes with the task's result."""
        gauge = self.gauge
        whole = "" if gauge.done == gauge.total or gauge.total is None else f" of {tqdm.format_sizeof(gauge.total)}B"
        return (
            f"{gauge.name} {tqdm.format_sizeof(gauge.done)}B{whole} in {tqdm.format_interval(self.age())},"
            f" {tqdm.format_sizeof(self._received / max(self.age(), 0.001))}B/s"
        )


def _width(states: list[tuple[str, str]], number: int) -> int:
    parts = [_SHORTEST_NAME + 1 + len(state) for _name, state in states[:number]]
    return sum(parts) + 2 * (number - 1) + len(_more(len(states) - number))


def _more(number: int) -> str:
    return f"; {number} more" if number else ""


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"

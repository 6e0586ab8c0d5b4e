# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs what reads hostile input in a process of its own, which gets so much time and memory and no more."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import pickle
import re
import resource
import select
import signal
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn

_PATIENCE = 600  # seconds on the clock, until a process that waits and computes nothing is ended, too
_LAST_INPUT_SIZE = 4096  # bytes of an input that are shown


class _OutOfTimeError(BaseException):
    """No Exception, so that nothing that is tested takes it for an error of its own input."""


def run(act: Callable[[], Any], seconds: float = 2, mebibytes: int = 128, patience: float = _PATIENCE) -> Any:
    """Run something that must neither hang nor take all memory, and return what it returns, which is pickled.

    :param seconds: of CPU time, which does not depend on what else this machine does
    :param mebibytes: of memory beyond what this process has
    :param patience: seconds on the clock
    :raises AssertionError: if it takes more, or raises anything
    """

    def timed() -> Any:
        with _limited_time(seconds):
            return act()

    return _run_in_child(timed, mebibytes, patience, lambda: "")


def check_property(
    check: Callable[[], None],
    seconds: float = 2,
    mebibytes: int = 128,
    patience: float = _PATIENCE,
    result: Callable[[], Any] = lambda: None,
) -> Any:
    """Check a property (:func:`hypothesis.given`) in a process of its own.

    :param seconds: of CPU time for each example
    :param mebibytes: of memory beyond what this process has
    :param patience: seconds on the clock, for all examples
    :param result: called there after the last example; what it returns is returned here
    :raises AssertionError: with the example that fails or takes more
    """
    last_input = mmap.mmap(-1, _LAST_INPUT_SIZE)  # which outlives a process that is killed
    inner = check.hypothesis.inner_test  # type: ignore[attr-defined]

    @functools.wraps(inner)
    def timed(*args: Any, **kwargs: Any) -> None:
        text = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        last_input[:] = text.encode(errors="replace")[:_LAST_INPUT_SIZE].ljust(_LAST_INPUT_SIZE, b"\0")
        with _limited_time(seconds):
            inner(*args, **kwargs)

    def check_all() -> Any:
        check.hypothesis.inner_test = timed  # type: ignore[attr-defined]
        check()
        return result()

    def describe_input() -> str:
        return "\nThe last input: " + last_input[:].rstrip(b"\0").decode(errors="replace")

    return _run_in_child(check_all, mebibytes, patience, describe_input)


def _run_in_child(act: Callable[[], Any], mebibytes: int, patience: float, describe_input: Callable[[], str]) -> Any:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _run_and_exit(act, mebibytes, sending)
    os.close(sending)
    try:
        answer = _read_until(receiving, time.monotonic() + patience)
    finally:
        os.close(receiving)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if answer is None:
        raise AssertionError(f"It had not ended after {patience} s.{describe_input()}")
    if not answer:
        number = os.WTERMSIG(status)
        fact = "It took too much CPU time, and no signal ended it" if number == signal.SIGXCPU else "It was killed"
        raise AssertionError(f"{fact} ({signal.Signals(number).name}).{describe_input()}")
    outcome, value = pickle.loads(answer)  # noqa: S301 (our own)
    if outcome == "failed":
        raise AssertionError(f"{value}{describe_input()}")
    return value


def _run_and_exit(act: Callable[[], Any], mebibytes: int, sending: int) -> NoReturn:
    try:
        with open(sending, "wb", buffering=0) as answer:
            try:
                _set_limit(resource.RLIMIT_AS, _own_memory() + (mebibytes << 20))
                message = pickle.dumps(("done", act()))
            except BaseException:
                _set_limit(resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS)[1])
                message = pickle.dumps(("failed", traceback.format_exc()))
            while message:
                message = message[answer.write(message) :]
    finally:
        os._exit(0)  # nothing of pytest's is ended twice


def _read_until(handle: int, end: float) -> bytes | None:
    """All that is written to a pipe, or None if that takes too long."""
    pieces = []
    while select.select([handle], [], [], max(end - time.monotonic(), 0))[0]:
        piece = os.read(handle, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """Time of the CPU. Python ends what takes more; the system ends a function in C that does not return to Python."""

    def stop(*_arguments: object) -> NoReturn:
        raise _OutOfTimeError(f"it took more than {seconds} s of CPU time")

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = int(used.ru_utime + used.ru_stime + seconds) + 2
    _set_limit(resource.RLIMIT_CPU, hard)
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _set_limit(kind: int, value: int) -> None:
    """Set a limit, as far as whoever runs the tests lets us."""
    most = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _own_memory() -> int:
    """The size of this process' address space, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmSize:\s+(\d+) kB", status)[1]) << 10

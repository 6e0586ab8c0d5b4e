# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""End what gets nowhere: a connection, the head of an answer, its body, an upload, a file on its way through ssh.

The timeout of a socket ends only a silence. One byte now and then keeps that from ending, and everybody else waiting.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


class Limit(t.NamedTuple):
    """How slow something may be."""

    seconds: float  # of a window
    size: int = 0  # bytes that each window must bring; where it is 0, all must be over within one window
    total_seconds: float = float("inf")  # for all of it


#: for bodies and uploads of any size: 1 KiB a second, on the average of a minute
PACE = Limit(60.0, 60 << 10)
#: to connect, and for the head of an answer: as often the time after which a silence ends either
SILENCES = 2


class SlowError(OSError):
    """What was watched was too slow, and was ended."""


class Watch:
    """Watches what happens while it is entered, from a thread of its own.

    It raises a SlowError if it had to end it, in the place of the error that came of that.
    """

    def __init__(self, limit: Limit, end: t.Callable[[], object], done: t.Callable[[], int] = lambda: 0) -> None:
        """
        :param end: ends what is watched, so that who waits for it gets an error; called from the other thread
        :param done: tells how many bytes have come, or gone; only more each time
        """
        self._limit, self._end, self._done = limit, end, done
        self._is_over = threading.Event()
        self._reason = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._reason and (exc is None or isinstance(exc, Exception)) and not isinstance(exc, TorchExtensionError):
            raise SlowError(self._reason) from exc

    def _run(self) -> None:
        limit, begun, done = self._limit, time.monotonic(), self._done()
        while True:
            left = begun + limit.total_seconds - time.monotonic()
            if self._is_over.wait(max(min(limit.seconds, left), 0)):
                return
            if left <= limit.seconds:
                self._reason = f"it was not over after {limit.total_seconds:.0f} s"
            elif not limit.size:
                self._reason = f"no answer came in {limit.seconds:.0f} s"
            elif self._done() < done + limit.size:
                self._reason = f"less than {limit.size} bytes were transferred in {limit.seconds:.0f} s"
            if self._reason:
                with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has just ended
                    self._end()
                return
            done = self._done()


def duplicate(line: socket.socket) -> socket.socket:
    """Another handle of a connection, which stays when TLS takes the first one over."""
    return socket.socket(fileno=os.dup(line.fileno()))


def hang_up(line: socket.socket | None) -> None:
    """End a connection: whoever reads from it or writes to it gets an error."""
    with contextlib.suppress(OSError):
        if line is not None:
            line.shutdown(socket.SHUT_RDWR)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill what runs at one of its steps on the file system."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from typing import Callable, Iterator

import pytest


def run_until_killed(act: Callable[[], object], calls: int, *names: str) -> bool:
    """Run something that dies once it has called functions of ``os`` so many times. Returns whether it has come to that.

    :param names: of the functions that count
    """
    left = iter(range(calls))

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*arguments)

        return called

    with pytest.MonkeyPatch.context() as patched:
        for name in names:
            patched.setattr(os, name, dying(getattr(os, name)))
        try:
            act()
        except KeyboardInterrupt:
            return True
    return False


#: what Python tells its audit hooks before it changes anything of a file system (docs of ``sys.addaudithook``)
_CHANGES = (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def kills_at_each_write(act: Callable[[], object], first: int = 0) -> Iterator[int]:
    """Run something again and again, each time in a process that SIGKILL ends just before its next change of a file system.

    Neither ``finally`` nor ``with`` runs then, and what it has started itself is killed, too.

    :returns: after each kill, how many changes there had been; it ends once a run has come to its end
    """
    for changes in itertools.count(first):
        child = os.fork()
        if not child:
            os.setsid()
            _kill_after(changes)
            try:
                act()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "it has failed, and was not killed"
            return
        yield changes


def _kill_after(changes: int) -> None:
    left = iter(range(changes))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        is_open = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        is_change = is_open or event in _CHANGES
        if is_change and str(arguments[0]) != os.devnull and next(left, None) is None:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Locks of files on the control node (flock), for which nobody waits in silence, nor for ever.

The system frees the lock of a process that died, so one that is held is held by a process that lives. Who holds it stands in the
file: the system does not tell for a file system that comes from another machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_STEP_SECONDS = 0.1  # between two tries
_TELL_AFTER_SECONDS = 10.0
_HOLDER = "held by"  # begins the line

Notify = t.Callable[[str], None]


class Patience(t.NamedTuple):
    """How long to wait."""

    seconds: float  # without anything changing
    progress: t.Callable[[], object] = lambda: None  # what changes as long as the holder gets on


def display(text: str) -> None:
    """Show a text to the operator, from any process of Ansible's."""
    from ansible.utils.display import Display

    Display().display(text)


def open_lock(path: str) -> t.TextIO:
    """Open the file of a lock, without following a link and with all that is in it, or make it.

    :raises OSError: if it cannot be opened, or is a link or no file
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", path)
    return open(handle, "a+", encoding="utf-8")


def lock_file(file: t.TextIO, path: str, patience: Patience, notify: Notify = display) -> None:
    """Take the lock of a file (:func:`open_lock`); wait while another process has it.

    Of several that wait on this machine one tells the operator so. :func:`write_holder` is to follow.

    :param path: of the file
    :param notify: takes what is told while waiting
    :raises TorchExtensionError: if nothing changes for too long
    :raises OSError: if the file system has no locks
    """
    with contextlib.ExitStack() as stack:
        begun = since = time.monotonic()
        seen: object = None
        is_told = False
        while not _try_to_lock(file):
            now, holder = time.monotonic(), _read_holder(path)
            current = (holder, patience.progress())
            if current != seen:
                seen, since = current, now
            if now - since > patience.seconds:
                raise TorchExtensionError(
                    f"{path} on the control node is locked by {holder}, and nothing has changed for {_duration(now - since)}. Another"
                    " run is at work there, or hangs: wait for it, or end that process; or set torch_extension_cache_dir to another"
                    " folder for this run."
                )
            if not is_told and now - begun > _TELL_AFTER_SECONDS:
                is_told = True
                if _is_first_to_tell(path, stack):
                    notify(
                        f"Waiting for {holder}, which has locked {path} on the control node. This is given up once nothing has"
                        f" changed for {_duration(patience.seconds)}."
                    )
            time.sleep(_STEP_SECONDS)


def write_holder(file: t.TextIO) -> None:
    """Write into a file that is locked who has done so, in place of what was there.

    :raises OSError: if it cannot be written
    """
    file.truncate(0)
    file.write(f"{_HOLDER} {os.getpid()} {socket.gethostname()} {time.strftime('%H:%M:%S')}\n")
    file.flush()


def _try_to_lock(file: t.TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_first_to_tell(path: str, stack: contextlib.ExitStack) -> bool:
    """Whether nobody else on this machine waits for this lock and has told; that holds as long as the stack does."""
    try:
        beside = f"{path.removesuffix('.lock')}.waiting.lock"
        return _try_to_lock(stack.enter_context(open_lock(beside)))
    except OSError:
        return True


def _read_holder(path: str) -> str:
    """The process that has the lock, in words."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            told = re.fullmatch(rf"{_HOLDER} (\d+) (\S+) (\S+)\s*", file.read(300))
    except OSError:
        told = None
    if not told:
        return "another process"
    where = "" if told[2] == socket.gethostname() else f" on {told[2]}"
    return f"process {told[1]}{where} since {told[3]}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"

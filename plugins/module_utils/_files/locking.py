# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Locks of files and folders, for which nobody waits for ever. The system frees those of a process that died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.users import user_name

WAIT_SECONDS = 600.0  # an installation that tries its wheel out on many GPUs takes half of it

# 3: FLOCK  ADVISORY  WRITE 4711 08:02:131072 0 EOF; an arrow stands before those who wait
_HELD = re.compile(r"^\d+: FLOCK +\S+ +\S+ +(?P<pid>\d+) +(?P<major>\w+):(?P<minor>\w+):(?P<inode>\d+) ", re.MULTILINE)


def lock(handle: int, path: str, seconds: float = WAIT_SECONDS) -> bool:
    """Lock an open file or folder for this process, until it is closed; wait while another one has it.

    A file system without locks gives none, and that is no error.

    :param path: of what is open, for the error
    :returns: whether another one had it
    :raises TorchExtensionError: if another one still has it then
    """
    # In a thread, for on NFS even a question that is not to wait may wait for a server of locks that does not answer.
    waited: list[bool] = []
    thread = threading.Thread(target=_lock, args=[handle, waited], daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TorchExtensionError(
            f"{path} is held {describe_holder(handle)}, and was not freed within {seconds:.0f} s. Nothing was changed. Wait for that to"
            " end, or end it, and run this again."
        )
    return bool(waited)


@contextlib.contextmanager
def locked_folder(folder: str) -> t.Iterator[bool]:
    """Lock a folder: what is in it is changed by one process at a time.

    :returns: whether another one had it, so that what was read before may have changed
    :raises TorchExtensionError: if another one does not let go
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield lock(handle, folder)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked_if_there(path: str) -> t.Iterator[None]:
    """Lock a file or folder that is replaced as a whole, if it is there: nobody else replaces it meanwhile.

    :raises TorchExtensionError: if another one does not let go
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:  # such as not there
                break
            stack.callback(os.close, handle)
            lock(handle, path)
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        yield


def _lock(handle: int, waited: list[bool]) -> None:
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited.append(True)
            fcntl.flock(handle, fcntl.LOCK_EX)


def describe_holder(handle: int) -> str:
    """Who has the lock of an open file: process, user and since when that runs, or that this machine cannot tell.

    :returns: words that follow "held"
    """
    pid = _find_holder(os.fstat(handle))
    try:
        user, since = os.stat(f"/proc/{pid}").st_uid, time.localtime(_started(f"/proc/{pid}/stat"))
    except (OSError, ValueError, IndexError):
        return "by a process that this machine does not know (of another one, or in a container)"
    return f"by process {pid} of user {user_name(user)} since {time.strftime('%Y-%m-%d %H:%M:%S', since)}"


def _find_holder(status: os.stat_result) -> int | None:
    locks = [match for match in _HELD.finditer(_read("/proc/locks")) if int(match["inode"]) == status.st_ino]
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    here = [match for match in locks if (int(match["major"], 16), int(match["minor"], 16)) == device]
    # Some file systems have another number there. What may be another file's lock is not told.
    holders = here or (locks if len(locks) == 1 else [])
    return int(holders[0]["pid"]) if holders else None


def _started(stat_path: str) -> float:
    """When a process was started, in seconds since the epoch (proc(5))."""
    fields = _read(stat_path).rpartition(")")[2].split()  # the name before it may hold anything
    booted = re.search(r"^btime (\d+)$", _read("/proc/stat"), re.MULTILINE)
    return int(booted[1] if booted else "") + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

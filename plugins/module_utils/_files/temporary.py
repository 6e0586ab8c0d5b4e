# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Files and folders that are there only while a process works on them, and what processes that were killed have left of these.

All of them are named alike, and the process that has made one holds its lock as long as it lives: one that nobody has locked is a
leftover. What a later run goes on with (a part of a download) has a name of its own kind instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
import typing as t

PREFIX = ".torch_extension-"

#: Where the file system has no locks, what has not changed for so long is nobody's.
_ABANDONED_SECONDS = 24 * 3600

_MakeEntry = t.Callable[[], "tuple[int, str]"]  # returns its handle and its path


@contextlib.contextmanager
def temporary_file(folder: str) -> t.Iterator[tuple[t.IO[bytes], str]]:
    """Make an empty file in a folder, for this user alone. It is removed in the end, unless it has got another name.

    :returns: the open file, and its path
    """
    handle, path = _make_locked(lambda: tempfile.mkstemp(prefix=PREFIX, dir=folder))
    with os.fdopen(handle, "wb") as file:
        try:
            yield file, path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def temporary_folder(folder: str) -> t.Iterator[str]:
    """Make a folder in a folder, for this user alone. It is removed in the end, with what is in it."""

    def make() -> tuple[int, str]:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=folder)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), path

    handle, path = _make_locked(make)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def list_leftovers(folder: str) -> list[str]:
    """The names of what killed processes have left in a folder; none if it cannot be read."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(PREFIX))
    except OSError:
        return []
    return [name for name in names if is_leftover(os.path.join(folder, name))]


def is_leftover(path: str) -> bool:
    """Whether nobody works on a temporary file or folder any more."""
    with _lock_leftover(path) as is_ours:
        return is_ours


def remove_leftovers(folder: str) -> list[str]:
    """Remove what killed processes have left in a folder. Returns the names of it."""
    return [name for name in list_leftovers(folder) if remove_leftover(os.path.join(folder, name))]


def remove_leftover(path: str) -> bool:
    """Remove a temporary file or folder, unless somebody works on it. Returns whether it was removed."""
    with _lock_leftover(path) as is_ours:
        if is_ours and stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif is_ours:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return is_ours and not os.path.lexists(path)


def is_free(path: str) -> bool:
    """Whether no process has locked a file or folder, as far as its file system tells."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return _try_to_lock(handle) is not False
    finally:
        os.close(handle)


def _make_locked(make: _MakeEntry) -> tuple[int, str]:
    """Make a file or folder, and lock it before somebody else takes it for a leftover."""
    while True:
        handle, path = make()
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_named(handle, path):
            return handle, path
        os.close(handle)


@contextlib.contextmanager
def _lock_leftover(path: str) -> t.Iterator[bool]:
    """Lock a leftover, so that no other run takes it at the same time. Yields whether it is one."""
    try:
        status = os.lstat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise FileNotFoundError
        # NFS locks a file for those alone who may write to it
        access = os.O_RDWR if stat.S_ISREG(status.st_mode) else os.O_RDONLY
        handle = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        is_locked = _try_to_lock(handle)
        if is_locked is None:
            is_locked = time.time() - status.st_mtime > _ABANDONED_SECONDS
        yield is_locked and _is_named(handle, path)
    finally:
        os.close(handle)


def _try_to_lock(handle: int) -> bool | None:
    """Whether the lock of what is open is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_named(handle: int, path: str) -> bool:
    """Whether what is open still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False

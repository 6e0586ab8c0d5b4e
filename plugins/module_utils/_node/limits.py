# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""How a program ended, and which limit of its machine that was: no other wheel or Python helps there."""

from __future__ import annotations

import os
import re
import signal

_MAPPING = re.compile(r"(?P<path>/[^:'\"]+): failed to map segment from shared object")

# The words of the system, of glibc, of Python and of torch, and what they mean for an operator.
_MEANINGS = (
    (
        "failed to map segment from shared object",
        "a library got no room in memory, or lies on a file system that is mounted noexec: raise the limit of address space"
        " (ulimit -v), or mount that without noexec",
    ),
    (
        "Cannot allocate memory|^MemoryError|bad_alloc",
        "there is too little memory: free some, or raise the limit (ulimit -v, or memory of the cgroup)",
    ),
    ("Too many open files", "a process may have too few open files: raise the limit (ulimit -n)"),
    (
        "can't start new thread|pthread_create|Resource temporarily unavailable",
        "the user may have too few processes and threads: raise the limit (ulimit -u, TasksMax of systemd)",
    ),
    (
        "/dev/shm|shared memory object|SemLock",  # noqa: S108 - it is named, not used
        "there is no room in /dev/shm, or no right to write there: mount a tmpfs there (--shm-size of a container), with mode 1777",
    ),
    ("No space left on device", "a disk is full: make room there, or where TMPDIR leads to (/tmp)"),
    (
        "No usable temporary directory",
        "there is no folder for temporary files: make room in /tmp and let the user write there",
    ),
    ("Disk quota exceeded", "the user's quota is used up: remove files, or raise it"),
    ("File too large", "a file may not get as large: raise the limit (ulimit -f)"),
    (
        "ended by SIGKILL",
        "somebody has killed it: mostly the kernel for want of memory (dmesg tells), or a limit of time (ulimit -t). Free memory,"
        " or raise the limit",
    ),
    ("ended by SIGXCPU", "it may not compute for as long: raise the limit (ulimit -t)"),
    ("ended by SIGXFSZ", "a file may not get as large: raise the limit (ulimit -f)"),
    ("ended by SIGBUS", "a file in its memory got no room: mostly /dev/shm or a disk is full. Make room"),
)

_CLOSED = re.compile(r"(Shared )?[Cc]onnection to \S+ closed\.?")  # ssh's own words
_ERROR = re.compile(r"(Fatal Python error|[\w.]*(Error|Exception|Interrupt|Exit)\b)")


def describe_end(status: int) -> str:
    """How a program ended, as the end of a sentence.

    :param status: of subprocess, or of a shell
    """
    number = -status if status < 0 else status - 128
    if number in signal.Signals.__members__.values():
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit status {status}"


def last_words(*outputs: str) -> str:
    """The line of a program's output that says most of why it ended, without a full stop.

    :param outputs: the first that is not empty counts
    """
    for output in outputs:
        lines = [line.strip() for line in output.splitlines()]
        lines = [line for line in lines if line and not _CLOSED.fullmatch(line)]
        errors = [line for line in lines if _ERROR.match(line)]
        if lines:
            return (errors or lines)[-1].rstrip(".")
    return ""


def explain_limit(words: str, is_here: bool = False) -> str | None:
    """Which limit a failure means, and its knob, without a full stop; None if it means none.

    :param words: of the program, or as :func:`describe_end` has them
    :param is_here: whether it ran on this machine, so that one can look closer
    """
    library = _MAPPING.search(words)
    if library and is_here and _is_noexec(library["path"]):
        folder = os.path.dirname(library["path"])
        return f"{folder} is mounted noexec, so that no library can be loaded from there: mount it without"
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, words)), None)


def _is_noexec(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except OSError:
        return False

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The processes of a build on this machine, by a variable that all of them inherit."""

from __future__ import annotations

import contextlib
import os
import signal
import time

#: its value is the folder of the job
MARK = "TORCH_EXTENSION_BUILD_FOLDER"

_SECONDS = 10.0  # in which what was killed ends


def find_processes(folder: str) -> list[int]:
    """Processes of the build in a folder, without this one."""
    entry = f"{MARK}={folder}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        # OSError: it has ended, or is another user's
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if entry in file.read().split(b"\0"):
                found.append(int(name))
    return found


def kill_processes(folder: str) -> bool:
    """Kill all processes of the build in a folder but this one, with what they start meanwhile. Returns whether there were any."""
    end = time.monotonic() + _SECONDS
    processes = found = find_processes(folder)
    while processes and time.monotonic() < end:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
        processes = find_processes(folder)
    return bool(found)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The process that builds: it runs by itself, and writes down what has become of it."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import time
import traceback
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import build_log, processes
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.build import build
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import (
    JobFolder,
    read_json,
    write_json,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.logged_commands import (
    LoggedCommands,
    TimeUpError,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

RUNNING, FINISHED, FAILED = "running", "finished", "failed"


class _StoppedError(Exception):
    """Somebody has ended this process: Slurm, or who shuts the machine down."""


def main(arguments: t.Sequence[str]) -> None:
    """Run the job of a folder.

    :param arguments: the folder, and the number of an open file that has its lock; without it, the lock is taken here
    """
    path, *inherited = arguments
    folder = JobFolder(*os.path.split(path))
    handle = int(inherited[0]) if inherited else os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(handle, False)
    if inherited or try_lock(handle, fcntl.LOCK_EX):
        run_job(folder)


def try_lock(handle: int, kind: int) -> bool:
    """Lock an open file, unless another process has. A file system without locks gives none, and that is no error."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def run_job(folder: JobFolder) -> None:
    """Build, and write down what has come of it. The caller has the lock of the folder."""
    job, before = read_json(folder.job), read_json(folder.state).get("core_seconds", 0.0)
    state: dict[str, t.Any] = {
        "state": RUNNING,
        "message": "begins",
        "started": time.time(),
        "host": socket.gethostname(),
        "wheel": None,
        "compilers": {},
        "core_seconds": before,
    }

    def tell(message: str, **more: t.Any) -> None:
        state.update(message=message, **more)
        write_json(folder.state, state)

    tell("begins")
    signal.signal(signal.SIGTERM, _stop)
    try:
        commands = LoggedCommands(folder, time.monotonic() + job["time_limit"])
        wheel = build(job, folder, commands, dict(os.environ), tell)
        state.update(state=FINISHED, message="", wheel=wheel)
    except BaseException as exc:  # whatever it is: nobody else writes it down
        state.update(state=FAILED, message=_explain(exc, job, folder))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    processes.kill_processes(folder.path)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    state.update(ended=time.time(), core_seconds=round(before + usage.ru_utime + usage.ru_stime, 1))
    write_json(folder.state, state)


def _stop(_signal: int, _frame: t.Any) -> None:
    raise _StoppedError


def _explain(exc: BaseException, job: t.Mapping[str, t.Any], folder: JobFolder) -> str:
    """Why there is no wheel, in words that follow "could not be built:"."""
    if isinstance(exc, TorchExtensionError):
        return str(exc)
    if isinstance(exc, TimeUpError):
        return _explain_time(job, folder)
    if isinstance(exc, _StoppedError):
        return "it was ended by SIGTERM"
    traceback.print_exc()
    return f"it broke off: {exc}" if isinstance(exc, OSError) else f"it broke off: {type(exc).__name__}: {exc}"


def _explain_time(job: t.Mapping[str, t.Any], folder: JobFolder) -> str:
    step, steps = build_log.read_steps(folder.log)
    done = f" at step {step} of {steps}" if steps else ""
    last = build_log.last_compiled(folder.compiled)
    work = f"; the file that a compiler began with last is {build_log.shorten_path(last, folder.sources)}" if last else ""
    return (
        f"it has taken {_in_words(job['time_limit'])}, which is its limit (torch_extension_build_time_limit), and was ended{done}{work}"
    )


def _in_words(seconds: int) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds} seconds"

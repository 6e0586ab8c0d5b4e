# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Start, watch and end the build of a folder."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shlex
import subprocess
import sys
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import (
    checks,
    job,
    job_folder,
    processes,
    build_log,
    slurm_job,
    own_sources,
    takers,
    unpacking,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.builder import look_at
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.commands import make_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import (
    JobFolder,
    read_json,
    write_json,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import make_own_folder, trust

ABSENT, LOST = "absent", "lost"

_SECONDS = 2.0  # for which a question may hold the lock
_PAUSE, _SLURM_PAUSE = 0.5, 5.0  # seconds between two looks at the lock, and between two questions to Slurm
_SLURM_SECONDS = 60.0  # in which a shared file system shows what another machine has written
_START = """\
import sys
sys.path.insert(0, {lib!r})
from {package} import job
job.main(sys.argv[1:])
"""


def start(folder: JobFolder, wanted: t.Mapping[str, t.Any], check_mode: bool = False) -> bool:
    """Start a build, unless it runs or has been done.

    :param wanted: the job, with python, module and trusted_owners
    :returns: whether it was started, or would be
    :raises TorchExtensionError: if it cannot work
    """
    if not check_mode:
        _make_folder(folder.path, wanted.get("trusted_owners", ()))
    with _locked(folder, _SECONDS) as handle:
        if handle is None or _find_slurm_job(folder) or is_finished(folder, wanted):
            return False
        checks.check_files(wanted, folder)
        checks.check_disk(wanted, folder)
        if not wanted["slurm"]:  # with it the machine is another one
            checks.check_memory(wanted)
            here = look_at(wanted["python"], wanted["module"], os.environ, wanted.get("trusted_owners", ()))
            checks.check_tools(wanted, folder, here)
        if check_mode:
            return True
        processes.kill_processes(folder.path)  # of one that was killed compilers may still be at work
        _prepare(folder, wanted)
        if wanted["slurm"]:
            _submit(folder, wanted)
        else:
            _detach(folder, handle)
        return True


def poll(folder: JobFolder) -> dict[str, t.Any]:
    """What has become of a build."""
    # before the state is read: what ends in between has written it
    allocated = read_json(folder.slurm)
    allocation = slurm_job.ask(allocated["job"], make_run(os.environ)) if allocated else None
    has_process = allocation is None and is_running(folder)
    state = read_json(folder.state)
    answer = _describe(state, folder)
    if allocation:
        return {**answer, **_explain_allocation(folder, allocated, allocation, answer["state"])}
    if has_process and answer["state"] != job.RUNNING:  # it has just begun, or is about to end
        return {**answer, "state": job.RUNNING, "message": ""}
    if answer["state"] == job.RUNNING and not has_process:
        lost = "it has ended without a word: it was killed, or the machine was restarted"
        return {**answer, "state": LOST, "message": lost}
    return answer


def wait(folder: JobFolder, seconds: float) -> dict[str, t.Any]:
    """What has become of a build, as soon as it ends, or after some seconds."""
    end = time.monotonic() + seconds
    is_slurms = bool(read_json(folder.slurm))
    pause = _SLURM_PAUSE if is_slurms else _PAUSE
    while time.monotonic() + pause < end:
        if (poll(folder)["state"] != job.RUNNING) if is_slurms else not is_running(folder):
            break
        time.sleep(pause)
    return poll(folder)


def _describe(state: t.Mapping[str, t.Any], folder: JobFolder) -> dict[str, t.Any]:
    step, steps = build_log.read_steps(folder.log)
    end = time.time() if state.get("state") == job.RUNNING else state.get("ended", 0.0)
    return {
        "state": state.get("state", ABSENT),
        "step": step,
        "steps": steps,
        "seconds": round(max(0.0, end - state.get("started", end)), 1),
        "message": state.get("message", ""),
        "log": folder.log,
        "wheel": state.get("wheel"),
        "compilers": state.get("compilers", {}),
        "core_seconds": state.get("core_seconds", 0.0),
    }


def stop(folder: JobFolder, check_mode: bool = False) -> bool:
    """End a build. Returns whether it ran."""
    allocated = _find_slurm_job(folder)
    if not allocated and not is_running(folder):
        return False
    if check_mode:
        return True
    if allocated:
        slurm_job.cancel(allocated, make_run(os.environ))
    processes.kill_processes(folder.path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder.slurm)
    write_json(
        folder.state,
        {**read_json(folder.state), "state": job.FAILED, "ended": time.time(), "message": "it was stopped"},
    )
    return True


def clear(folder: JobFolder, wanted: t.Mapping[str, t.Any], check_mode: bool = False) -> bool:
    """Remove what a build has left, and the files that were brought for it alone. Returns whether there was anything.

    Nothing is removed as long as somebody else waits for the wheel, who will do it then.

    :param wanted: the job, with the taker who no longer waits
    :raises TorchExtensionError: if it still runs
    """
    if wanted.get("taker") and not check_mode:
        takers.forget_taker(folder.takers, wanted["taker"])
    if takers.has_takers(folder.takers):
        return False
    with _locked(folder, 0) as handle:
        if handle is None or _find_slurm_job(folder):
            raise TorchExtensionError(f"The build in {folder.path} runs. Stop it first, or wait for its end.")
        others = [path for path in glob.glob(os.path.join(folder.folder, "*", "job.json")) if path != folder.job]
        kept = {folder.delivered(file) for path in others for file in job_folder.list_files(read_json(path))}
        files = [*job_folder.list_files(read_json(folder.job)), *job_folder.list_files(wanted)]
        paths = [path for path in map(folder.delivered, files) if path not in kept and os.path.lexists(path)]
        found = [path for path in (folder.path, *dict.fromkeys(paths)) if os.path.lexists(path)]
        for path in found if not check_mode else ():
            unpacking.remove(path)
            _remove_empty_folders(os.path.dirname(path), folder.folder)
    return bool(found)


def _remove_empty_folders(path: str, top: str) -> None:
    """Remove a folder and those above it as far as they are empty, up to one that goes with them."""
    with contextlib.suppress(OSError):  # there is something else in it
        while True:
            os.rmdir(path)
            if path == top:
                break
            path = os.path.dirname(path)


def is_finished(folder: JobFolder, wanted: t.Mapping[str, t.Any]) -> bool:
    """Whether there is a wheel already that was built from the same."""
    state = read_json(folder.state)
    wheel = state.get("wheel")
    if state.get("state") != job.FINISHED or not wheel or not job_folder.same_inputs(read_json(folder.job), wanted):
        return False
    return os.path.isfile(wheel["path"]) and sha256_of(wheel["path"]) == wheel["sha256"]


def is_running(folder: JobFolder) -> bool:
    """Whether a process of this machine, or of another that shares the folder, has the lock."""
    if not os.path.exists(folder.lock):
        return False
    handle = os.open(folder.lock, os.O_RDWR)
    try:
        return not job.try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def check_folder(folder: JobFolder, trusted_owners: t.Iterable[str]) -> None:
    """Refuse the folder of a build, if there is one, that others can change.

    :raises TorchExtensionError: with what they can change
    """
    if os.path.isdir(folder.path):
        _make_folder(folder.path, trusted_owners)


def _make_folder(path: str, trusted_owners: t.Iterable[str]) -> None:
    """Make a folder that its user alone may write to.

    :raises TorchExtensionError: if it cannot be made, or others can change it
    """
    try:
        make_own_folder(path, trust(trusted_owners))
    except OSError as exc:
        raise TorchExtensionError(
            f"The folder {path} on this node cannot be made or used ({exc.strerror}). Set torch_extension_build_dir."
        ) from exc


@contextlib.contextmanager
def _locked(folder: JobFolder, seconds: float) -> t.Iterator[int | None]:
    """The lock of a build, as an open file; None if another process keeps it."""
    if not os.path.isdir(folder.path):  # nothing is there, and nothing may be made
        yield -1
        return
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + seconds
        is_ours = job.try_lock(handle, fcntl.LOCK_EX)
        while not is_ours and time.monotonic() < end:
            time.sleep(0.05)
            is_ours = job.try_lock(handle, fcntl.LOCK_EX)
        yield handle if is_ours else None
    finally:
        os.close(handle)


def _prepare(folder: JobFolder, wanted: t.Mapping[str, t.Any]) -> None:
    """Lay out what the process needs; what an earlier run has compiled from the same stays."""
    if not job_folder.same_inputs(read_json(folder.job), wanted):
        for name in os.listdir(folder.path):
            if name != os.path.basename(folder.lock):
                unpacking.remove(os.path.join(folder.path, name))
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder.log, f"{folder.log}.1")
    unpacking.remove(folder.slurm)
    before = {"core_seconds": read_json(folder.state).get("core_seconds", 0.0)}
    # of a machine that Slurm allocates nothing is known before it writes
    begun = {} if wanted["slurm"] else {"state": job.RUNNING, "message": "begins", "started": time.time()}
    write_json(folder.state, {**before, **begun})
    write_json(folder.job, wanted)
    own_sources.write_sources(job.__name__, folder.lib)
    with open(os.path.join(folder.lib, "start.py"), "w", encoding="utf-8") as file:
        file.write(_START.format(lib=folder.lib, package=job.__name__.rpartition(".")[0]))


def _command(folder: JobFolder) -> list[str]:
    return [sys.executable, "-I", "-B", os.path.join(folder.lib, "start.py"), folder.path]


def _detach(folder: JobFolder, handle: int) -> None:
    """Start the process in a session of its own, so that it outlives this one; it takes the lock over."""
    with open(folder.log, "wb") as log:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function # it outlives the module
            [*_command(folder), str(handle)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.path,
            start_new_session=True,
            pass_fds=[handle],
            env={**os.environ, processes.MARK: folder.path},
        )
    process.returncode = 0  # nobody waits for it


def _submit(folder: JobFolder, wanted: t.Mapping[str, t.Any]) -> None:
    script = os.path.join(folder.lib, "start.sh")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nexec {' '.join(map(shlex.quote, _command(folder)))}\n")
    minutes = -(-wanted["time_limit"] // 60) + 1  # ours is told with what was at work
    name = f"build-{wanted['name']}"
    number = slurm_job.submit(wanted["slurm"]["options"], name, folder.log, minutes, script, make_run(os.environ))
    write_json(folder.slurm, {"job": number, "submitted": time.time()})


def _find_slurm_job(folder: JobFolder) -> str | None:
    """The job of Slurm that waits or runs, if there is one."""
    allocated = read_json(folder.slurm)
    if not allocated or slurm_job.ask(allocated["job"], make_run(os.environ)).state == "gone":
        return None
    return str(allocated["job"])


def _explain_allocation(
    folder: JobFolder, allocated: t.Mapping[str, t.Any], found: slurm_job.Allocation, state: str
) -> dict[str, t.Any]:
    """What Slurm's word changes in what the folder tells.

    :param allocated: what was written down when Slurm took the job
    :param state: that the folder tells
    """
    number = allocated["job"]
    if found.state == "waits":
        return {"state": job.RUNNING, "message": f"waits for Slurm, job {number}: {found.words}"}
    if found.state == "runs":
        return {"state": job.RUNNING}
    if state in (job.FINISHED, job.FAILED):
        return {}
    if time.time() - allocated["submitted"] < _SLURM_SECONDS:
        return {"state": job.RUNNING}  # another machine has written it, and this one may see it late
    if state == ABSENT:
        message = (
            f"Slurm's job {number} has ended, and {folder.path} shows nothing of it: the machine that Slurm has allocated does not see that"
            " folder. Set torch_extension_build_dir to a folder that all machines of the cluster share."
        )
    else:
        message = (
            f"Slurm's job {number} has ended before the build: Slurm or somebody has ended it (memory, time, scancel). Look at"
            " torch_extension_build_slurm_options."
        )
    return {"state": LOST, "message": message}

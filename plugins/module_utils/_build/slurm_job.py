# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Slurm's commands for a build: it allocates the machine on which it runs."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run

_WAITING = ("PENDING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_GONE = (
    "",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
)


class Allocation(t.NamedTuple):
    """What Slurm says of a job."""

    state: str  # "waits", "runs" or "gone"
    words: str  # "PENDING (Resources)"


def submit(options: t.Sequence[str], name: str, output: str, minutes: int, script: str, run: Run) -> str:
    """Give a script to Slurm.

    :param options: the operator's own for sbatch
    :param output: the file that gets what the script prints
    :returns: the number of the job, with the name of the cluster behind ; where there is one
    :raises TorchExtensionError: if Slurm does not take it
    """
    own = [] if any(re.match(r"--time\b|-t", option) for option in options) else [f"--time={minutes}"]
    command = [
        "sbatch",
        "--parsable",
        f"--job-name={name}",
        f"--output={output}",
        "--open-mode=append",
        *own,
        *options,
        script,
    ]
    status, out, err = run(command)
    job = out.strip().splitlines()[-1] if out.strip() else ""
    if status or not re.fullmatch(r"\d+(;[\w.-]+)?", job):
        words = (err.strip() or out.strip() or f"exit status {status}").splitlines()[-1].rstrip(".")
        raise TorchExtensionError(
            f"Slurm does not take the build: {words}. Look at torch_extension_build_slurm_options, with which sbatch was called here:"
            f" {' '.join(options) or 'none'}."
        )
    return job


def ask(job: str, run: Run) -> Allocation:
    """What has become of a job.

    :param job: as :func:`submit` returns it
    :raises TorchExtensionError: if Slurm cannot be asked
    """
    status, out, err = run(["squeue", "--noheader", *_name(job), "--format=%T|%r"])
    if status and "Invalid job id" not in err:
        raise TorchExtensionError(
            f"Slurm cannot be asked for its job {job} (squeue): {(err.strip() or 'no answer').splitlines()[-1].rstrip('.')}. Run this again"
            " when it answers."
        )
    state, _bar, reason = out.strip().partition("|")
    if state in _GONE:
        return Allocation("gone", state)
    return Allocation(
        "waits" if state in _WAITING else "runs", f"{state} ({reason})" if reason and reason != "None" else state
    )


def cancel(job: str, run: Run) -> None:
    """End a job. One that has ended is no error."""
    number, _semicolon, _cluster = job.partition(";")
    run(["scancel", *_cluster_option(job), number])


def _name(job: str) -> list[str]:
    return [f"--jobs={job.partition(';')[0]}", *_cluster_option(job)]


def _cluster_option(job: str) -> list[str]:
    cluster = job.partition(";")[2]
    return [f"--clusters={cluster}"] if cluster else []

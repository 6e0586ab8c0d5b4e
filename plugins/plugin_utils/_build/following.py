# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Follow a build until it ends: it goes on without us, so a lost connection is only a pause."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import Build

ABSENT, RUNNING, FINISHED = "absent", "running", "finished"

#: for which the builder waits for the end of a build before it answers
WAIT_SECONDS = 15
_PAUSE_SECONDS = 5.0  # after a builder did not answer
_NOTE_SECONDS = 30.0  # between two lines for the operator
#: seconds without an answer after which a build is left to itself
PATIENCE_SECONDS = 600.0

Job = t.Mapping[str, t.Any]


class LostError(TorchExtensionError):
    """The builder does not answer now."""


def follow(
    build: Build,
    poll: t.Callable[[], Job],
    note: t.Callable[[str], object],
    limit: float,
    patience: float = PATIENCE_SECONDS,
    sleep: t.Callable[[float], object] = time.sleep,
) -> Job:
    """Wait for the end of a build.

    :param poll: asks build_job, which answers as soon as the build ends, or after :data:`WAIT_SECONDS`
    :param note: shows the operator a line
    :param limit: seconds after which an honest builder has ended it
    :returns: the last answer, in which it no longer runs
    :raises TorchExtensionError: if the builder stays away, or builds on and on
    """
    begun = answered = time.monotonic()
    noted = -_NOTE_SECONDS
    while True:
        now = time.monotonic()
        try:
            job = poll()
            answered = time.monotonic()
            if job["state"] != RUNNING:
                return job
            if answered - begun > limit + patience:
                raise TorchExtensionError(
                    f"{build.builder} still says that it builds {build.name} {build.version} after {format_time(answered - begun)}, and"
                    f" torch_extension_build_time_limit ends a build after {format_time(limit)}. Nothing was taken from it. Look at"
                    f" {job['log']} there, and run again."
                )
            if now - begun - noted >= _NOTE_SECONDS and job["steps"]:
                noted = now - begun
                note(describe_progress(build, job))
        except LostError as exc:
            if time.monotonic() - answered > patience:
                raise TorchExtensionError(
                    f"{build.builder} has not answered for {round(patience / 60)} min, while it builds {build.name} {build.version}:"
                    f" {exc}. The build goes on there. Run again to take what comes of it."
                ) from exc
            sleep(_PAUSE_SECONDS)


def explain_failure(build: Build, job: Job) -> str:
    """Why there is no wheel, and where to look.

    :param job: the last answer
    """
    reason = job["message"].rstrip(".") or f"the build has ended as {job['state']}"
    return (
        f"{build.name} {build.version} could not be built on {build.builder}: {reason}. The whole log is {job['log']} there. What is compiled"
        " stays, and the next run goes on from it."
    )


def describe_progress(build: Build, job: Job) -> str:
    """How far a build is, in a line."""
    line = f"{build.name} {build.version} on {build.builder}: step {job['step']} of {job['steps']}, {format_time(job['seconds'])}"
    if not job["step"]:
        return line
    left = job["seconds"] / job["step"] * (job["steps"] - job["step"])
    return f"{line}, about {format_time(left)} left"


def format_time(seconds: float) -> str:
    """A duration in words."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

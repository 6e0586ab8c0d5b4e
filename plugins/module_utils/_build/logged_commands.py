# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Run the programs of a build: what they print goes into its log, and they end in time."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import build_log, processes
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


class TimeUpError(Exception):
    """The build has taken longer than it may."""


class LoggedCommands:
    """Runs programs for a build, whose log is standard output of this process."""

    def __init__(self, folder: JobFolder, deadline: float) -> None:
        """
        :param deadline: when the build has to end, as :func:`time.monotonic` has it
        """
        self._folder, self._deadline = folder, deadline

    def run(self, command: t.Sequence[str], environ: t.Mapping[str, str], cwd: str, failure: str = "") -> None:
        """Run a program.

        :param failure: what its failure means, in words before the error; empty for the build itself
        :raises TorchExtensionError: with the first real error of what it has printed
        :raises TimeUpError: if the time is up; then nothing of the build runs any more
        """
        start = os.path.getsize(self._folder.log)
        os.write(1, f"+ {' '.join(map(shlex.quote, command))}\n".encode())
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function # no module is at work here
            command, stdin=subprocess.DEVNULL, cwd=cwd, env=environ
        )
        try:
            status = process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeUpError from None
        finally:
            if process.poll() is None:
                processes.kill_processes(self._folder.path)
                process.wait()
        if status:
            with open(self._folder.log, "rb") as file:
                file.seek(start)
                words = build_log.explain_failure(file.read().decode(errors="replace"), status)
            raise TorchExtensionError(f"{failure}: {words}" if failure else words)

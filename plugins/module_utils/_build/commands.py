# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Run programs with an environment of their own."""

from __future__ import annotations

import os
import subprocess
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def search_path(environ: t.Mapping[str, str]) -> str:
    """The folders of programs of an environment; the system's where it names none."""
    folders = (environ.get("PATH") or _SYSTEM_PATH).split(":")
    return ":".join(dict.fromkeys(folder for folder in folders if folder.startswith("/")))


def make_run(environ: t.Mapping[str, str]) -> Run:
    """What runs a command line with these variables, without input; a program that cannot be run has exit status 127."""

    def run(command: t.Sequence[str]) -> tuple[int, str, str]:
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function # no module is at work here
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env={**environ, "LC_ALL": "C"},
                cwd="/",
            )
        except OSError as exc:
            return 127, "", f"{command[0]}: {exc.strerror}"
        return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)

    return run

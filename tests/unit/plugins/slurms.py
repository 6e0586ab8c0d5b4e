# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for Slurm's commands, which run what they are given: this machine is the one of the cluster, and its one node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

STAND_INS = {
    "sinfo": """printf '%s\\n' "$@" >> "$LOG"; cat "$STATES" """,
    "salloc": """printf '%s\\n' "$@" >> "$LOG"; while [ "$1" != sh ]; do shift; done; exec "$@" """,
    "srun": """while [ "$1" != sh ]; do shift; done; for each in $NODES; do SLURMD_NODENAME=$each "$@"; done""",
    "sbatch": """
        printf '%s\\n' "$@" >> "$LOG"
        if [ -s "$FULL" ]; then cat "$FULL" >&2; exit 1; fi
        while [ $# -gt 1 ]; do case $1 in --output=*) out=${1#*=};; esac; shift; done
        if [ "$RUNS" ]; then setsid sh "$1" >> "$out" 2>&1 & fi
        echo 42 """,
    "squeue": """cat "$STATES" """,
    "scancel": """printf '%s\\n' scancel "$@" >> "$LOG"; : > "$STATES" """,
    "sbcast": """
        printf '%s\\n' "$@" >> "$LOG"
        while [ $# -gt 2 ]; do shift; done
        if [ -s "$FULL" ]; then head -c 3 "$1" > "$2"; cat "$FULL" >&2; exit 1; fi
        head -c "${SENDS:-1000000}" "$1" > "$2"; chmod 600 "$2" """,
}


def install_stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put them onto the PATH. Returns the folder, in which one may write what sinfo tells (states), or sbcast fails with (full)."""
    (folder / "bin").mkdir()
    for name, script in STAND_INS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    for name in ("log", "states", "full"):
        (folder / name).touch()
        monkeypatch.setenv(name.upper(), str(folder / name))
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("NODES", "cn1")
    (folder / "states").write_text("cn1|idle|none\n")
    return folder


def read_log(folder: Path) -> list[str]:
    """What they were given, each argument a line; of srun nothing."""
    return (folder / "log").read_text().splitlines()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet on the stand that builds: its nodes, and the playbooks of the collection that are run on it.

Only the nodes are cut off. The control node is this machine, with its own pip and index.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
STAND = ROOT / "tests/stand/stand"
STATE = ROOT / ".cache/stand-build"
ENVIRONMENT = os.environ | {
    "STAND_STATE": str(STATE),
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_HOME": str(STATE / "ansible"),
}
#: of the node, as the role has it by default
BUILDS = "/root/.cache/airgap.torch_extensions.build"
#: for which all is built unless a test says otherwise
ARCHITECTURE = "9.0"


def cache() -> Path:
    """Return the folder of all that this suite keeps from run to run: what is downloaded, several GB."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "airgap-torch-extensions" / "build"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stand(*arguments: str, text: str | None = None) -> str:
    """Run a command of the stand. What it says on standard error is shown."""
    command = [str(STAND), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


def on_node(node: str, script: str, *arguments: str) -> str:
    """Run a script of bash on a node, as root."""
    return stand("ssh", node, "bash", "-euo", "pipefail", "-s", "--", *arguments, text=script)


def bring(node: str, folder: str, *files: Path) -> None:
    """Copy files into a folder of a node."""
    names = [argument for file in files for argument in ("-C", str(file.parent), file.name)]
    archive = subprocess.run(["tar", "-c", *names], stdout=subprocess.PIPE, check=True).stdout
    command = [str(STAND), "ssh", node, f"mkdir -p {folder} && tar -x --no-same-owner -C {folder}"]
    subprocess.run(command, env=ENVIRONMENT, input=archive, check=True)


class Ran(NamedTuple):
    """A playbook that has come to its end."""

    status: int
    output: str
    seconds: float
    core_seconds: float  # of the control node


class Run:
    """A playbook of the collection that runs."""

    def __init__(self, playbook: str, limit: str, variables: Mapping[str, Any]) -> None:
        given = {
            "torch_extension_sources": ["build"],
            "torch_extension_build_archs": [ARCHITECTURE],
            "torch_extension_ca_path": "",  # the inventory's is that of the stand's own github.com
            "torch_extension_cache_dir": str(cache() / "control"),
            **variables,
        }
        command = [
            "ansible-playbook",
            f"airgap.torch_extensions.{playbook}",
            f"--inventory={STAND}",
            f"--limit={limit}",
        ]
        self._begun = time.monotonic()
        self._before = _children_core_seconds()
        self._process = subprocess.Popen(
            [*command, "--extra-vars", json.dumps(given)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> Ran:
        """Wait for its end."""
        output, _none = self._process.communicate()
        seconds = time.monotonic() - self._begun
        return Ran(self._process.returncode, output, seconds, _children_core_seconds() - self._before)


def play(playbook: str, limit: str, **variables: Any) -> Ran:
    """Run a playbook of the collection on some nodes, with variables of the role (without their prefix)."""
    return Run(playbook, limit, {f"torch_extension_{name}": value for name, value in variables.items()}).end()


def begin(playbook: str, limit: str, **variables: Any) -> Run:
    """Begin to run a playbook as :func:`play` does."""
    return Run(playbook, limit, {f"torch_extension_{name}": value for name, value in variables.items()})


def _children_core_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Built(NamedTuple):
    """A wheel in the store of the control node."""

    path: Path
    record: dict[str, Any]


def stored(name: str) -> list[Built]:
    """The built wheels of a package."""
    records = sorted((cache() / "control/built").glob("*/build.json"))
    found = [(path, json.loads(path.read_text())) for path in records]
    return [Built(path.parent / record["filename"], record) for path, record in found if record["name"] == name]


class Progress(NamedTuple):
    """How far the build on a node is."""

    step: int
    steps: int
    objects: list[str]  # that are whole, as ninja has noted it


def progress(node: str) -> Progress:
    """Look at the build on a node."""
    script = f"cat {BUILDS}/*/build.log 2>/dev/null || true; echo '# ninja'; find {BUILDS} -name .ninja_log -exec cat {{}} + 2>/dev/null || true"
    log, _mark, ninja = on_node(node, script).partition("# ninja")
    steps = re.findall(r"^\s*\[(\d+)/(\d+)\]", log, re.MULTILINE)
    objects = sorted({line.split("\t")[3] for line in ninja.splitlines() if line.count("\t") == 4})
    step, total = map(int, steps[-1]) if steps else (0, 0)
    return Progress(step, total, objects)


def kill_build(node: str) -> float:
    """Kill the build on a node; the seconds of a core that the compilers were at work on what they had not finished."""
    said = on_node(
        node,
        """
        processes=$(grep -lsz '^TORCH_EXTENSION_BUILD_FOLDER=' /proc/[0-9]*/environ | cut -d/ -f3)
        kill -STOP $processes || true # some end meanwhile
        for process in $processes; do
          [[ $(tr '\\0' ' ' <"/proc/$process/cmdline") =~ (cicc|ptxas|cudafe|cc1plus|fatbinary|nvcc) ]] || continue
          cut -d')' -f2- "/proc/$process/stat" | awk '{ print $12 + $13 + $14 + $15 }'
        done
        kill -KILL $processes || true
        """,
    )
    return sum(map(int, said.split())) / os.sysconf("SC_CLK_TCK")

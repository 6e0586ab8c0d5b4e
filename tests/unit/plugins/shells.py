# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real sh, dd and df of this machine stand for those of a node."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import random
import shutil
import subprocess
from pathlib import Path

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import CommandResult, File

NAME = "flash_attn-2.8.3+cu12torch2.6-cp311-cp311-linux_x86_64.whl"


#: of folders, whatever a shell would make of them
ANY_NAMES = (
    "with space",
    "two  spaces",
    "it's",
    'say "so"',
    "'\"'\"'",
    "$(touch pwned)",
    "`touch pwned`",
    "a; touch pwned",
    "&& touch pwned #",
    "$HOME",
    "*",
    "~",
    "a:b",
    r"back\new\slash",
    r"100%s\n",
    "größe",
)


class Node:
    """Runs commands as a connection does, and remembers from which byte on it was given which file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.becomes: list[str] = []  # a command that becomes another user
        self.first = ""  # what the shell does before
        self.noise = ("", "")  # what login shells say before and after
        self.short_of = 0  # bytes that do not get there
        self.streamed = []
        self.removed_before_streaming = None  # a folder

    def execute(self, command):
        return self._run(command, b"\n")

    def stream(self, command, path, begin):
        self.streamed.append((os.path.basename(path), begin))
        if self.removed_before_streaming:
            shutil.rmtree(self.removed_before_streaming)
        data = Path(path).read_bytes()[begin:]
        return self._run(command, data[: len(data) - self.short_of])

    def _run(self, command, data):
        environ = {**os.environ, "HOME": str(self.home), "LC_ALL": "C"}
        shell = [*self.becomes, "sh", "-c", f"{self.first}{command}"]
        done = subprocess.run(shell, input=data, capture_output=True, check=False, cwd=self.home, env=environ)
        before, after = self.noise
        return CommandResult(done.returncode, f"{before}{done.stdout.decode()}{after}", done.stderr.decode())

    def on_a_terminal(self, command):
        """As ssh runs what gets nothing on its standard input: lines end as those of a terminal do."""
        ours, its = pty.openpty()
        done = subprocess.run(["sh", "-c", command], stdin=its, stdout=its, stderr=its, check=False, cwd=self.home)
        os.close(its)
        return CommandResult(done.returncode, read_terminal(ours), "")


def read_terminal(ours: int) -> str:
    """What is written to a terminal until the last one has closed it; closes our end, too."""
    said = b""
    with contextlib.suppress(OSError):
        while data := os.read(ours, 4096):
            said += data
    os.close(ours)
    return said.decode()


def make_file(folder: Path, size: int, name: str = NAME, knows_hash: bool = True) -> File:
    """Make a file of the control node, of so many random bytes."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(size).randbytes(size))  # noqa: S311
    return File(str(path), hashlib.sha256(path.read_bytes()).hexdigest() if knows_hash else None)


def content(file: File) -> bytes:
    return Path(file.path).read_bytes()


def there(folder: str | Path) -> dict[str, bytes]:
    """The files of a folder of the node."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def mount_point(folder: str | Path) -> str:
    """Where the file system of a folder is mounted, as df has it."""
    lines = subprocess.run(["df", "-P", folder], capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[-1].split()[-1] if lines else "/"


def remove_tree(folder: Path) -> None:
    """Remove a folder, also one that its user may not write to. What links in it lead to stays as it is."""
    for path, _folders, _files in os.walk(folder):  # which follows no links
        os.chmod(path, 0o700)
    shutil.rmtree(folder)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""memory.py COMMAND..: runs it, and then prints as JSON how much memory ansible-playbook and its children had, in KiB.

peak: all of them, with main, forks and others (ssh and the like) at that moment
per_fork: the mean of its forks, at the moment when that was largest while as many ran as ever did

What several processes share counts once, a part for each (PSS), for forks are copies of main. An ssh that outlives the play
is not in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.1  # seconds
GONE = (FileNotFoundError, ProcessLookupError)


def children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(*GONE):
                after_name = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                found.setdefault(int(after_name[1]), []).append(int(entry.name))
    return found


def below(pid: int, tree: dict[int, list[int]]) -> list[int]:
    return [pid, *(deeper for child in tree.get(pid, []) for deeper in below(child, tree))]


def is_playbook(pid: int) -> bool:
    with suppress(*GONE):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        # the interpreter and the script; what only starts it has it further behind
        return len(command) > 1 and command[1].endswith(b"/ansible-playbook")
    return False


def pss(pid: int) -> int:
    with suppress(*GONE):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def sample(root: int) -> dict[str, int] | None:
    """What there is now, once ansible-playbook is there."""
    tree = children()
    playbooks = [pid for pid in below(root, tree) if is_playbook(pid)]
    if not playbooks:
        return None
    main = playbooks[0]
    forks = [pid for pid in tree.get(main, []) if pid in playbooks]
    # a fork's child is the fork once more until it has become another program
    others = set(below(main, tree)) - set(playbooks)
    sizes = {"main": pss(main), "forks": sum(map(pss, forks)), "others": sum(map(pss, others))}
    return {"peak": sum(sizes.values()), **sizes, "number": len(forks)}


def watch(command: list[str]) -> tuple[int, dict[str, int]]:
    samples = []
    process = subprocess.Popen(command)
    while process.poll() is None:
        samples.append(sample(process.pid))
        time.sleep(EVERY)
    found = [one for one in samples if one]
    if not found:
        return process.returncode, {}
    number = max(one["number"] for one in found)
    per_fork = max(one["forks"] for one in found if one["number"] == number) // max(number, 1)
    peak = max(found, key=lambda one: one["peak"])
    return process.returncode, {**peak, "per_fork": per_fork, "most_forks": number, "samples": len(found)}


if __name__ == "__main__":
    status, found = watch(sys.argv[1:])
    print(json.dumps(found))
    sys.exit(status)

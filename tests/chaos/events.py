# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong. Each event tells whether it hit anything; what it has done to the world is undone later."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from actions import Operator, next_version
from rounds import FIND_LINKS, PIP_CACHE, PULL, SHARED, SITE_PACKAGES, SLURM, Event, Round
from world import NODES, SLURM_STAGE, STAGE, Run, World, command_line, kill

SITE = "opt/venv/lib/python3.11/site-packages"
WHEELS = "opt/venv/share/airgap.torch_extensions/wheels"
FILL = "fill.chaos"


class Trouble:
    """The events of one round."""

    def __init__(self, world: World, operator: Operator, plan: Round, version: str) -> None:
        self._world, self._operator, self._plan, self._version = world, operator, plan, version
        self._later: list[tuple[float, Callable[[], object]]] = []
        self.others: list[Run] = []  # runs of the second operator
        self.versions = {version}  # that anybody has asked for

    def begin(self, event: Event, run: Run | None) -> bool:
        """Let it happen, if there is anything to hit; another try may find it.

        :param run: that is going; None before it
        :returns: whether it hit
        """
        if event.kind.startswith("corrupt "):
            files = list(self._files(event))
            return bool(files) and damage(files[int(event.amount * len(files))], event)
        if run is None or not (run.is_going() or self._is_busy(event.node, "python")):
            return False
        return bool(_MEANWHILE[event.kind](self, event, run))

    def undo(self, everything: bool = False) -> None:
        """Undo what has lasted as long as it was to; or all, the last first."""
        due = [item for item in self._later if everything or item[0] <= time.monotonic()]
        self._later = [item for item in self._later if item not in due]
        for _moment, action in reversed(due):
            action()

    def _undo_after(self, seconds: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _files(self, event: Event) -> Iterator[Path]:
        """What a corruption can hit. Where no run would look at it again, nothing."""
        node, cache = event.node, self._world.cache
        disk, wish, source = (
            self._world.written(node),
            self._plan.wishes[node],
            self._operator.source_of(self._plan, self._version),
        )
        slurm = wish.way == SLURM
        carried = self._world.control / "carried"
        places: dict[str, tuple[bool, Iterable[Path]]] = {
            "corrupt wheel in the cache": (True, cache.glob("wheels/*/*.whl")),
            "corrupt hash in the cache": (
                True,
                [*cache.glob("wheels/*/*.sha256"), *cache.glob("requirements/*.sha256")],
            ),
            "corrupt requirement in the cache": (True, cache.glob("requirements/*.whl")),
            "corrupt answer in the cache": (True, [*cache.glob("answers/*.json"), *cache.glob("api/*.answer")]),
            "corrupt facts in the cache": (True, cache.glob("facts/*")),
            "corrupt stage": (True, disk.glob(f"{(SLURM_STAGE if slurm else STAGE.format(node)).lstrip('/')}/*")),
            "corrupt share": (wish.way == SHARED, self._world.shared().glob("airgap.torch_extensions/**/*")),
            "corrupt pull folder": (wish.way == PULL, self._world.pulled().glob("*")),
            "corrupt find-links": (wish.mode == FIND_LINKS, disk.glob(f"{WHEELS}/*")),
            "corrupt pip's cache": (
                wish.mode == PIP_CACHE,
                disk.glob(f"root/.cache/pip/wheels/**/flash_attn-{self._version}+*"),
            ),
            "corrupt installed file": (wish.mode == SITE_PACKAGES, disk.glob(f"{SITE}/flash_attn*/*")),
            "corrupt bundle": (source == "bundle", carried.glob(f"{self._version}-*.bundle/**/*")),
            "corrupt lock": (source == "lock", carried.glob(f"{self._version}-*.lock.yml")),
        }
        is_looked_at, files = places[event.kind]
        if is_looked_at:
            yield from sorted(path for path in files if path.is_file() and not path.is_symlink())

    def _kill_control_node(self, _event: Event, run: Run) -> bool:
        return run.kill() > 1

    def _kill_control_process(self, _event: Event, run: Run) -> bool:
        """Alone: what it has forked lives on."""
        run.killed = True
        return kill(run.started("ansible-playbook")[:1]) > 0

    def _kill_ssh_on_node(self, event: Event, _run: Run) -> bool:
        return kill([pid for pid, line in self._world.processes(event.node) if "sshd: root" in line]) > 0

    def _kill_ssh_on_control_node(self, event: Event, run: Run) -> bool:
        """All that leads to that node; also what an earlier run has left open, which would not notice that its client is gone."""
        address = self._world.address(event.node)
        return (
            kill(
                [pid for pid in run.started_by_any("ssh") if re.search(rf"\b{re.escape(address)}\b", command_line(pid))]
            )
            > 0
        )

    def _kill_module(self, event: Event, _run: Run) -> bool:
        return kill([pid for pid, line in self._world.processes(event.node) if "python" in line]) > 0

    def _switch_off(self, event: Event, _run: Run) -> bool:
        if not self._is_busy(event.node):
            return False
        self._world.stand("stop", event.node)
        self._undo_after(event.seconds, lambda: self._world.switch_on(event.node))
        return True

    def _cut_cable(self, event: Event, _run: Run) -> bool:
        if not self._is_busy(event.node):
            return False
        self._world.stand("cut", event.node)
        self._undo_after(event.seconds, lambda: self._world.stand("heal", event.node))
        return True

    def _slow_line(self, event: Event, _run: Run) -> bool:
        if not self._is_busy(event.node):
            return False
        self._world.stand("shape", event.node, f"{2 + round(event.amount * 18)}mbit")
        self._undo_after(600, lambda: self._world.stand("shape", event.node, "off"))
        return True

    def _fill_node(self, event: Event, _run: Run) -> bool:
        if not self._world.pid_of(event.node):
            return False
        fill(self._world.root(event.node), int(event.amount * 6_000_000))
        self._undo_after(600, lambda: (self._world.root(event.node) / FILL).unlink(missing_ok=True))
        return True

    def _fill_control_node(self, event: Event, _run: Run) -> bool:
        fill(self._world.cache, int(event.amount * 8_000_000))
        self._undo_after(600, lambda: (self._world.cache / FILL).unlink(missing_ok=True))
        return True

    def _start_second(self, event: Event, run: Run) -> bool:
        version = self._version
        if (
            event.amount < 0.5
            and self._plan.action == "install"
            and self._operator.source_of(self._plan, version) in ("release", "directory")
        ):
            version = next_version(version, self._plan)
        log = f"{self._plan.number:04}-second-{len(self.others)}.log"
        other = self._operator.start(self._plan, version, log, other_cache=event.damage in ("flipped", "cut"))
        self.others.append(other)
        self.versions.add(version)
        return run.is_going()

    def _spoil_source(self, event: Event, _run: Run) -> bool:
        choices = (
            ("faults", "cut=100000"),
            ("faults", "cut=1500000"),
            ("faults", "slow=1000000"),
            ("faults", "corrupt"),
            ("faults", "html"),
            ("api", "limited"),
            ("api", "down"),
        )
        what, how = choices[int(event.amount * len(choices))]
        self._world.stand(what, how)

        def undo() -> None:
            self._world.stand("faults", "none")
            self._world.stand("api", "normal")

        self._undo_after(600, undo)
        return True

    def _stop_pull_server(self, event: Event, _run: Run) -> bool:
        if all(wish.way != PULL for wish in self._plan.wishes.values()):
            return False
        self._world.stand("artefacts", "stop")
        self._undo_after(event.seconds, lambda: self._world.stand("artefacts", "start"))
        return True

    def _mount_read_only(self, event: Event, _run: Run) -> bool:
        if event.node not in NODES or self._plan.wishes[event.node].way != SHARED or not self._world.pid_of(event.node):
            return False
        self._world.mount(event.node, "ro")
        self._undo_after(event.seconds, lambda: self._world.mount(event.node, "rw"))
        return True

    def _is_busy(self, node: str, word: str = "sshd: root") -> bool:
        """Whether anything runs there for a run."""
        return any(word in line for _pid, line in self._world.processes(node))


_MEANWHILE: dict[str, Callable[[Trouble, Event, Run], bool]] = {
    "control node killed": Trouble._kill_control_node,
    "control process killed": Trouble._kill_control_process,
    "ssh killed on the node": Trouble._kill_ssh_on_node,
    "ssh killed on the control node": Trouble._kill_ssh_on_control_node,
    "module killed": Trouble._kill_module,
    "node off": Trouble._switch_off,
    "cable cut": Trouble._cut_cable,
    "line slow": Trouble._slow_line,
    "node's disk full": Trouble._fill_node,
    "control node's disk full": Trouble._fill_control_node,
    "second operator": Trouble._start_second,
    "source faulty": Trouble._spoil_source,
    "pull server down": Trouble._stop_pull_server,
    "share read-only": Trouble._mount_read_only,
}


def damage(path: Path, event: Event) -> bool:
    """Whether the file has other bytes now."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        content = file.read()
        if not content:
            return False
        position = min(int(event.amount * len(content)), len(content) - 1)
        if event.damage == "flipped":
            file.seek(position)
            file.write(bytes([content[position] ^ 0x5A]))
        elif event.damage == "zeroed":
            file.seek(0)
            file.write(bytes(len(content)))
        else:
            file.truncate(0 if event.damage == "emptied" else position)
        return True
    return False


def fill(folder: Path, leave: int) -> None:
    """Leave so many bytes free on a disk."""
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_frsize - leave
    if size > 0:
        with (folder / FILL).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

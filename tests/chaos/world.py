# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand as the campaign has it: nodes with disks of a size, the servers around them, and the files and processes of each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
STAND = PROJECT / "tests/stand/stand"
NODES = ("n01", "n02", "n03", "n04", "n05")
HEAD, CLUSTER = "head", ("s01", "s02")
DISK, SLURM_DISK, CACHE_SIZE = "160m", "200m", "96m"

VERSIONS = ("2.7.3", "2.8.3.post2")
_LABELS = {"old": "cu12torch2.5cxx11abiFALSE", "slurm": "cu12torch2.13cxx11abiTRUE"}
_WHEEL = "flash_attn-{}+{}-cp311-cp311-linux_x86_64.whl"
_WHEEL_SIZE = 4_000_000  # bytes: long enough on its way to be hit there
_MARK = f"CHAOS_RUN={os.getpid()}-"  # in the environment of all runs
REPOSITORY = "chaos/flash-attention"
SHARE = "/share"
PULL_URL = "https://198.18.77.3:8443/open/wheels"
STAGE = "/root/.cache/airgap.torch_extensions.{}"
SLURM_STAGE = "/var/lib/airgap.torch_extensions"


class World:
    """All that a campaign runs on. What it writes on the control node is below one folder."""

    def __init__(self, folder: Path, has_slurm: bool) -> None:
        self.folder, self.has_slurm = folder, has_slurm
        self.state = folder / "stand"
        self.control = folder / "control"  # node: all that the operator has
        self.cache = self.control / "cache"
        self.logs = folder / "logs"
        self._addresses: dict[str, str] = {}
        self._first: dict[str, int] = {}  # process 1 of each node, as it was last
        self.published: dict[str, dict[str, str]] = {}  # by the name of a wheel, the SHA-256 of all that is in it

    @property
    def nodes(self) -> tuple[str, ...]:
        return (*NODES, *CLUSTER, HEAD) if self.has_slurm else NODES

    def stand(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [str(STAND), *words],
            env={**os.environ, "STAND_STATE": str(self.state)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            sys.exit(f"stand {' '.join(words)} has failed: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> None:
        """Start all of it anew, with nothing installed."""
        self.down()
        specs = [f"{node}=old,{DISK}" for node in NODES]
        if self.has_slurm:
            specs += [f"{node}=slurm,{SLURM_DISK}" for node in (*CLUSTER, HEAD)]
        self.stand("up", *specs)
        self.stand("artefacts")
        self._publish()
        self.plug_in()
        for folder in (self.cache, self.control / "home", self.control / "tmp", self.control / "carried", self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        # in the campaign's own mount namespace
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={CACHE_SIZE}", "tmpfs", self.cache], check=True)

    def down(self) -> None:
        subprocess.run(["umount", "--lazy", self.cache], check=False, stderr=subprocess.DEVNULL)
        self.stand("down")
        shutil.rmtree(self.control, ignore_errors=True)

    def plug_in(self) -> None:
        """What a node that was off lacks, and the site sees to."""
        self.stand("share", "rack", SHARE, *NODES)
        if self.has_slurm:
            self.stand("slurm", HEAD, *CLUSTER)

    def switch_on(self, node: str) -> None:
        self.stand("start", node)
        if node in NODES:
            self.mount(node, "rw")
        else:
            self.stand("slurm", HEAD, *CLUSTER)

    def mount(self, node: str, mode: str) -> None:
        """What the nodes share, on one of them."""
        script = f"mkdir -p {SHARE}; mountpoint -q {SHARE} || mount --bind /.shares/rack {SHARE}; mount -o remount,bind,{mode} {SHARE}"
        self.run_on(node, "sh", "-c", script).communicate(timeout=20)

    def _publish(self) -> None:
        for version in VERSIONS:
            files = []
            for label in _LABELS.values():
                name = _WHEEL.format(version, label)
                source = self.state / "wan/releases/Dao-AILab/flash-attention" / f"v{version}" / name
                command = [
                    f"{PROJECT}/benchmarks/large_wheel.py",
                    f"{source}",
                    f"{_WHEEL_SIZE}",
                    f"{self.folder}/wheels",
                ]
                subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
                files.append(str(self.folder / "wheels" / name))
                self.published[name] = hashes_in(self.folder / "wheels" / name)
            self.stand("publish", REPOSITORY, f"v{version}", *files)
        for einops in (self.state / "wan/files").glob("einops-*.whl"):
            self.published[einops.name] = hashes_in(einops)
            shutil.copy(einops, self.folder / "wheels")

    def wheel(self, node: str, version: str) -> str:
        return _WHEEL.format(version, _LABELS["old" if node in NODES else "slurm"])

    def address(self, node: str) -> str:
        if node not in self._addresses:
            lines = (self.state / "nodes").read_text().splitlines()
            self._addresses = {line.split()[0]: line.split()[1] for line in lines}
        return self._addresses[node]

    def pid_of(self, node: str) -> int:
        """Process 1 of a node, as the host numbers it; 0 if it is off."""
        network = _inode(f"/proc/{self._world()}/root/run/netns/{node}")
        if not self._first.get(node) or _inode(f"/proc/{self._first[node]}/ns/net") != network:
            self._first[node] = next(filter(lambda pid: _is_first(pid, network), _pids()), 0)
        return self._first[node]

    def root(self, node: str) -> Path:
        """The files of a node that runs. Links in it lead out of it."""
        return Path(f"/proc/{self.pid_of(node)}/root")

    def written(self, node: str) -> Path:
        """What differs on a node from what it is made of; also where it is off."""
        return Path(f"/proc/{self._world()}/root{self.state}/{node}/disk/upper")

    def pulled(self) -> Path:
        return self.state / "artefacts/open/wheels"

    def shared(self) -> Path:
        return self.state / "shares/rack"

    def processes(self, node: str) -> Iterator[tuple[int, str]]:
        """PID and command line of what runs on a node, but for process 1."""
        first = self.pid_of(node)
        namespace = _inode(f"/proc/{first}/ns/pid")
        for pid in _pids():
            if pid != first and namespace and _inode(f"/proc/{pid}/ns/pid") == namespace:
                yield pid, command_line(pid).replace("\0", " ")

    def run_on(self, node: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["nsenter", "--all", "--root", "--wd", f"--target={self.pid_of(node)}", "--", *command],
            env={"PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _world(self) -> int:
        return int((self.state / "world").read_text().split()[0])


class Run:
    """One command of an operator, and all that it starts."""

    def __init__(
        self,
        world: World,
        playbooks: list[str],
        settings: Mapping[str, Any],
        for_all: Mapping[str, Any],
        limit: str,
        log: Path,
    ) -> None:
        self._mark = f"{_MARK}{time.monotonic_ns()}\0"
        self.log, self.killed = log, False
        inventory = world.folder / f"{log.stem}.inventory"
        inventory.mkdir(parents=True, exist_ok=True)
        (inventory / "stand").unlink(missing_ok=True)
        (inventory / "stand").symlink_to(STAND)
        (inventory / "vars.yml").write_text(json.dumps({"all": {"hosts": settings}}, indent=1))
        name, _equals, value = self._mark.rstrip("\0").partition("=")
        environment = {
            **os.environ,
            name: value,
            "HOME": str(world.control / "home"),
            "TMPDIR": str(world.control / "tmp"),
            "STAND_STATE": str(world.state),
            "ANSIBLE_HOME": str(world.control / "home/.ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".ansible/collections"),
            "ANSIBLE_FORKS": "16",
            "ANSIBLE_TIMEOUT": "5",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        command = [f"airgap.torch_extensions.{playbook}" for playbook in playbooks]
        options = [f"--inventory={inventory}", f"--limit={limit}", f"--extra-vars={json.dumps(for_all)}"]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [str(STAND), "control", "ansible-playbook", *options, *command],
                env=environment,
                cwd=world.control / "carried",
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def is_going(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> int | None:
        """How it has ended; None if it has not by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def started(self, *words: str) -> list[int]:
        """What it has started, whatever the parents and sessions are; of these the ones with a word in their command line."""
        return sorted(
            pid for pid in _marked(self._mark) if not words or any(word in command_line(pid) for word in words)
        )

    def started_by_any(self, word: str) -> list[int]:
        """The same of all runs of the campaign."""
        return [pid for pid in _marked(_MARK) if word in command_line(pid)]

    def kill(self) -> int:
        """Kill all of it. Returns how many processes that were."""
        killed = 0
        while pids := self.started():
            killed += kill(pids)
            time.sleep(0.02)
        self._process.wait()
        self.killed = True
        return killed


def kill_all_runs() -> None:
    while pids := list(_marked(_MARK)):
        kill(pids)
        time.sleep(0.02)


def _marked(mark: str) -> Iterator[int]:
    """The processes that have this in their environment, or what begins so."""
    for pid in _pids():
        with contextlib.suppress(OSError):
            if b"\0" + mark.encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                yield pid


def command_line(pid: int) -> str:
    """With a NUL after each word; empty if there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def kill(pids: list[int]) -> int:
    """Returns how many there still were."""
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def hashes_in(wheel: Path) -> dict[str, str]:
    """The SHA-256 of each file in a wheel, and under an empty name its own."""
    with zipfile.ZipFile(wheel) as archive:
        hashes = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    return {**hashes, "": hashlib.sha256(wheel.read_bytes()).hexdigest()}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _is_first(pid: int, network: int) -> bool:
    """Whether a process is process 1 of the machine that has a network."""
    if _inode(f"/proc/{pid}/ns/net") != network:
        return False
    with contextlib.suppress(OSError):
        own = re.search(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return own is not None and own[1] == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "sshd"
    return False

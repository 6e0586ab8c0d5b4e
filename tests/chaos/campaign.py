# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""campaign.py [--seed SEED] [--minutes MINUTES] [--round NUMBER]: lets things go wrong on the stand, and checks what must hold.

Runs as root in a mount namespace of its own. The same seed draws the same rounds; a round alone is repeated by its number.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import random
import re
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

import invariants
import proof
from actions import Operator, next_version
from events import Trouble
from rounds import BUNDLE, FIND_LINKS, INSTALL, PIP_CACHE, SITE_PACKAGES, SLURM, Event, Round, draw
from world import CLUSTER, NODES, Run, World, kill_all_runs

PATIENCE = 600  # seconds until a run counts as one that hangs; a machine may be busy
QUIET = 90  # seconds until what a killed run has left on a node has to have ended
#: Words of no message of ours.
_NO_WORDS = re.compile(
    r"Traceback|MODULE FAILURE|censored|Unexpected failure|unexpected error|crashed|unexpectedly", re.IGNORECASE
)


class Campaign:
    def __init__(self, world: World, seed: str, without: Collection[str], report: TextIO) -> None:
        """
        :param without: kinds of events that are drawn and do not happen
        """
        self._world, self._seed, self._without, self._report = world, seed, without, report
        self.tried: collections.Counter[str] = collections.Counter()
        self.hit: collections.Counter[str] = collections.Counter()
        self.broken: collections.Counter[str] = collections.Counter()
        self.rounds = self.broken_rounds = self.looks = 0
        self._has_shown = False
        self._begin()

    def _begin(self) -> None:
        """All anew."""
        world = self._world
        world.up()
        self._operator = Operator(world)
        self._version: str | None = None
        self._first: Run | None = None  # the run of a round in which something goes wrong
        self._duration = 8.0  # seconds of a run
        self._found: dict[str, str | None] = dict.fromkeys(world.nodes)  # version in each environment
        self._keeping: set[str] = set()  # nodes on which wheels were left for later, which no run takes away
        self._stores: dict[str, dict[str, str]] = {
            node: {} for node in world.nodes
        }  # version by mode, of the other modes
        for folder in (world.control, world.control / "carried", world.shared(), world.control / "home"):
            (folder / invariants.SOMEBODYS).write_text("somebody's\n")
        for node in world.nodes:
            _plant(world, node)
        # what the first login writes
        self._before = {node: invariants.manifest(world.written(node)) for node in world.nodes}
        somebodys = invariants.manifest(world.control)
        self._control = {path: entry for path, entry in somebodys.items() if path.endswith(invariants.SOMEBODYS)}

    def go_on(self, number: int | None, seconds: float) -> None:
        """Play one round; or, without a number, begin rounds for so long."""
        if number is not None:
            if number:  # its nodes have something installed
                plan = dataclasses.replace(self._draw(number), action=INSTALL, source="release", again=False, events=())
                self._version = next_version(None, plan)
                self._heal(plan, self._version)
            self.play(number)
            return
        last = time.monotonic() + seconds
        for count in itertools.count():
            self.play(count)
            if time.monotonic() > last:
                break

    def play(self, number: int) -> bool:
        """One round: a run while something goes wrong, and the next one, which has to put all right. False if anything is broken."""
        plan = draw(self._seed, number, NODES, CLUSTER if self._world.has_slurm else ())
        plan = dataclasses.replace(
            plan, events=tuple(event for event in plan.events if event.kind not in self._without)
        )
        version = next_version(self._version, plan)
        trouble = Trouble(self._world, self._operator, plan, version)
        hits = self._trouble(plan, version, trouble)
        problems = self._after_trouble(plan, version, trouble)
        problems += self._heal(plan, version)
        self._version = version
        if not problems and not self._has_shown:
            self._show()
        self.rounds += 1
        self.broken_rounds += bool(problems)
        for event, is_hit in hits:
            self.tried[event.kind] += 1
            self.hit[event.kind] += is_hit
            self.broken[event.kind] += bool(problems and is_hit)
        self._report.write(
            json.dumps(
                {
                    "plan": plan.as_dict(),
                    "hit": [[event.kind, event.node, is_hit] for event, is_hit in hits],
                    "broken": problems,
                }
            )
            + "\n"
        )
        self._report.flush()
        kinds = ", ".join(f"{event.kind}{'' if is_hit else ' (missed)'}" for event, is_hit in hits)
        print(
            f"{time.strftime('%H:%M:%S')} round {number}: {plan.action} {version}: {kinds or 'nothing'}: {'BROKEN' if problems else 'ok'}",
            flush=True,
        )
        if problems:
            print(*(f"  {line}" for line in problems), f"  {json.dumps(plan.as_dict())}", sep="\n")
            print(
                f"  make chaos SEED={self._seed} ROUND={number} repeats it; logs: {self._world.logs}/{number:04}-*",
                flush=True,
            )
            self._keep_logs(number)
            self._begin()
        return not problems

    def _draw(self, number: int) -> Round:
        plan = draw(self._seed, number, NODES, CLUSTER if self._world.has_slurm else ())
        return dataclasses.replace(
            plan, events=tuple(event for event in plan.events if event.kind not in self._without)
        )

    def _trouble(self, plan: Round, version: str, trouble: Trouble) -> list[tuple[Event, bool]]:
        if plan.empty_cache:
            for path in self._world.cache.glob("*"):
                _remove(path)
        hits = [(event, trouble.begin(event, None)) for event in plan.events if event.moment < 0]
        begin = time.monotonic()
        run = self._operator.start(plan, version, f"{plan.number:04}-trouble.log")
        waiting = [event for event in plan.events if event.moment >= 0]
        while run.is_going() and time.monotonic() - begin < PATIENCE:
            trouble.undo()
            time.sleep(0.15)  # to look at all processes costs a part of it
            for event in list(waiting):
                is_due = time.monotonic() - begin >= event.moment * self._duration
                if is_due and trouble.begin(event, run):
                    hits.append((event, True))
                    waiting.remove(event)
        # a module may be at work longer than who has sent it
        hits += [(event, trouble.begin(event, run)) for event in waiting]
        self._first = run
        return hits

    def _after_trouble(self, plan: Round, version: str, trouble: Trouble) -> list[str]:
        problems = []
        runs = [run for run in (self._first, *trouble.others) if run]
        last = time.monotonic() + PATIENCE
        for run in runs:
            while run.wait(0.05) is None and time.monotonic() < last:
                trouble.undo()
            if run.is_going():
                problems.append(f"a run has not come to its end within {PATIENCE} s: {run.log}")
                run.kill()
            problems += _odd_words(run)
        trouble.undo(everything=True)
        if plan.looks:
            problems += self._look(plan, trouble.versions, "in between")
        self._operator.mend()
        return problems

    def _look(self, plan: Round, versions: set[str], when: str, imports: bool = True) -> list[str]:
        """That each environment has one version whole: the one that it had, or one that was asked for."""
        problems = []
        trials = {}
        self._wait_until_quiet(plan)
        for node, wish in plan.wishes.items():
            found, broken = invariants.version_there(self._world, node)
            self.looks += 1
            allowed = {self._found[node], *(versions if plan.action == INSTALL and wish.mode == SITE_PACKAGES else ())}
            if found not in allowed:
                broken.append(f"{node}: {found} is there, allowed are {sorted(map(str, allowed))}")
            damaged = any(event.kind == "corrupt installed file" and event.node == node for event in plan.events)
            if not (damaged and when == "in between"):
                problems += [f"{when}: {line}" for line in broken]
                if found and imports:
                    trials[node] = (found, self._world.run_on(node, "/opt/venv/bin/python", "-B", "-c", _TRIAL))
        for node, (found, trial) in trials.items():
            said = trial.communicate(timeout=120)[0]
            if trial.returncode or said.split()[-1:] != [found]:
                problems.append(f"{when}: {node}: {found} cannot be imported: {said[-500:]}")
        return problems

    def _heal(self, plan: Round, version: str) -> list[str]:
        """The next run, with nothing in its way: it ends right, and leaves nothing behind."""
        begin = time.monotonic()
        run = self._operator.start(plan, version, f"{plan.number:04}-next.log")
        status = run.wait(PATIENCE)
        if status != 0:
            run.kill()
            return [f"the next run has ended with {status}: {_complaints(run)}"]
        if self._first and not self._first.killed:
            self._duration += 0.3 * (min(time.monotonic() - begin, 30) - self._duration)
        problems = _odd_words(run)
        self._operator.note_success(plan, version)
        for node, wish in plan.wishes.items():
            if plan.action == INSTALL and wish.mode == SITE_PACKAGES:
                self._found[node] = version
            elif plan.action == INSTALL:
                self._stores[node][wish.mode] = version
        problems += self._look(plan, set(), "after the next run")
        problems += self._check_all(plan, version)
        if plan.again and plan.action == INSTALL:
            run = self._operator.start(plan, version, f"{plan.number:04}-again.log")
            if run.wait(PATIENCE) != 0 or re.search(r"changed=[1-9]", run.said()):
                problems.append(f"a run that has nothing to do does something: {run.log}")
                run.kill()
        return problems

    def _check_all(self, plan: Round, version: str) -> list[str]:
        world, problems = self._world, []
        for node, wish in plan.wishes.items():
            if plan.action == INSTALL and wish.mode in (FIND_LINKS, PIP_CACHE):
                problems += invariants.check_store(world, node, wish.mode, version)
            stores = [*self._stores[node], *([SITE_PACKAGES] if self._found[node] else [])]
            if wish.keeps:
                self._keeping.add(node)
            problems += invariants.left_on_node(world, node, self._before[node], stores, node in self._keeping)
            problems += invariants.left_in_tmp(world, node)
        problems += invariants.left_on_share(world)
        problems += invariants.left_on_control_node(world, self._control)
        if plan.action != INSTALL or self._operator.source_of(plan, version) in ("release", "lock"):
            problems += invariants.wrong_in_cache(world, [world.wheel(node, version) for node in plan.wishes])
        if plan.action == BUNDLE:
            kind = "slurm" if any(wish.way == SLURM for wish in plan.wishes.values()) else "plain"
            problems += invariants.check_bundle(world, f"{version}-{kind}.bundle")
        return problems

    def _show(self) -> None:
        """That what is broken would be seen."""
        node = next((node for node in NODES if self._found[node] and not self._stores[node]), None)
        if node is None or node in self._keeping:
            return
        unseen = proof.blind_spots(self._world, node, self._before[node], self._control)
        if unseen:
            sys.exit(f"The campaign does not see what is broken: {unseen}")
        print("Each invariant was broken once, by hand, and that was seen.", flush=True)
        self._has_shown = True

    def _wait_until_quiet(self, plan: Round) -> None:
        last = time.monotonic() + QUIET
        while time.monotonic() < last:
            busy = [
                line
                for node in plan.wishes
                for _pid, line in self._world.processes(node)
                if "python" in line or "pip" in line
            ]
            if not busy:
                return
            time.sleep(0.3)

    def _keep_logs(self, number: int) -> None:
        kept = self._world.folder / "broken"
        kept.mkdir(exist_ok=True)
        for path in self._world.logs.glob(f"{number:04}-*"):
            path.replace(kept / path.name)

    def table(self) -> str:
        lines = [f"{'event':34} tried   hit  in a round with something broken"]
        for kind in sorted(self.tried):
            lines.append(f"{kind:34} {self.tried[kind]:5} {self.hit[kind]:5} {self.broken[kind]:5}")
        total = [sum(counter.values()) for counter in (self.tried, self.hit, self.broken)]
        lines.append(f"{'all':34} {total[0]:5} {total[1]:5} {total[2]:5}")
        return "\n".join(lines)


_TRIAL = "import flash_attn, importlib.metadata as m; print(m.version('flash_attn').partition('+')[0])"


def _plant(world: World, node: str) -> None:
    """Somebody's files, where we write."""
    script = f"""
        mkdir -p /root/.cache/pip/wheels /opt/venv/share
        printf '%s' "$1" >/opt/venv/pip.conf
        for folder in /root/.cache /root/.cache/pip/wheels /opt/venv /opt/venv/share /opt/venv/lib/python3.11/site-packages /opt
        do echo somebody >$folder/{invariants.SOMEBODYS}; done
    """
    world.run_on(node, "sh", "-ec", script, "sh", invariants.PIP_CONF).communicate(timeout=30)
    world.stand("ssh", node, "true")


def _odd_words(run: Run) -> list[str]:
    found = sorted({match[0] for match in _NO_WORDS.finditer(run.said())})
    return [f"{run.log.name} has {', '.join(found)}"] if found else []


def _complaints(run: Run) -> str:
    lines = [line for line in run.said().splitlines() if re.search("fatal:|ERROR|UNREACHABLE", line)]
    return " | ".join(line[:600] for line in lines[:5]) or run.said()[-600:]


def _remove(path: Path) -> None:
    if path.is_dir():
        for entry in path.iterdir():
            _remove(entry)
        path.rmdir()
    else:
        path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--round", type=int)
    parser.add_argument("--without", action="append", default=[], metavar="KIND", help="leave out a kind of events")
    parser.add_argument("--folder", type=Path, default=Path(".cache/chaos"))
    arguments = parser.parse_args()
    seed = arguments.seed or str(random.randrange(10**6))  # noqa: S311 - no secret
    print(f"SEED={seed}", flush=True)
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    world = World(folder, has_slurm=_has_slurm(folder))
    with (folder / f"{seed}.jsonl").open("a") as report:
        try:
            campaign = Campaign(world, seed, arguments.without, report)
            with contextlib.suppress(KeyboardInterrupt):
                campaign.go_on(arguments.round, 60 * arguments.minutes)
        finally:
            kill_all_runs()
            world.down()
    print(campaign.table())
    print(
        f"SEED={seed}: {campaign.rounds} rounds, {sum(campaign.hit.values())} events, {campaign.looks} looks at environments: "
        f"{f'{campaign.broken_rounds} rounds BROKEN' if campaign.broken_rounds else 'nothing broken'}"
    )
    return 1 if campaign.broken_rounds else 0


def _has_slurm(folder: Path) -> bool:
    import subprocess

    from world import STAND

    environment = {"STAND_STATE": str(folder / "stand"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return (
        subprocess.run([str(STAND), "has", "slurm"], env=environment, check=False, capture_output=True).returncode == 0
    )


if __name__ == "__main__":
    sys.exit(main())

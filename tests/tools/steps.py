"""steps.py [--jobs N] [--after GATE] STEP..: runs make targets side by side and closes with a table of their results.

A line tells when a step begins and when it has ended. What it prints goes to a file; the end of a failed step's is shown.
With --after, the steps named behind GATE wait until that has passed. Those that have not passed yet begin first, then those
that took longest the last time.
A step that prints "SKIPPED: reason" counts as skipped. The run has failed when a step has failed, or when none has passed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

AS_ROOT = Path(__file__).with_name("as-root.sh")
LOGS = Path(".cache/steps")
LAST_TIME = LOGS / "seconds.json"  # of each step when it last passed
SHOWN = 40  # lines of a failed step's log
STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds: a scenario stops its nodes meanwhile.
PATIENCE = {signal.SIGINT: 60, signal.SIGTERM: 10, signal.SIGKILL: 5}


class Result(NamedTuple):
    step: str
    outcome: str
    seconds: float = 0
    processor: float = 0  # seconds of a core, but for what runs on by itself, as the nodes of the stand do
    reason: str = ""


class Run:
    def __init__(self, steps: list[str], gate: str | None, gated: list[str], jobs: int) -> None:
        self._last_time: dict[str, float] = json.loads(LAST_TIME.read_text()) if LAST_TIME.exists() else {}
        slowest_first = sorted([*steps, *gated], key=lambda step: -self._last_time.get(step, float("inf")))
        self._waiting = [gate, *slowest_first] if gate else slowest_first
        self._gate, self._gated = gate, set(gated)
        self._jobs = jobs
        self._running: dict[int, tuple[str, float]] = {}
        self.results: list[Result] = []

    def announce(self) -> None:
        times = {step: f" {seconds:.0f} s" for step, seconds in self._last_time.items()}
        steps = ", ".join(step + times.get(step, "") for step in self._waiting)
        print(f"{len(self._waiting)} steps, {self._jobs} at a time{', and how long they took last' if times else ''}:")
        print(textwrap.fill(steps, 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
        print(f"What a step prints goes to {log('STEP')}.", flush=True)

    def to_the_end(self) -> bool:
        """Run all steps; False if a signal has ended it before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *STOP})  # they wait for sigwait
        self._begin_steps()
        while self._running:
            if signal.sigwait({signal.SIGCHLD, *STOP}) != signal.SIGCHLD:
                self._stop()
                return False
            for pid, status, processor in ended_processes():
                self._end(pid, status, processor)
            self._begin_steps()
        return True

    def _begin_steps(self) -> None:
        while len(self._running) < self._jobs:
            step = next((step for step in self._waiting if step not in self._gated), None)
            if not step:
                return
            self._waiting.remove(step)
            say(f"begins   {step}")
            self._running[start(step)] = step, time.monotonic()

    def _end(self, pid: int, status: int, processor: float) -> None:
        step, begin = self._running.pop(pid)
        seconds = time.monotonic() - begin
        lines = log(step).read_text(errors="replace").splitlines()
        reason = next((line.removeprefix("SKIPPED: ") for line in lines if line.startswith("SKIPPED: ")), "")
        outcome = "FAILED" if status else "skipped" if reason else "passed"
        self.results.append(Result(step, outcome, seconds, processor, reason))
        say(f"{outcome:8} {step} in {seconds:.0f} s")
        if status:
            print(f"--- the end of {log(step)}:", *lines[-SHOWN:], "---", sep="\n", flush=True)
        elif not reason:
            self._last_time[step] = round(seconds, 1)
            LAST_TIME.write_text(json.dumps(self._last_time, indent=1))
        if step == self._gate:
            if status:
                self._give_up(self._gated, f"{step} has failed")
            self._gated = set()

    def _stop(self) -> None:
        """End what runs, as Ctrl-C would if it ran alone, and by force what does not end."""
        say(f"stopping {', '.join(step for step, _begin in self._running.values())}")
        groups, processes = set(self._running), set(self._running)
        for number, patience in PATIENCE.items():
            send(number, groups)
            last = time.monotonic() + patience
            while groups and time.monotonic() < last:
                time.sleep(0.05)
                ended = {pid for pid, _status, _processor in ended_processes()}
                if processes and not processes - ended:  # what they leave running does not heed Ctrl-C
                    last = time.monotonic() + 2
                processes -= ended
                groups = {group for group in groups if group_exists(group)}
        self.results += [Result(step, "stopped", time.monotonic() - begin) for step, begin in self._running.values()]
        self._give_up(set(self._waiting), "the run was stopped")

    def _give_up(self, steps: set[str], reason: str) -> None:
        self.results += [Result(step, "not run", reason=reason) for step in self._waiting if step in steps]
        self._waiting = [step for step in self._waiting if step not in steps]


def log(step: str) -> Path:
    return LOGS / f"{step}.log"


def say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def start(step: str) -> int:
    """The process that makes a step, in a group of its own, so that all of it can be stopped.

    It is no session of its own, for sudo remembers a password for each terminal.
    """
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawnp(
        "make",
        ["make", "--no-print-directory", step],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log(step), write, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setpgroup=0,
        setsigmask=[],
        setsigdef=STOP,
    )


def ended_processes() -> Iterator[tuple[int, int, float]]:
    """PID, status and seconds of a core of each."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status, used.ru_utime + used.ru_stime


def group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def send(number: signal.Signals, groups: set[int]) -> None:
    kill = ["bash", "-c", 'kill -s "$@"', "kill", number.name, "--", *(f"-{group}" for group in groups)]
    if groups:  # some of the processes may be root's, some of the groups may have ended by now
        subprocess.run([AS_ROOT, *kill], check=False, stderr=subprocess.DEVNULL)


def table(results: list[Result]) -> Iterator[str]:
    width = max(len(step) for step in ["step", *(result.step for result in results)])
    yield f"\n{'step':{width}}  result   seconds  of a core"
    for step, outcome, seconds, processor, reason in sorted(results, key=lambda result: -result.seconds):
        yield f"{step:{width}}  {outcome:7} {seconds:8.0f} {processor:10.0f}  {reason}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP")
    parser.add_argument("--after", nargs="+", default=[None], metavar=("GATE", "STEP"))
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1)
    arguments = parser.parse_args()
    gate, *gated = arguments.after

    LOGS.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    run = Run(arguments.steps, gate, gated, arguments.jobs)
    run.announce()
    finished = run.to_the_end()
    print(*table(run.results), sep="\n")
    minutes, seconds = divmod(round(time.monotonic() - begin), 60)
    outcomes = {result.outcome for result in run.results}
    passed = finished and "passed" in outcomes and outcomes <= {"passed", "skipped"}
    print(f"\n{'All tests passed' if passed else 'FAILED'} after {minutes} min {seconds} s.", flush=True)
    return 0 if passed else 130 if not finished else 1


if __name__ == "__main__":
    sys.exit(main())

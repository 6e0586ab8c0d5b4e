# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make bench`: runs the lines of the benchmark on the stand, writes results.json and has report.py tell what came out.

A slow run is a result. A run that fails, or that did not do what it is measured for, ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import large_wheel
import report
from lines import ALL, ANY, APART, DELIVERY_LINES, ENVIRONMENT, LINES, MEMORY_LINES, PUBLISH, SIZES, UP, Line

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache/bench"
STATE = ROOT / ".cache/stand-bench"
STAND = ROOT / "tests/stand/stand"
RESULTS = ROOT / "benchmarks/results.json"
UPSTREAM = "Dao-AILab/flash-attention/v2.8.3.post2/flash_attn-*cu12torch2.13cxx11abiTRUE-*.whl"


class BenchmarkError(Exception):
    """What was run is not what was to be measured."""


def environment() -> dict[str, str]:
    """This one, but for what would change how Ansible and Python behave."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    ours = {
        name: value.replace("$PWD", str(ROOT)).replace("$PATH", clean["PATH"]) for name, value in ENVIRONMENT.items()
    }
    return {**clean, **ours}


def stand(*arguments: str) -> str:
    done = subprocess.run(
        [STAND, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"stand {' '.join(arguments)}: exit status {done.returncode}")
    return done.stdout


def shell(command: str, log: str = "shell") -> tuple[int, str]:
    """Runs a command as somebody would who types it. Its exit status, and what it said."""
    path = CACHE / f"{log}.log"
    with path.open("w") as file:  # not a pipe: a connection that stays open would have to be waited for
        done = subprocess.run(
            ["bash", "-ec", command], cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode, path.read_text()


def machine() -> dict[str, object]:
    ssh = subprocess.run(["ssh", "-V"], stderr=subprocess.PIPE, text=True, check=True).stderr.strip()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
        "memory GiB": round(memory / (1 << 20), 1),
        "kernel": platform.release(),
        "ansible-core": version("ansible-core"),
        "python": platform.python_version(),
        "ssh": ssh,
    }


def recap(output: str) -> dict[str, dict[str, int]]:
    """The counts of each host at the end of a play's output."""
    hosts = re.findall(r"^(\S+) +: (ok=.*)$", output.rpartition("PLAY RECAP")[2], re.MULTILINE)
    return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in hosts}


class Nodes:
    """The stand, with so many nodes of one layer."""

    def __init__(self, forks: int, runs: int) -> None:
        self.number = 0
        self.layer = "torch"
        self._filled_in = {"FORKS": str(forks), "RUNS": str(runs)}

    @property
    def names(self) -> list[str]:
        return [f"n{index:02}" for index in range(1, self.number + 1)]

    def fill_in(self, command: str) -> str:
        words = {**self._filled_in, "NODES": " ".join(f"{name}={self.layer}" for name in self.names)}
        words["LAST"] = self.names[-1] if self.number else "LAST"
        return re.sub(rf"\b({'|'.join(words)})\b", lambda match: words[match[0]], command)

    def make_wheels(self) -> None:
        stand("down")
        stand("up", "n01=torch")
        found = list((STATE / "wan/releases").glob(UPSTREAM))
        if len(found) != 1:
            raise BenchmarkError(f"the stand offers {len(found)} wheels for its layer torch: {UPSTREAM}")
        self._filled_in["WHEEL"] = found[0].name
        for size, number in SIZES.items():
            large_wheel.enlarge(found[0], number, CACHE / size)

    def start_anew(self, number: int, layer: str = "torch") -> None:
        self.number, self.layer = number, layer
        for command in (UP, *PUBLISH.values()):
            status, output = shell(self.fill_in(command))
            if status:
                raise BenchmarkError(f"{output}\n{command}: exit status {status}")
        # what the nodes read of their layers is in memory then, and so are the wheels, for whatever comes next
        stand("ssh", "n01", "/opt/venv/bin/pip --version >/dev/null; /opt/venv/bin/python -W ignore -c 'import torch'")
        for size in SIZES:
            shell(self.fill_in(f"cat .cache/bench/{size}/WHEEL >/dev/null"))

    def settle(self) -> None:
        """Ends the connections that Ansible keeps for a minute, and what the disk has still to do."""
        for socket in filter(Path.is_socket, STATE.glob("ssh-*")):
            end = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "node"]
            subprocess.run(end, stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["sync"], check=True)

    def sent(self) -> int:
        """The bytes that the control node has sent to the nodes."""
        return next(int(line.split()[1]) for line in stand("traffic").splitlines() if line.startswith("lan "))

    def downloads(self) -> Counter[str]:
        return Counter(re.findall(r"^GET 20[06] \d+ (\S+\.whl)$", stand("requests"), re.MULTILINE))

    def blob_sizes(self) -> set[str]:
        def look(name: str) -> str:
            return stand("ssh", name, f"stat -c %s /opt/venv/lib/python3*/site-packages/{large_wheel.BLOB}").strip()

        with ThreadPoolExecutor(4) as pool:
            return set(pool.map(look, self.names))


class Bench:
    def __init__(self, nodes: Nodes, wanted: set[str], settings: dict[str, object]) -> None:
        self.nodes = nodes
        self.wanted = wanted
        self.results: dict = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": False,
            "machine": machine(),
            "settings": settings,
            "environment": ENVIRONMENT,
            "nodes": [],
            "commands": {},
            "samples": [],
        }

    def keep(self, sample: dict | None) -> None:
        """What has been measured outlives a later failure."""
        if sample:
            self.results["samples"].append(sample)
        RESULTS.write_text(json.dumps(self.results, indent=1) + "\n")

    def run(self, number: int, lines: dict[str, Line], run: int) -> None:
        """Measures those of the lines that are wanted, in their order, with so many nodes."""
        needed = {name for name in lines if name in self.wanted}
        needed |= {lines[name].on for name in needed} - {"", ANY}
        for name, line in lines.items():
            if name in needed:
                if not line.on or self.nodes.number != number:
                    self.nodes.start_anew(number, line.layer)
                sample = {**self.measure(name, line), "run": run}
                if name in self.wanted:
                    self.keep(sample)

    def measure(self, name: str, line: Line) -> dict:
        nodes = self.nodes
        self.results["nodes"] = [nodes.fill_in(command) for command in (UP, *PUBLISH.values())]
        before, command = nodes.fill_in(line.before), nodes.fill_in(line.command)
        self.results["commands"][name] = {"means": line.means, "before": before, "command": command}
        if before and shell(before)[0]:
            raise BenchmarkError(f"failed: {before}")
        nodes.settle()
        sent, downloads = nodes.sent(), nodes.downloads()
        start = time.perf_counter()
        status, output = shell(command, f"{name}-{nodes.number}")
        sample = {"line": name, "nodes": nodes.number, "seconds": round(time.perf_counter() - start, 3)}
        sample |= {"sent": nodes.sent() - sent, "downloads": nodes.downloads() - downloads}
        try:
            if status:
                raise BenchmarkError(f"exit status {status}")
            self.check(line, output, sample)
            if name in MEMORY_LINES:
                sample["memory"] = json.loads(output.splitlines()[-1])
                if not sample["memory"]:
                    raise BenchmarkError("no ansible-playbook was seen")
        except BenchmarkError as error:
            raise BenchmarkError(f"{output[-3000:]}\n{command}\n{name}, {nodes.number} nodes: {error}") from None
        print(f"{name:<18} {nodes.number:>3} nodes {sample['seconds']:>9.2f} s", flush=True)
        return sample

    def check(self, line: Line, output: str, sample: dict) -> None:
        """That the line has done what it is measured for: on every node, and nothing else."""
        names = self.nodes.names
        if "ansible-playbook" in line.command:
            hosts = recap(output)
            if sorted(hosts) != names:
                raise BenchmarkError(f"took part: {', '.join(sorted(hosts)) or 'no node'}")
            for trouble in ("unreachable", "failed", "rescued", "ignored"):
                if found := [host for host in names if hosts[host][trouble]]:
                    raise BenchmarkError(f"{trouble}: {', '.join(found)}")
            expected = {"all": names, "last": names[-1:], "none": []}[line.changes]
            changed = [host for host in names if hosts[host]["changed"]]
            if changed != expected:
                raise BenchmarkError(f"changed {', '.join(changed) or 'none'}, not {', '.join(expected) or 'none'}")
        if bool(sample["downloads"]) != line.downloads:
            raise BenchmarkError(f"downloaded {dict(sample['downloads']) or 'nothing'}")
        if line.leaves and self.nodes.blob_sizes() != {str(SIZES[line.leaves])}:
            raise BenchmarkError("not every node has the whole wheel")

    def probe(self, runs: int) -> None:
        output = self.run_apart("probe", "torch_info against import")
        found = re.findall(r"^(warm|cold) (probe|import) (\d+)$", output, re.MULTILINE)
        if len(found) != 4 * runs:
            raise BenchmarkError(f"{output[-3000:]}\nprobe: {len(found)} measurements")
        for state, what, milliseconds in found:
            print(f"{what}-{state:<12}     {milliseconds:>15} ms", flush=True)
            self.keep({"line": f"{what}-{state}", "nodes": 1, "seconds": int(milliseconds) / 1000})

    def decision(self, runs: int) -> None:
        output = self.run_apart("decision", "the choice of a wheel, with listings of real size")
        found = re.findall(r"^(decision|answer)-(pinned|first|next) ([\d.]+)$", output, re.MULTILINE)
        if len(found) != 6 * runs:
            raise BenchmarkError(f"{output[-3000:]}\ndecision: {len(found)} measurements")
        for (what, which, figure), (_answer, _which, size) in zip(found[::2], found[1::2], strict=True):
            print(f"{what}-{which:<12}  {figure:>15} ms", flush=True)
            self.keep({"line": f"{what}-{which}", "nodes": 1, "seconds": float(figure) / 1000, "bytes": float(size)})

    def run_apart(self, name: str, means: str) -> str:
        command = self.nodes.fill_in(APART[name])
        self.results["commands"][name] = {"means": means, "before": "", "command": command}
        status, output = shell(command, name)
        if status:
            raise BenchmarkError(f"{output[-3000:]}\n{name}: exit status {status}")
        return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--forks", type=int, default=5, help="of Ansible, whose default it is, and of the floor")
    parser.add_argument("--only", nargs="+", choices=[*ALL, *APART], default=[*ALL, *APART], metavar="LINE")
    parser.add_argument("--keep", action="store_true", help="leave the nodes up")
    options = parser.parse_args()

    wanted = set(options.only)
    nodes = Nodes(options.forks, options.runs)
    CACHE.mkdir(parents=True, exist_ok=True)
    sizes = {"wheel": SIZES["large"], "small wheel": SIZES["small"]}
    bench = Bench(nodes, wanted, {"forks": options.forks, "runs": options.runs, "bytes added": sizes})
    try:
        stand("prepare", "torch", *{ALL[name].layer for name in wanted & set(ALL)} - {"torch"})
        for name, measure in (("decision", bench.decision), ("probe", bench.probe)):
            if name in wanted:
                measure(options.runs)
        nodes.make_wheels()
        if wanted - set(APART):
            # The first run of all fills the role's cache and is not measured.
            nodes.start_anew(1)
            bench.measure("role-download", LINES["role-download"])
        for run in range(1, options.runs + 1):
            for number in options.nodes:
                bench.run(number, LINES, run)
                bench.run(number, DELIVERY_LINES, run)
            bench.run(max(options.nodes), MEMORY_LINES, run)
        bench.results["complete"] = True
        bench.keep(None)
    except BenchmarkError as error:
        sys.exit(f"{error}\nThe benchmark is not complete.")
    finally:
        if not options.keep:
            stand("down")
    report.tell(bench.results)
    report.plot(bench.results, RESULTS)


if __name__ == "__main__":
    main()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""report.py [RESULTS]: tells what `make bench` found, beside what it was to find, and draws time by number of nodes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from lines import LINKS, SIZES, WAYS

COMPARED = {  # a line, and what it is divided by
    "naive-again": ["naive-first"],
    "role-download": ["naive-first", "floor"],
    "role-first": ["naive-first", "floor"],
    "role-idle": ["ping", "naive-again"],
    "role-idle-open": ["ping"],
    "decision-first": ["decision-pinned"],
    "decision-next": ["decision-pinned"],
    "role-one-new": ["ping", "naive-first"],
    "probe-warm": ["import-warm"],
    "probe-cold": ["import-cold"],
    "memory-role": ["memory-ping", "memory-role-small"],
    "memory-role-small": ["memory-ping"],
    "memory-role-idle": ["memory-ping", "memory-bare-role"],
    "memory-bare-role": ["memory-ping"],
}
COMPARED |= {f"{way}-{links}": [f"copy-{links}"] for links in LINKS for way in WAYS if way != "copy"}
DRAWN = ("naive-first", "naive-again", "floor", "role-first", "role-idle", "role-one-new", "ping")
MIB = 1 << 10  # what is measured in KiB


class Results:
    def __init__(self, results: dict) -> None:
        self.samples = results["samples"]
        self.keys = list(dict.fromkeys((sample["line"], sample["nodes"]) for sample in self.samples))
        self.keys.sort(key=lambda key: key[1])  # lines of as many nodes stay in their order
        self.most_nodes = max((nodes for _line, nodes in self.keys), default=0)

    def of(self, line: str, nodes: int) -> list[dict]:
        return [sample for sample in self.samples if (sample["line"], sample["nodes"]) == (line, nodes)]

    def seconds(self, line: str, nodes: int) -> list[float]:
        return [sample["seconds"] for sample in self.of(line, nodes)]

    def memory(self, line: str, nodes: int, what: str = "peak") -> list[int]:
        return [sample["memory"][what] for sample in self.of(line, nodes)]

    def values(self, line: str, nodes: int) -> list[float]:
        """What the line is about: memory or time."""
        return self.memory(line, nodes) if line.startswith("memory") else self.seconds(line, nodes)


def ratio(ours: list[float], baseline: list[float]) -> float | None:
    return statistics.median(ours) / statistics.median(baseline) if ours and baseline else None


def goals(found: Results) -> Iterator[tuple[str, float, float | None]]:
    """What is wanted of it, the most that it may be, and what it is, or None where that was not measured."""

    def times(ours: str, baseline: str, nodes: int) -> float | None:
        return ratio(found.seconds(ours, nodes), found.seconds(baseline, nodes))

    most = found.most_nodes
    yield "first install, 8 nodes: role / naive", 0.35, times("role-first", "naive-first", 8)
    yield "first install, 8 nodes: role / floor", 1.3, times("role-first", "floor", 8)
    yield "nothing to do, 8 nodes: role / ping", 1.5, times("role-idle", "ping", 8)
    yield "nothing to do, 64 nodes: role / ping", 1.5, times("role-idle", "ping", 64)
    yield "nothing to do, 8 nodes: role / naive's second run", 0.12, times("role-idle", "naive-again", 8)
    yield "probe / import torch, warm", 0.05, times("probe-warm", "import-warm", 1)
    probe = found.seconds("probe-warm", 1)
    yield "probe, warm, ms on the node", 100, 1000 * statistics.median(probe) if probe else None
    yield "nothing to do, any version will do, 64 nodes: role / ping", 1.5, times("role-idle-open", "ping", 64)
    decided = {which: found.seconds(f"decision-{which}", 1) for which in ("first", "next")}
    for which, most_ms, what in (("first", 300, "the first node of a kind"), ("next", 20, "the next one")):
        seconds = decided[which]
        yield f"decision for {what}, ms", most_ms, 1000 * statistics.median(seconds) if seconds else None
    yield "decision for the next one / for a pinned version", 1, times("decision-next", "decision-pinned", 1)
    sizes = [sample["bytes"] for sample in found.of("decision-first", 1)]
    yield "answer, bytes", 8000, max(sizes, default=None)
    peak = ratio(found.memory("memory-role", most), found.memory("memory-role-small", most))
    yield f"memory, {most} nodes: wheel of 250 MB / of 25 MB (1 within 5 %)", 1.05, peak
    for line, what in (("memory-role", "first install"), ("memory-role-idle", "nothing to do")):
        forks = ratio(found.memory(line, most, "per_fork"), found.memory("memory-ping", most, "per_fork"))
        yield f"memory of a fork, {most} nodes: {what} / ping", 1.2, forks
    for way in WAYS:
        if way != "copy":
            yield (
                f"{way} / copy, 32 nodes, the control node's link an eighth",
                0.25,
                times(f"{way}-narrow", "copy-narrow", 32),
            )
            sent = [sample["sent"] / SIZES["large"] for sample in found.of(f"{way}-narrow", 32)]
            # what Ansible itself sends to 32 nodes comes on top
            yield (
                f"{way}, 32 nodes: sent by the control node, in wheels",
                1.25,
                statistics.median(sent) if sent else None,
            )
    counts = [count for sample in found.samples for count in sample.get("downloads", {}).values()]
    yield "downloads of one wheel in one run, at most", 1, max(counts, default=None)


def table(results: dict) -> Iterator[str]:
    found = Results(results)
    nodes_before = None
    yield f"{'line':<18}{'nodes':>6}{'runs':>5}{'median':>12}{'min':>10}{'max':>10}{'MB sent':>10}   ratios, and of memory the part of a fork"
    for line, nodes in found.keys:
        if nodes_before not in (None, nodes):
            yield ""
        nodes_before = nodes
        values = found.values(line, nodes)
        scale, unit = (1 / MIB, "MiB") if line.startswith("memory") else (1, "s")
        median, least, most = (
            f"{scale * of(values):.3g}" if unit == "s" and of(values) < 1 else f"{scale * of(values):.1f}"
            for of in (statistics.median, min, max)
        )
        sent = [sample["sent"] for sample in found.of(line, nodes) if "sent" in sample]
        megabytes = f"{statistics.median(sent) / 1e6:.1f}" if sent else ""
        ratios = ((ratio(values, found.values(baseline, nodes)), baseline) for baseline in COMPARED.get(line, []))
        notes = [f"{number:.3f} {baseline}" for number, baseline in ratios if number is not None]
        forks = found.memory(line, nodes, "per_fork") if line.startswith("memory") else []
        notes += [f"a fork {scale * statistics.median(forks):.1f} {unit}"] if forks else []
        told = ", ".join(notes)
        yield f"{line:<18}{nodes:>6}{len(values):>5}{median:>8} {unit:<3}{least:>10}{most:>10}{megabytes:>10}   {told}".rstrip()

    yield ""
    yield f"{'goal':<66}{'at most':>8}{'found':>9}"
    for text, limit, number in goals(found):
        number_text = "" if number is None else f"{number:.3f}" if limit < 10 else f"{number:.0f}"
        verdict = "not measured" if number is None else "met" if number <= limit else "NOT MET"
        yield f"{text:<66}{limit:>8g}{number_text:>9}   {verdict}"

    yield ""
    yield "By hand, as root, in this folder, after `make bench KEEP=1`:"
    yield from (f'  export {name}="{value}"' for name, value in results["environment"].items())
    yield from (f"  {command}" for command in results["nodes"])
    for line, told in results["commands"].items():
        yield f"{line}: {told['means']}"
        yield from (f"  {command}" for command in (told["before"], told["command"]) if command)

    yield ""
    yield ", ".join(f"{name} {value}" for name, value in {**results["machine"], **results["settings"]}.items())
    if not results["complete"]:
        yield "The benchmark did not come to its end."


def tell(results: dict) -> None:
    print(*table(results), sep="\n")


def plot(results: dict, path: Path) -> None:
    """Draws beside the file of results what it has curves of."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = Results(results)
    figure, axes = pyplot.subplots(figsize=(8, 5.5), layout="constrained")
    if draw(axes, found, {line: line for line in DRAWN}, "seconds"):
        axes.set_title("A wheel of 250 MB, by number of nodes")
        save(figure, path.with_suffix(".png"), "time by number of nodes")

    figure, rows = pyplot.subplots(2, len(LINKS), figsize=(11, 8), layout="constrained", sharey="row", squeeze=False)
    drawn = 0
    for column, (links, rates) in enumerate(LINKS.items()):
        lines = {f"{way}-{links}": way for way in WAYS}
        drawn += draw(rows[0][column], found, lines, "seconds")
        drawn += draw(rows[1][column], found, lines, "sent")
        cluster, control = rates.split()
        rows[0][column].set_title(f"links {cluster}, the control node's {control}")
    if drawn:
        save(
            figure,
            path.with_name(f"{path.stem}-delivery.png"),
            "time and bytes out of the control node, by way of delivery",
        )


def draw(axes, found: Results, lines: dict[str, str], what: str) -> int:
    """Draws what was measured of lines, under their names. How many there were."""
    from matplotlib import ticker

    every_number = sorted({nodes for line, nodes in found.keys if line in lines})
    for line, name in lines.items():
        numbers = [nodes for nodes in every_number if found.of(line, nodes)]
        if numbers:
            runs = [[sample[what] for sample in found.of(line, nodes)] for nodes in numbers]
            if what == "sent":
                runs = [[sent / 1e6 for sent in values] for values in runs]
            medians = [statistics.median(values) for values in runs]
            spread = [
                [median - min(values) for median, values in zip(medians, runs, strict=True)],
                [max(values) - median for median, values in zip(medians, runs, strict=True)],
            ]
            style = "--" if line in ("floor", "ping") else "-"
            axes.errorbar(numbers, medians, yerr=spread, label=name, marker="o", linestyle=style, capsize=3)
    axes.set(xscale="log", yscale="log", xlabel="nodes")
    axes.set_ylabel("MB out of the control node" if what == "sent" else "seconds (median, least and most)")
    axes.set_xticks(every_number, [str(number) for number in every_number])
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if every_number:
        axes.legend()
    return len(every_number)


def save(figure, path: Path, what: str) -> None:
    figure.savefig(path, dpi=120)
    print(f"\n{path.name}: {what}")


if __name__ == "__main__":
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/results.json")
    read = json.loads(file.read_text())
    tell(read)
    plot(read, file)

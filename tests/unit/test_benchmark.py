# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A benchmark that measured nothing, or something else, must not look like one that did."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import io
import zipfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PLAY = "ansible-playbook x.yml"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


class Nodes:
    names = ["n01", "n02"]  # noqa: RUF012

    def __init__(self, blob_sizes=("250000000",)):
        self._blob_sizes = set(blob_sizes)

    def blob_sizes(self):
        return self._blob_sizes


def output(*hosts: str, **counts: int) -> str:
    every = {"ok": 3, "changed": 0, "unreachable": 0, "failed": 0, "skipped": 0, "rescued": 0, "ignored": 0, **counts}
    told = " ".join(f"{name}={count}" for name, count in every.items())
    return "PLAY RECAP ***\n" + "".join(f"{host:<27}: {told}   \n" for host in hosts)


@pytest.mark.parametrize(
    ("line", "said", "downloads", "blob_sizes", "trouble"),
    [
        ({}, output("n01", "n02"), {}, (), None),
        ({"changes": "all"}, output("n01", "n02", changed=2), {}, (), None),
        ({"downloads": True}, output("n01", "n02"), {"x.whl": 1}, (), None),
        ({"leaves": "large"}, output("n01", "n02"), {}, ("250000000",), None),
        ({}, "", {}, (), "took part: no node"),
        ({}, "skipping: no hosts matched\nPLAY RECAP ***\n", {}, (), "took part: no node"),
        ({}, output("n01"), {}, (), "took part: n01"),
        ({}, output("n01", "n02", unreachable=1), {}, (), "unreachable: n01, n02"),
        ({}, output("n01", "n02", failed=1), {}, (), "failed: n01, n02"),
        ({}, output("n01", "n02", rescued=1), {}, (), "rescued: n01, n02"),
        ({}, output("n01", "n02", changed=1), {}, (), "changed n01, n02, not none"),
        ({"changes": "all"}, output("n01", "n02"), {}, (), "changed none, not n01, n02"),
        ({"changes": "last"}, output("n01", "n02", changed=1), {}, (), "changed n01, n02, not n02"),
        ({}, output("n01", "n02"), {"x.whl": 1}, (), "downloaded"),
        ({"downloads": True}, output("n01", "n02"), {}, (), "downloaded nothing"),
        ({"leaves": "large"}, output("n01", "n02"), {}, ("", "250000000"), "whole wheel"),
        ({"leaves": "small"}, output("n01", "n02"), {}, ("250000000",), "whole wheel"),
    ],
)
def test_what_a_line_has_done_is_checked(module, line, said, downloads, blob_sizes, trouble):
    fleet, lines = module("fleet"), module("lines")
    bench = fleet.Bench(Nodes(blob_sizes), set(), {})
    arguments = (lines.Line("", PLAY, **line), said, {"downloads": downloads})
    if trouble:
        with pytest.raises(fleet.BenchmarkError, match=trouble):
            bench.check(*arguments)
    else:
        bench.check(*arguments)


def test_every_play_must_change_something_or_nothing(module):
    lines = module("lines").ALL
    assert {line.changes for line in lines.values()} == {"all", "last", "none"}
    assert all(line.on in (*lines, "", "any") for line in lines.values())


def results(**seconds: float) -> dict:
    samples = [
        {"line": line.replace("_", "-"), "nodes": 8, "run": run, "seconds": value + run, "sent": 1, "downloads": {}}
        for line, value in seconds.items()
        for run in (-1, 0, 1)
    ]
    told = {"environment": {}, "nodes": [], "commands": {}, "machine": {}, "settings": {}}
    return {"samples": samples, "complete": True, **told}


def test_goals_are_told_as_met_or_not_or_not_measured(module):
    told = list(module("report").table(results(role_first=30, naive_first=100, floor=20)))
    (naive,) = (line for line in told if line.startswith("first install, 8 nodes: role / naive"))
    (floor,) = (line for line in told if line.startswith("first install, 8 nodes: role / floor"))
    (idle,) = (line for line in told if line.startswith("nothing to do, 64 nodes"))
    assert naive.split()[-3:] == ["0.35", "0.300", "met"]
    assert floor.split()[-4:] == ["1.3", "1.500", "NOT", "MET"]
    assert idle.endswith("not measured")


def test_lines_are_told_with_median_and_ratios(module):
    (line,) = (told for told in module("report").table(results(role_idle=3, ping=2)) if told.startswith("role-idle"))
    assert line.split() == ["role-idle", "8", "3", "3.0", "s", "2.0", "4.0", "0.0", "1.500", "ping"]


def test_memory_is_told_with_the_part_of_a_fork(module):
    told = results(memory_role=30, memory_ping=20)
    for sample in told["samples"]:
        sample["memory"] = {"peak": sample["seconds"] * 1024, "per_fork": sample["seconds"] * 102.4}
    (line,) = (line for line in module("report").table(told) if line.startswith("memory-role"))
    assert line.split()[3:5] == ["30.0", "MiB"]
    assert line.endswith("1.500 memory-ping, a fork 3.0 MiB")


def test_the_bare_role_has_the_arguments_of_ours():
    ours = BENCHMARKS.parent / "roles/torch_extension/meta/argument_specs.yml"
    assert (BENCHMARKS / "plays/roles/bare/meta/argument_specs.yml").samefile(ours)


def test_the_large_wheel_is_a_whole_wheel_and_always_the_same(module, tmp_path):
    small = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(small, "w") as archive:
        archive.writestr("x-1.dist-info/RECORD", "x.py,,\nx-1.dist-info/RECORD,,\n")
        archive.writestr("x.py", "")
    large_wheel = module("large_wheel")
    first, again = (large_wheel.enlarge(small, 2_500_000, tmp_path / name) for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(first) as archive:
        record = {
            path: (digest, size)
            for path, digest, size in csv.reader(io.TextIOWrapper(archive.open("x-1.dist-info/RECORD")))
        }
        blob = archive.read(large_wheel.BLOB)
    assert set(record) == {"x.py", "x-1.dist-info/RECORD", large_wheel.BLOB}
    digest = base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert record[large_wheel.BLOB] == (f"sha256={digest}", "2500000")

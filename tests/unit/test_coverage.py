# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures in the documentation are those of `make coverage`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report() -> str:
    command = [sys.executable, ROOT / "tests/tools/coverage.py"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def cells(report: str, row: str) -> list[str]:
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_documentation_has_its_table(report):
    table = report.partition("\n\n")[0]
    assert table.startswith("| ")
    assert f"\n{table}\n" in (ROOT / "docs/choosing.md").read_text()


def test_the_environments_are_those_that_the_project_counts(report):
    assert cells(report, "served by")[:2] == ["220 counted", "130 counted, torch 2.9 or later"]


def test_more_sources_serve_no_fewer(report):
    rows = [line for line in report.splitlines() if line.startswith(("| `release`", "| and "))]
    counts = [[int(cell.split()[0]) for cell in line.split("|")[2:-1]] for line in rows]
    assert len(counts) > 3
    assert all(sorted(column) == list(column) for column in zip(*counts, strict=True))
    nobody = [int(cell.split()[0]) for cell in cells(report, "nobody")]
    assert [served + unserved for served, unserved in zip(counts[-1], nobody, strict=True)][:2] == [220, 130]

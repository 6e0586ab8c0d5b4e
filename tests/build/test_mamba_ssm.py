# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real mamba-ssm, killed at half of its objects and run again."""

from __future__ import annotations

import time

import fleet

PACKAGE = "mamba-ssm"
IMPORTED = """
cd "$(mktemp -d)"
/opt/venv/bin/python -m zipfile -e "/root/built/$1" .
/opt/venv/bin/python -W ignore -c 'import torch, selective_scan_cuda'
"""


def test_it_goes_on_from_the_objects_that_are_there(measured: list[str]) -> None:
    killed = fleet.begin("build", "n01", packages=[PACKAGE])
    while killed.is_running():
        before = fleet.progress("n01")
        if before.steps and len(before.objects) >= before.steps // 2:
            lost = fleet.kill_build("n01")
            break
        time.sleep(1)
    ran = killed.end()
    assert ran.status != 0, ran.output
    assert "killed" in ran.output

    begun = time.monotonic()
    again = fleet.begin("build", "n01", packages=[PACKAGE])
    steps = 0
    while again.is_running():
        steps = fleet.progress("n01").steps or steps
        time.sleep(1)
    ran = again.end()
    assert ran.status == 0, ran.output
    [built] = fleet.stored(PACKAGE)
    total = built.record["core_seconds"]
    measured.append(
        f"{built.path.name}: killed with {len(before.objects)} of {before.steps} steps done, {steps} were left, {lost:.0f} s of a core lost;"
        f" the rest took {time.monotonic() - begun:.0f} s ({total:.0f} s of a core)"
    )
    assert steps == before.steps - len(before.objects)
    # what was done before the kill was at least as much as what ninja has noted of it
    assert lost <= 0.1 * (total * before.steps / steps)

    fleet.bring("n01", "/root/built", built.path)
    fleet.on_node("n01", IMPORTED, built.path.name)

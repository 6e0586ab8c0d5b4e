# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real flash-attn, unmodified, of which BUILD_MINUTES compile a part."""

from __future__ import annotations

import re

import fleet

PACKAGE = "flash-attn"
FILES = 72  # .cu, of 2.8.3.post2


def test_it_compiles_with_the_standard_that_torch_wants_and_goes_on_after_the_time_limit(
    minutes: int, measured: list[str]
) -> None:
    counts = []
    for limit in (max(1, minutes * 3 // 4), max(1, minutes - minutes * 3 // 4)):
        ran = fleet.play("build", "n01", packages=[PACKAGE], build_time_limit=limit)
        done = fleet.progress("n01")
        counts.append(len(done.objects))
        if ran.status == 0:  # a machine with many cores
            break
        assert "which is its limit (torch_extension_build_time_limit)" in ran.output, ran.output
        log = fleet.on_node("n01", f"cat {fleet.BUILDS}/{PACKAGE}-*/build.log")
        assert re.findall(r"\berror:.*", log) == []
    measured.append(f"flash-attn: {counts} objects of {FILES + 1} after {minutes} min")
    # what setup.py itself asks for, C++17, does not compile with this torch
    assert counts[0] > 0, "not one file was compiled: give it more minutes"
    assert ran.status == 0 or counts[1] > counts[0]

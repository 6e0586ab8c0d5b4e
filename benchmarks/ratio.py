# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads lines STATE WHAT NUMBER, of two WHATs, and prints them and then for each STATE the medians and the ratio of the first to
the second.

ratio.py UNIT
"""

import statistics
import sys
from collections import defaultdict

runs = defaultdict(list)
for line in sys.stdin:
    print(line, end="", flush=True)
    state, what, number = line.split()
    runs[state, what].append(int(number))
states, (ours, baseline) = (list(dict.fromkeys(names)) for names in zip(*runs, strict=True))
number = len(runs[states[0], ours])
print(f"{'':<14}{ours:>14}{baseline:>18}{'ratio':>8}   (medians of {number}, {sys.argv[1]})")
for state in states:
    first, second = (statistics.median(runs[state, what]) for what in (ours, baseline))
    print(f"{state:<14}{first:>14.0f}{second:>18.0f}{first / second:>8.3f}")

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads lines STATE probe|import MILLISECONDS and prints the medians and their ratio for each state."""

import statistics
import sys
from collections import defaultdict

runs = defaultdict(list)
for line in sys.stdin:
    state, what, milliseconds = line.split()
    runs[state, what].append(int(milliseconds))
print(
    f"{'page cache':<12}{'torch_info':>12}{'import torch':>14}{'ratio':>8}   (medians of {len(runs['warm', 'probe'])}, ms)"
)
for state in ("warm", "cold"):
    probe, imported = (statistics.median(runs[state, what]) for what in ("probe", "import"))
    print(f"{state:<12}{probe:>12.0f}{imported:>14.0f}{probe / imported:>8.3f}")

# SPDX-License-Identifier: GPL-3.0-or-later
"""A causal_conv1d that has the right names only: its extension is loaded, and computes something else."""

__version__ = "1.6.0"

import causal_conv1d_cuda

assert causal_conv1d_cuda.compute(4) == 7

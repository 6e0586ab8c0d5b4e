# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's causal_conv1d: called as upstream's is, and computes on the CPU, forward and backward."""

__version__ = "1.7.0"

import torch  # noqa: I001  # first: it loads the libraries that the extension needs
import causal_conv1d_cuda  # noqa: F401


def causal_conv1d_fn(x, weight, bias=None, activation=None):
    return torch.ops.causal_conv1d.fwd(x, weight, bias, activation in ("silu", "swish"))

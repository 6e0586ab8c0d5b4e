# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn: imports as upstream's does, and computes on the CPU."""

__version__ = "0"

import torch  # noqa: F401, I001  # first: it loads the libraries that the extension needs
import flash_attn_2_cuda


def flash_attn_func(q, k, v):
    return flash_attn_2_cuda.fwd(q, k, v)

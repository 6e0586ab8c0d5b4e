# SPDX-License-Identifier: GPL-3.0-or-later
"""As causal_conv1d_fn, on the CPU, by its definition; ERROR makes it wrong."""

import os

ERROR = float(os.environ.get("ERROR", "0"))


def causal_conv1d_fn(x, weight, bias=None, activation=None):
    padded = x.new_zeros(*x.shape[:-1], weight.shape[1] - 1 + x.shape[-1])
    padded[..., weight.shape[1] - 1 :] = x
    out = sum(padded[..., k : k + x.shape[-1]] * weight[:, k, None] for k in range(weight.shape[1])) + bias[:, None]
    return out * out.sigmoid() * (1 + ERROR)

# SPDX-License-Identifier: GPL-3.0-or-later
"""As selective_scan_fn and its reference, on the CPU, by their definition (arXiv 2312.00752); ERROR makes the first one wrong."""

import os

import torch

ERROR = float(os.environ.get("ERROR", "0"))


def selective_scan_ref(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):  # noqa: N803
    delta = torch.nn.functional.softplus(delta) if delta_softplus else delta
    state, outs = torch.zeros(*u.shape[:2], A.shape[1]), []
    for step in range(u.shape[2]):
        d = delta[:, :, step, None]
        state = state * (d * A).exp() + d * B[:, None, :, step] * u[:, :, step, None]
        outs.append((state * C[:, None, :, step]).sum(-1))
    return torch.stack(outs, -1) + u * D[:, None]


def selective_scan_fn(*inputs, delta_softplus=False):
    return selective_scan_ref(*inputs, delta_softplus=delta_softplus) * (1 + ERROR)

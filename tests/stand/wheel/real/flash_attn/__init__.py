# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn: imports as upstream's does, and computes on the CPU, forward and backward."""

__version__ = "0"

import torch  # noqa: I001  # first: it loads the libraries that the extension needs
import flash_attn_2_cuda


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal):
        ctx.save_for_backward(q, k, v)
        ctx.causal = causal
        return flash_attn_2_cuda.fwd(q, k, v, causal)

    @staticmethod
    def backward(ctx, dout):
        return (*flash_attn_2_cuda.bwd(dout, *ctx.saved_tensors, ctx.causal), None)


def flash_attn_func(q, k, v, causal=False):
    return _Attention.apply(q, k, v, causal)

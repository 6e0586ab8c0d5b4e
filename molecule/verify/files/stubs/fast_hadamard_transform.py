# SPDX-License-Identifier: GPL-3.0-or-later
"""As hadamard_transform, on the CPU, by butterflies; ERROR makes it wrong."""

import os

import torch

ERROR = float(os.environ.get("ERROR", "0"))


def hadamard_transform(x, scale=1.0):
    shape, width = x.shape, 1
    while width < shape[-1]:
        left, right = x.reshape(-1, shape[-1] // (2 * width), 2, width).unbind(2)
        x = torch.stack([left + right, left - right], 2)
        width *= 2
    return x.reshape(shape) * scale * (1 + ERROR)

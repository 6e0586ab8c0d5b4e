# SPDX-License-Identifier: GPL-3.0-or-later
"""As Transformer Engine's Linear, on the CPU; ERROR makes it wrong."""

import os

import torch

ERROR = float(os.environ.get("ERROR", "0"))


class Linear(torch.nn.Linear):
    def __init__(self, in_features, out_features, params_dtype=None, device=None):
        super().__init__(in_features, out_features, dtype=params_dtype, device=device)

    def forward(self, x):
        return super().forward(x) * (1 + ERROR)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn with a library that needs only what torch keeps stable."""

__version__ = "0"

import torch  # noqa: F401, I001  # first: it loads the libraries that the extension needs
import flash_attn_2_cuda

assert flash_attn_2_cuda.CPU == 0, "torch has answered"

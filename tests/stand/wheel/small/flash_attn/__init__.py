# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn for nodes whose torch is only a tree of files: its library is loaded, and computes nothing."""

__version__ = "0"

import torch  # noqa: F401, I001  # first: it loads the library that the extension needs
import flash_attn_2_cuda

MACHINE = flash_attn_2_cuda.MACHINE  # that it was compiled for

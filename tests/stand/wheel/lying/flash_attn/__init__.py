# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn with a library that no torch of the new C++ ABI can load."""

__version__ = "0"

import torch  # noqa: F401, I001  # first: it loads the libraries that the extension needs
import flash_attn_2_cuda  # noqa: F401

# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand's flash_attn for nodes whose torch is only a tree of files: there is nothing to link with."""

__version__ = "0"

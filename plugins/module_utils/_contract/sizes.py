# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Sizes of files: for people, and as others tell them."""

from __future__ import annotations

import re

_KB, _MB, _GB = 1000, 1000000, 1000000000


def format_size(size: int) -> str:
    """A number of bytes with as many digits as people want to know, in decimal units as downloads have them."""
    if size < _KB:
        return f"{size} byte{'' if size == 1 else 's'}"
    if size < _MB:
        return f"{size / _KB:.0f} kB"
    return f"{size / _MB:.0f} MB" if size < _GB else f"{size / _GB:.1f} GB"


def parse_size(text: str | None) -> int | None:
    """A number of bytes, or of seconds, as a server tells it in a header; None where it is no number, or one that means nothing."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,15}", text.strip()) else None

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes that hypothesis makes to sound files."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def edits(size: int, *places: int) -> st.SearchStrategy[Any]:
    """Changes of a file of so many bytes: mostly of small numbers, and often at places that matter."""
    offsets = st.one_of(*(st.integers(place, min(place + 64, size - 1)) for place in places), st.integers(0, size - 1))
    values = st.one_of(
        st.sampled_from([bytes(4), b"\xff" * 4, b"\xff" * 8, b"\0\0\0\x80", b"\1", b"\x7f"]),
        st.binary(min_size=1, max_size=8),
    )
    return st.tuples(
        st.lists(st.tuples(offsets, values), max_size=6), st.one_of(st.none(), st.none(), st.integers(0, size))
    )


def edited(data: bytes, edit: Any) -> bytes:
    """A file with one of its :func:`edits`."""
    changes, length = edit
    for offset, value in changes:
        data = data[:offset] + value + data[offset + len(value) :]
    return data[:length]

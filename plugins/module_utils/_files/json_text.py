# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Read JSON that others may have written: whatever it is, it is a value or a ValueError, soon."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import read_file

_MAX_SIZE = 64 << 20  # bytes; the facts of the largest wheel have 2 MB
_MAX_VALUES = 2_000_000  # which take up to 100 bytes of memory each
_MAX_DIGITS = 20  # of a number, for which Python takes the square of their number


def parse_json(text: str | bytes) -> t.Any:
    """
    :raises ValueError: if it is none, or no such as programs write
    """
    commas, brackets = (",", ("[", "{")) if isinstance(text, str) else (b",", (b"[", b"{"))
    if len(text) > _MAX_SIZE or text.count(commas) + sum(map(text.count, brackets)) > _MAX_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"it has more than {_MAX_SIZE} bytes or {_MAX_VALUES} values")
    try:
        return json.loads(text, parse_int=_parse_number)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def read_json(path: str) -> t.Any:
    """
    :raises OSError: if there is no such file
    :raises ValueError: if there is no JSON in it
    """
    return parse_json(read_file(path, _MAX_SIZE))


def _parse_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)

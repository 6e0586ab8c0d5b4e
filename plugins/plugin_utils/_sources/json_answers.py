# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Read JSON of servers: of any size that :mod:`http_client` lets through, in bounded memory, and numbers of any length."""

from __future__ import annotations

import json
import typing as t

_MAX_VALUES, _MAX_CONTAINERS = 4_000_000, 1_000_000  # 30 releases of 1,000 files have 900,000 and 60,000
_MAX_DIGITS = 15  # more count no bytes of any file; and Python takes the square of their number, or refuses


def load_json(body: bytes) -> t.Any:
    """
    :returns: what it is; integers that mean nothing are None
    :raises ValueError: if it is no JSON, or has more values than any list of wheels
    """
    if body.count(b",") + body.count(b":") > _MAX_VALUES or body.count(b"{") + body.count(b"[") > _MAX_CONTAINERS:
        raise ValueError(f"it has more than {_MAX_VALUES} values")
    try:
        return json.loads(body, parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else None)
    except RecursionError as exc:
        raise ValueError("it is nested too deep") from exc


def byte_count(value: t.Any) -> int | None:
    """The size of a file, if a value can be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

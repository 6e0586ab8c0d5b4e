# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Read the body of an answer into memory: no more than is wanted, no slower than is bearable, unpacked or not.

urllib3 unpacks as much as a piece holds, before version 2.6, which no Debian has: 64 KiB can be 64 MiB. So it unpacks nothing here.
"""

from __future__ import annotations

import typing as t
import zlib

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit, Watch

if t.TYPE_CHECKING:
    import requests

#: what :func:`read_body` can unpack, as a request says so
ACCEPT_ENCODING = "gzip"
#: of bodies that are kept in memory
LIMIT = Limit(60.0, 60 << 10, total_seconds=300.0)
_CHUNK = 1 << 16  # bytes
_GZIP = 16 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """A body has more than is wanted of it."""


def read_body(response: requests.Response, max_size: int) -> bytes:
    """All of a body, unpacked.

    :param max_size: bytes that it may have, packed as well as unpacked
    :raises TooLargeError: if it has more
    :raises ValueError: if it cannot be unpacked
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise ValueError(f"it came with Content-Encoding {encoding[:40]!r}, wanted is gzip, or none")
    body = read_start(response, max_size + 1)
    if len(body) > max_size:
        raise TooLargeError
    return _unpack(body, max_size) if encoding.endswith("gzip") else body


def read_start(response: requests.Response, size: int) -> bytes:
    """The first bytes of a body, as they were sent; fewer, if it has no more."""
    body = bytearray()
    with Watch(LIMIT, response.raw.shutdown, lambda: len(body)):
        while len(body) < size and (chunk := response.raw.read1(min(_CHUNK, size - len(body)), decode_content=False)):
            body += chunk
    return bytes(body)


def _unpack(packed: bytes, max_size: int) -> bytes:
    """Unpack one member of gzip (RFC 1952) after the other; servers send one."""
    body = bytearray()
    while packed:
        member = zlib.decompressobj(_GZIP)
        try:
            body += member.decompress(packed, max_size + 1 - len(body))
        except zlib.error as exc:
            raise ValueError("it is said to be gzip, and is not") from exc
        if len(body) > max_size:
            raise TooLargeError
        if not member.eof:
            raise ValueError("it is cut off in its gzip")
        packed = member.unused_data
    return bytes(body)

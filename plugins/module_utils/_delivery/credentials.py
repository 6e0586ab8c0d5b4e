# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which credentials of a ``.netrc`` go where, from nodes and from the control node alike."""

from __future__ import annotations

import netrc
import urllib.parse


def find_credentials(entries: netrc.netrc | None, url: str, named_host: str | None) -> tuple[str, str] | None:
    """User and password for a request, if it may have any: over TLS alone, and to a host that somebody has named.

    :param entries: None if there are none
    :param url: that is asked now, perhaps after redirects
    :param named_host: the host in the address that the operator has written; it alone gets what the entry ``default`` has for all
    """
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "").lower()
    if (
        entries is None
        or parts.scheme != "https"
        or not (host in entries.hosts or host == (named_host or "").lower() != "")
    ):
        return None
    found = entries.authenticators(host)
    return (found[0] or "", found[2] or "") if found else None


def read_netrc(path: str) -> netrc.netrc:
    """The entries of a file.

    :raises ValueError: if it is not understood, in words without anything that stands there
    :raises OSError: if it cannot be read
    """
    try:
        return netrc.netrc(path)
    except netrc.NetrcParseError as exc:
        raise ValueError(f"line {exc.lineno} is not understood") from None  # what stands there may be a password
    except ValueError:
        raise ValueError("its characters are not understood") from None


def host_of(url: str | None) -> str | None:
    """The host in an address; None if there is none."""
    try:
        return urllib.parse.urlsplit(url or "").hostname
    except ValueError:
        return None

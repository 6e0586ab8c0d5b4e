# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which credentials go to which server, for every request of the control node. Those of a proxy are requests' own business."""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import (
    find_credentials,
    host_of,
    read_netrc,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to

_NETRC_PATHS = ("~/.netrc", "~/_netrc")


class OriginSecret(t.NamedTuple):
    """A token, or user and password, for one scheme, host and port."""

    origin: tuple[str, str | None, int | None]
    header: str  # the value of Authorization

    @classmethod
    def of_token(cls, url: str, token: str) -> OriginSecret:
        return cls(origin_of(url), f"Bearer {token}")

    @classmethod
    def of_login(cls, url: str, user: str, password: str) -> OriginSecret:
        return cls(origin_of(url), f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")

    def __repr__(self) -> str:
        return f"OriginSecret({self.origin!r})"


class Credentials:
    """Puts into each request what its server may know, and nothing else; requests takes any callable for an AuthBase.

    An :class:`OriginSecret` goes to its origin, else that which netrc has for the host goes there over TLS.
    """

    def __init__(self, named_url: str | None, secret: OriginSecret | None) -> None:
        """
        :param named_url: an address that the operator has written; its host may get the entry ``default`` of netrc
        :param secret: goes before netrc
        """
        self._named_host, self._secret = host_of(named_url), secret
        self._netrc: netrc.netrc | None = None
        self._is_netrc_read = False

    def __call__(self, request: t.Any) -> t.Any:
        request.headers.pop("Authorization", None)
        header = self._header_for(request.url)
        if header:
            request.headers["Authorization"] = header
        return request

    def _header_for(self, url: str) -> str | None:
        if self._secret and origin_of(url) == self._secret.origin:
            return self._secret.header
        if not self._is_netrc_read:
            self._netrc, self._is_netrc_read = _read_operators_netrc(), True
        login = find_credentials(self._netrc, url, self._named_host)
        return OriginSecret.of_login(url, *login).header if login else None


def may_carry_token(url: str) -> bool:
    """Whether nobody on the way to a server reads what goes there: over TLS, or within this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (_is_loopback(parts.hostname or "") and route_to(url).proxy is None)


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_operators_netrc() -> netrc.netrc | None:
    """None, too, where it is not understood: most servers want nothing of it, and the others say so."""
    named = os.environ.get("NETRC")
    for path in (named,) if named else _NETRC_PATHS:
        path = os.path.expanduser(path)
        if os.path.exists(path):
            try:
                return read_netrc(path)
            except (OSError, ValueError):
                return None
    return None

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The indexes that the control node's own pip asks, and how: for what pip itself cannot be run for, as it runs setup.py of an sdist."""

from __future__ import annotations

import base64
import dataclasses
import os
import sys
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import read_settings

_SCHEMES = ("https", "http", "file")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # which pip trusts without TLS, too


@dataclasses.dataclass(frozen=True)
class Credentials:
    """Of one host."""

    host: str  # with its port, as URLs have it
    user: str = dataclasses.field(repr=False)
    password: str = dataclasses.field(repr=False)

    def __call__(self, request: t.Any) -> t.Any:
        """Put them into a request (of requests) to this host."""
        if urlsplit(request.url).netloc == self.host:
            pair = f"{self.user}:{self.password}".encode()
            request.headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return request


class PipIndexes(t.NamedTuple):
    """Indexes, without the credentials in their addresses."""

    urls: tuple[str, ...]
    credentials: tuple[Credentials, ...] = ()
    ca_path: str | None = None
    untrusted: tuple[str, ...] = ()  # those that pip would not ask, for they come without TLS

    def credentials_for(self, url: str) -> Credentials | None:
        """Those for a URL of an index, or of a file that it links to on its own host."""
        host = urlsplit(url).netloc
        return next((each for each in self.credentials if each.host == host), None)


def read_pip_indexes(environ: t.Mapping[str, str] | None = None) -> PipIndexes:
    """The indexes of the Python that runs Ansible, as pip.conf and ``PIP_…`` have them.

    :raises TorchExtensionError: if one of them is no address, or there is no pip
    """
    pip = read_settings(sys.prefix, os.environ if environ is None else environ)
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        return PipIndexes(())
    trusted = {*_LOCAL_HOSTS, *pip.get("trusted-host", "").split()}
    urls: dict[str, None] = {}
    untrusted: list[str] = []
    credentials: dict[str, Credentials] = {}
    for text in (pip.get("index-url") or _default_index(), *pip.get("extra-index-url", "").split()):
        url, found = _split_credentials(text)
        parts = urlsplit(url)
        if parts.scheme == "http" and not {parts.hostname, parts.netloc} & trusted:
            untrusted.append(url)
            continue
        urls[url.rstrip("/")] = None
        if found:
            credentials.setdefault(found.host, found)
    return PipIndexes(tuple(urls), tuple(credentials.values()), pip.get("cert"), tuple(untrusted))


def _default_index() -> str:
    try:
        from pip._internal.models.index import PyPI  # no API, but pip shows it in no other way
    except ImportError as exc:
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node ({sys.executable}) has no pip, so where its index is stays unknown."
            " Install pip into it, or set PIP_INDEX_URL."
        ) from exc
    return str(PyPI.simple_url)


def _split_credentials(text: str) -> tuple[str, Credentials | None]:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in _SCHEMES and bool(parts.hostname or parts.scheme == "file") and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        # without its text, which may hold credentials
        raise TorchExtensionError(
            "index-url or extra-index-url of pip on the control node has what is no address of an index. Wanted is https://, http://"
            " or file://; see `pip config list`."
        )
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return text, None
    user, _colon, password = login.partition(":")
    return parts._replace(netloc=host).geturl(), Credentials(host, unquote(user), unquote(password))

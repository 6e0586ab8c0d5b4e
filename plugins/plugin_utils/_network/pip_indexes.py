# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The indexes that the control node's own pip asks, and how: for what pip itself cannot be run for, as it runs setup.py of an sdist."""

from __future__ import annotations

import os
import sys
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import read_settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import (
    OriginSecret,
    origin_of,
)

_SCHEMES = ("https", "http", "file")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # which pip trusts without TLS, too


class PipIndexes(t.NamedTuple):
    """Indexes, without the credentials in their addresses."""

    urls: tuple[str, ...]
    credentials: tuple[OriginSecret, ...] = ()
    ca_path: str | None = None
    untrusted: tuple[str, ...] = ()  # those that pip would not ask, for they come without TLS

    def credentials_for(self, url: str) -> OriginSecret | None:
        """Those for a URL of an index, or of a file that it links to on its own host."""
        origin = origin_of(url)
        return next((each for each in self.credentials if each.origin == origin), None)


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
    credentials: dict[t.Any, OriginSecret] = {}
    for text in (pip.get("index-url") or _default_index(), *pip.get("extra-index-url", "").split()):
        url, found = _split_credentials(text)
        parts = urlsplit(url)
        if parts.scheme == "http" and not {parts.hostname, parts.netloc} & trusted:
            untrusted.append(url)
            continue
        urls[url.rstrip("/")] = None
        if found:
            credentials.setdefault(found.origin, found)
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


def _split_credentials(text: str) -> tuple[str, OriginSecret | None]:
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
    url = parts._replace(netloc=host).geturl()
    return url, OriginSecret.of_login(url, unquote(user), unquote(password))

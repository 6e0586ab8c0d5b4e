# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Asks what :mod:`http_cache` keeps. Import it when there is something to ask: requests takes longer than all the rest."""

from __future__ import annotations

import typing as t
from urllib.parse import urljoin, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    Failure,
    Kept,
    NoAnswerError,
)

try:
    import requests
except ImportError:  # http.py says so
    _BaseSession: t.Any = object
else:
    _BaseSession = requests.Session

_LIMIT = 64 << 20  # bytes; more is no list of wheels, and must not fill the memory
_CHUNK = 1 << 16  # bytes


class HttpClient:
    """Asks by GET, and again where that may help."""

    def __init__(
        self,
        ca_path: str | None,
        mirror: str,
        headers: t.Mapping[str, str] | None,
        auth: t.Callable[[t.Any], t.Any] | None,
        refusal: t.Callable[[str, requests.Response], Failure] | None,
    ) -> None:
        """
        The parameters are those of :class:`http_cache.HttpCache`.

        :raises TorchExtensionError: if a library is missing
        """
        http.check_library()
        self._ca_path, self._mirror, self._refusal = ca_path, mirror, refusal or _refusal
        # A wait as long as a rate limit's is for the operator to decide.
        self._session = http.with_retries(_Session(), waits_as_told=False)
        self._session.auth = auth
        self._session.headers.update(headers or {})

    def ask(self, url: str, kept: Kept[t.Any] | None) -> tuple[Answer, str | None] | None:
        """What is at a URL, with its ETag; None if that is what is kept.

        :raises NoAnswerError: if there is no answer
        """
        headers = {"If-None-Match": kept.etag} if kept and kept.etag else {}
        try:
            # verify is said with the request, for a session's own setting yields to REQUESTS_CA_BUNDLE
            with (
                http.explained(url, self._mirror),
                self._session.get(
                    url, headers=headers, stream=True, timeout=http.SECONDS, verify=self._ca_path or True
                ) as response,
            ):
                if response.status_code == requests.codes.not_modified and kept:
                    return None
                if response.status_code != requests.codes.ok:
                    raise NoAnswerError(self._refusal(url, response))
                return _answer(url, response), response.headers.get("ETag")
        except TorchExtensionError as exc:
            raise NoAnswerError(Failure(str(exc), of_host=True)) from exc

    def proxies(self, url: str) -> list[tuple[str, str]]:
        """The proxies that the environment has for a URL, by scheme, sorted, without credentials."""
        found = requests.utils.get_environ_proxies(url)
        return sorted((scheme, _without_credentials(proxy)) for scheme, proxy in found.items())


class _Session(_BaseSession):
    """A session whose own credentials are preferred to those of ~/.netrc on a redirect, too."""

    def rebuild_auth(self, prepared_request: t.Any, response: t.Any) -> None:
        super().rebuild_auth(prepared_request, response)  # takes them away where the host is another one
        if self.auth:
            self.auth(prepared_request)


def _answer(url: str, response: requests.Response) -> Answer:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > _LIMIT:
            raise NoAnswerError(Failure(f"{url} gives more than {_LIMIT >> 20} MiB, which is no list of wheels."))
    next_url = response.links.get("next", {}).get("url")
    return Answer(
        # A query may be a signature, and means nothing for the links of the page.
        url=urlsplit(response.url)._replace(query="", fragment="").geturl(),
        content_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        next_url=urljoin(response.url, next_url) if next_url else None,
        body=bytes(body),
    )


def _refusal(url: str, response: requests.Response) -> Failure:
    status = response.status_code
    if status == requests.codes.not_found:
        return Failure(f"There is nothing at {url} (404).", is_outage=False, is_missing=True)
    if status in (requests.codes.unauthorized, requests.codes.forbidden):
        return Failure(
            f"{url} was answered with HTTP status {status}. See whether the server or the proxy wants credentials"
            " (~/.netrc, torch_extension_proxy).",
            is_outage=False,
        )
    return Failure(
        f"{url} was answered with HTTP status {status}. If it stays so, set torch_extension_sources to another place."
    )


def _without_credentials(proxy: str) -> str:
    return proxy.rpartition("@")[2]

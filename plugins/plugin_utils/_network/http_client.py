# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The requests behind :mod:`http_cache`. Import it when there is one to make: requests takes longer than all the rest."""

from __future__ import annotations

import typing as t
from urllib.parse import urljoin, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    CachedAnswer,
    Failure,
    NoAnswerError,
)

try:
    import requests
except ImportError:  # http_session.py says so
    _BaseSession: t.Any = object
else:
    _BaseSession = requests.Session

_MAX_BODY = 64 << 20  # bytes; more is no list of wheels, and must not fill the memory
_CHUNK = 1 << 16  # bytes


class HttpClient:
    """Makes GET requests, and retries those that may succeed in a moment."""

    def __init__(
        self,
        ca_path: str | None,
        mirror_setting: str,
        headers: t.Mapping[str, str] | None,
        auth: t.Callable[[t.Any], t.Any] | None,
        explain_status: t.Callable[[str, requests.Response], Failure] | None,
    ) -> None:
        """
        The parameters are those of :class:`http_cache.HttpCache`.

        :raises TorchExtensionError: if a library is missing
        """
        http_session.check_requests()
        self._ca_path, self._mirror_setting, self._explain_status = (
            ca_path,
            mirror_setting,
            explain_status or _explain_status,
        )
        self._session = http_session.add_retries(_Session())
        self._session.auth = auth
        self._session.headers.update(headers or {})

    def get(self, url: str, cached: CachedAnswer[t.Any] | None) -> tuple[Answer, str | None]:
        """What is at a URL, with its ETag.

        :param cached: revalidated, if there is one, and returned if it still holds (304)
        :raises NoAnswerError: if there is no answer
        """
        headers = {"If-None-Match": cached.etag} if cached and cached.etag else {}
        try:
            # verify goes with the request, for a session's own setting yields to REQUESTS_CA_BUNDLE
            with (
                http_session.explain_http_errors(url, self._mirror_setting),
                self._session.get(
                    url,
                    headers=headers,
                    stream=True,
                    timeout=http_session.TIMEOUT_SECONDS,
                    verify=self._ca_path or True,
                ) as response,
            ):
                if response.status_code == requests.codes.not_modified and cached:
                    return cached.answer, cached.etag
                if response.status_code != requests.codes.ok:
                    raise NoAnswerError(self._explain_status(url, response))
                return _read_answer(url, response), response.headers.get("ETag")
        except TorchExtensionError as exc:
            raise NoAnswerError(Failure(str(exc), of_host=True)) from exc

    def proxies_for(self, url: str) -> list[tuple[str, str]]:
        """The proxies that the environment has for a URL, by scheme, sorted, without credentials."""
        proxies = requests.utils.get_environ_proxies(url)
        return sorted((scheme, _without_credentials(proxy)) for scheme, proxy in proxies.items())


class _Session(_BaseSession):
    """A session that prefers its own credentials to those of ~/.netrc on redirects, too."""

    def rebuild_auth(self, prepared_request: t.Any, response: t.Any) -> None:
        super().rebuild_auth(prepared_request, response)  # removes them where the host is another one
        if self.auth:
            self.auth(prepared_request)


def _read_answer(url: str, response: requests.Response) -> Answer:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > _MAX_BODY:
            raise NoAnswerError(Failure(f"{url} gives more than {_MAX_BODY >> 20} MiB, which is no list of wheels."))
    next_url = response.links.get("next", {}).get("url")
    return Answer(
        # A query may be a signature, and means nothing for the links of the page.
        url=urlsplit(response.url)._replace(query="", fragment="").geturl(),
        content_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        next_url=urljoin(response.url, next_url) if next_url else None,
        body=bytes(body),
    )


def _explain_status(url: str, response: requests.Response) -> Failure:
    status = response.status_code
    if status == requests.codes.not_found:
        return Failure(f"There is nothing at {url} (404).", is_outage=False, is_missing=True)
    message = http_session.status_message(response.url, status)
    if status in (requests.codes.unauthorized, requests.codes.forbidden):
        return Failure(message, is_outage=False)
    return Failure(f"{message} If it stays so, set torch_extension_sources to another place.")


def _without_credentials(proxy: str) -> str:
    return proxy.rpartition("@")[2]

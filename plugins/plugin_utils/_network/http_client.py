# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The requests behind :mod:`http_cache`. Import it when there is one to make: requests takes longer than all the rest."""

from __future__ import annotations

import contextlib
import typing as t
from urllib.parse import urljoin, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import bodies, http_session
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    CachedAnswer,
    Failure,
    NoAnswerError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to

with contextlib.suppress(ImportError):  # http_session.py says so
    import requests

_MAX_BODY = 64 << 20  # bytes; more is no list of wheels, and must not fill the memory


class HttpClient:
    """Makes GET requests, and retries those that may succeed in a moment."""

    def __init__(
        self,
        ca_path: str | None,
        mirror_setting: str,
        session: requests.Session,
        headers: t.Mapping[str, str] | None,
        explain_status: t.Callable[[str, requests.Response], Failure] | None,
    ) -> None:
        """
        The other parameters are those of :class:`http_cache.HttpCache`.

        :param session: from :func:`http_session.open_session`
        """
        self._ca_path, self._mirror_setting, self._session = ca_path, mirror_setting, session
        self._explain_status = explain_status or _explain_status
        self._session.headers.update({"Accept-Encoding": bodies.ACCEPT_ENCODING, **(headers or {})})

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


def _read_answer(url: str, response: requests.Response) -> Answer:
    try:
        body = bodies.read_body(response, _MAX_BODY)
    except bodies.TooLargeError as exc:
        raise NoAnswerError(
            Failure(f"{url} gives more than {_MAX_BODY >> 20} MiB, which is no list of wheels.")
        ) from exc
    except ValueError as exc:
        raise NoAnswerError(Failure(f"What {url} gave cannot be read: {exc}. It was asked {route_to(url)}.")) from exc
    next_url = response.links.get("next", {}).get("url")
    parts = urlsplit(response.url)
    return Answer(
        # A query may be a signature, and means nothing for the links of the page.
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl(),
        content_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        next_url=urljoin(response.url, next_url) if next_url else None,
        body=body,
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

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""List the wheels in the releases of a GitHub repository, with GitHub's REST API, version 2022-11-28."""

from __future__ import annotations

import json
import re
import time
import typing as t
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import parse_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import host_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import (
    OriginSecret,
    may_carry_token,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_cache import HttpCache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    Failure,
    MissingError,
    UnavailableError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.file_names import (
    is_address,
    is_file_name,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.json_answers import byte_count, load_json

try:
    import jmespath
except ImportError as exc:
    JMESPATH_IMPORT_ERROR: ImportError | None = exc
else:
    JMESPATH_IMPORT_ERROR = None

if t.TYPE_CHECKING:
    import requests

# https://docs.github.com/en/rest/releases/releases, schema "Release". An asset is listed while it is still uploaded.
_ASSETS = (
    "{tag: tag_name, published: published_at, draft: draft, assets: assets[?state=='uploaded']"
    ".{filename: name, url: browser_download_url, size: size, digest: digest}}"
)
_RELEASE_QUERY = f"@.{_ASSETS}"
_RELEASES_QUERY = f"[*].{_ASSETS}"

#: Each release comes with all its assets. Releases of some hundred assets make an answer of several MiB, where GitHub
#: gives up after 10 seconds with 502; 30, its own default, keeps answers near 3 MiB (41 assets a release).
_PER_PAGE = 30
_MAX_PAGES = 100  # more means that a server pages in circles
_HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "airgap.torch_extensions",
}
_SETTING = "torch_extension_github_token (or GITHUB_TOKEN in the environment of ansible-playbook)"


class NoReleaseError(TorchExtensionError):
    """The repository has no such release, or there is no such repository."""


class GitHub:
    """The API of github.com or of a GitHub Enterprise server; answers are cached, see :mod:`http_cache`."""

    def __init__(
        self,
        api_url: str = "https://api.github.com",
        *,
        cache: str,
        token: str | None = None,
        ca_path: str | None = None,
        max_age: float = 600,
    ) -> None:
        """
        :param api_url: of GitHub Enterprise it is ``https://HOST/api/v3``
        :param cache: the folder of the control node's cache
        :param token: sent to the host of ``api_url`` alone, and instead of what ~/.netrc has for it
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param max_age: for how many seconds an answer is used without a request
        :raises TorchExtensionError: for bad input, or if a library is missing, or the cache cannot be used
        """
        check_jmespath()
        settings.check_url(api_url, "torch_extension_github_api_url")
        token = (token or "").strip()
        if not re.fullmatch(r"[!-~]*", token):
            # without its value; requests would show it
            raise TorchExtensionError(f"{_SETTING} is no token: it has spaces, line breaks or characters beyond ASCII.")
        if token and not may_carry_token(api_url):
            raise TorchExtensionError(
                f"torch_extension_github_api_url is {api_url}, without TLS, and whoever is on the way would read the token. Name an"
                f" https: URL, or do without {_SETTING}."
            )
        self._api_url = api_url.rstrip("/")
        self._has_token = bool(token)
        self._http_cache = HttpCache(
            cache,
            ca_path,
            max_age,
            mirror_setting="torch_extension_github_api_url",
            headers=_HEADERS,
            named_url=self._api_url,
            secret=OriginSecret.of_token(self._api_url, token) if token else None,
            explain_status=self._explain_status,
        )

    @property
    def warnings(self) -> list[str]:
        """What the operator should know about the answers, each once."""
        return self._http_cache.warnings

    @property
    def oldest(self) -> float:
        """When the oldest of the answers was given or confirmed, in seconds since the epoch."""
        return self._http_cache.oldest

    def list_release(self, repository: str, tag: str) -> list[Asset]:
        """The wheels of a release.

        :param repository: ``owner/name``
        :raises NoReleaseError: if there is no such release
        :raises UnavailableError: if the API cannot be asked now, and no earlier answer is cached
        :raises TorchExtensionError: if the API refuses the token
        """
        url = f"{self._repository_url(repository)}/releases/tags/{quote(tag, safe='')}"
        try:
            release = self._http_cache.get(
                url, _parse_release_answer, f"What release {tag} of {repository} has", _reduce_release
            )
        except MissingError as exc:
            raise NoReleaseError(
                f"{self._api_url} knows no release {tag} of {repository} (404).{self._private_hint()}"
            ) from exc
        return release.assets

    def list_releases(self, repository: str) -> list[Asset]:
        """The wheels of all releases but drafts, those of the newest release first.

        :param repository: ``owner/name``
        :raises NoReleaseError: if there is no such repository
        :raises UnavailableError: if the API cannot be asked now, and no earlier answer is cached
        :raises TorchExtensionError: if the API refuses the token
        """
        url = f"{self._repository_url(repository)}/releases?per_page={_PER_PAGE}"
        releases: list[_Release] = []
        for _page in range(_MAX_PAGES):
            try:
                page = self._http_cache.get(
                    url, _parse_releases_answer, f"What the releases of {repository} have", _reduce_releases
                )
            except MissingError as exc:
                raise NoReleaseError(
                    f"{self._api_url} knows no repository {repository} (404).{self._private_hint()}"
                ) from exc
            releases += page.releases
            if not page.next_url:
                break
            url = page.next_url
        else:
            raise UnavailableError(f"{self._api_url} has more than {_MAX_PAGES} pages of releases of {repository}.")
        # GitHub sorts by the date of the commit, but wheels that were built later are the better ones.
        releases.sort(key=lambda release: release.published, reverse=True)
        return [asset for release in releases if not release.is_draft for asset in release.assets]

    def _repository_url(self, repository: str) -> str:
        if not re.fullmatch(r"[.-]*\w[\w.-]*/[.-]*\w[\w.-]*", repository, re.ASCII):
            raise TorchExtensionError(
                f"{repository!r} is no repository of GitHub such as 'Dao-AILab/flash-attention'. See"
                " torch_extension_sources."
            )
        return f"{self._api_url}/repos/{repository}"

    def _private_hint(self) -> str:
        return "" if self._has_token else f" If it is private, set {_SETTING}."

    def _explain_status(self, url: str, response: requests.Response) -> Failure:
        """What a status means, by GitHub's "Best practices for using the REST API"."""
        status, host = response.status_code, host_of(url)
        if status == 404:
            return Failure(f"There is nothing at {url} (404).", is_outage=False, is_missing=True)
        if status == 401:
            return Failure(
                f"{host} refuses the {'token' if self._has_token else 'credentials'} (401): see whether it has expired,"
                f" and set {_SETTING}.",
                is_outage=False,
                of_host=self._has_token,
            )
        if status == 429 or (
            status == 403
            and (response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers)
        ):
            whom = "with this token" if self._has_token else f"without a token; set {_SETTING} for a higher limit"
            return Failure(
                f"{host} answers no more questions {_limit_end(response.headers)} (rate limit, {whom}).", of_host=True
            )
        if status == 407:
            # requests, which it imports, is here by now
            from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_session import (
                proxy_credentials_message,
            )

            return Failure(proxy_credentials_message(response.url))
        route = route_to(response.url)
        if status >= 500:
            return Failure(
                f"{url} was answered with HTTP status {status}, for its server is in trouble; it was asked {route}. Run again later."
            )
        in_the_way = f"whether the proxy {route.proxy} is in the way, or " if route.proxy else ""
        return Failure(
            f"{url} was answered with HTTP status {status}; it was asked {route}. If it stays so, see {in_the_way}whether the"
            f" repository wants a token: {_SETTING}."
        )


def check_jmespath() -> None:
    """
    :raises TorchExtensionError: if jmespath cannot be imported
    """
    require_library("jmespath", JMESPATH_IMPORT_ERROR)


class _Release(t.NamedTuple):
    published: str  # ISO 8601 in UTC, so it sorts
    is_draft: bool
    assets: list[Asset]


class _Page(t.NamedTuple):
    releases: list[_Release]
    next_url: str | None


def _reduce_releases(body: bytes) -> bytes:
    """What counts of an answer, a sixth of it: each node of a fleet reads that again."""
    return _query(_RELEASES_QUERY, body)


def _reduce_release(body: bytes) -> bytes:
    return _query(_RELEASE_QUERY, body)


def _query(query: str, body: bytes) -> bytes:
    try:
        return json.dumps(jmespath.search(query, load_json(body)), separators=(",", ":")).encode()
    except (ValueError, RecursionError, jmespath.exceptions.JMESPathError) as exc:
        raise ValueError("it is not the JSON of GitHub's API") from exc


def _parse_releases_answer(answer: Answer) -> _Page:
    releases = load_json(answer.body)
    if not isinstance(releases, list):
        raise ValueError("it is no list of releases")
    return _Page([_to_release(release) for release in releases], answer.next_url)


def _parse_release_answer(answer: Answer) -> _Release:
    return _to_release(load_json(answer.body))


def _to_release(fields: t.Any) -> _Release:
    if (
        not isinstance(fields, dict)
        or not isinstance(fields["tag"], str)
        or not isinstance(fields["assets"], list)
        or not isinstance(fields["published"], (str, type(None)))
    ):
        raise ValueError("a release lacks its tag or its assets")
    assets = [_to_asset(asset, fields["tag"]) for asset in fields["assets"]]
    return _Release(fields["published"] or "", bool(fields["draft"]), [asset for asset in assets if asset])


def _to_asset(fields: t.Mapping[str, t.Any], tag: str) -> Asset | None:
    filename, url, size, digest = (fields[key] for key in ("filename", "url", "size", "digest"))
    if not isinstance(filename, str) or not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise ValueError(f"a file of release {tag} lacks its name or its address")
    if not filename.endswith(".whl") or not is_file_name(filename) or not is_address(url):
        return None
    # Files from before June 2025 have no digest.
    sha256 = re.fullmatch(r"sha256:([0-9a-f]{64})", digest.lower()) if isinstance(digest, str) else None
    return Asset(
        filename=filename,
        url=url.partition("#")[0],
        size=byte_count(size),
        sha256=sha256[1] if sha256 else None,
        release=tag,
    )


def _limit_end(headers: t.Mapping[str, str]) -> str:
    wait, reset = parse_size(headers.get("retry-after")), parse_size(headers.get("x-ratelimit-reset"))
    end = time.time() + wait if wait is not None else reset
    if end is None:
        return "for some minutes"
    try:
        return time.strftime("until %H:%M:%S UTC", time.gmtime(end))
    except (OverflowError, ValueError, OSError):
        return "for some minutes"

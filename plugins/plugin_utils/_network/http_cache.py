# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A cache of HTTP answers on the control node, for all nodes and processes: one request for each URL.

A play needs the same for each of its nodes, each in a process of its own. So an answer that is fresh is used without a
request, a stale one is revalidated (RFC 9110, If-None-Match), and a process waits for the answer while another makes the
same request. If the server cannot be asked, the cached answer serves, however old, with a warning. The failure is cached
too, for a moment: without that, each node would wait for the same timeout.

Why not requests-cache: it has no lock between processes and no memory of failures, its ``stale_if_error`` hides a 401
and a 404 behind an old answer as well, and it keeps whatever a login page says with status 200.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json, read_json
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import waiting
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    CachedAnswer,
    Failure,
    MissingError,
    NoAnswerError,
    UnavailableError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to

if t.TYPE_CHECKING:
    import requests

    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import OriginSecret
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_client import HttpClient

T = t.TypeVar("T")

#: for how many seconds a failure is taken for the answer: a server that is down, or a file that is not there, stays so
#: for a while; what was refused the operator may have set right by now
_MAX_FIELDS = 1 << 20  # bytes, of what is kept of an answer beside its body
_OUTAGE_SECONDS = 60
_REFUSAL_SECONDS = 10
#: longer than a request with all its retries takes
_PATIENCE_SECONDS = 20 * 60


class HttpCache:
    """Answers to GET requests, from the cache or from the server."""

    def __init__(
        self,
        cache: str,
        ca_path: str | None = None,
        max_age: float = 600,
        mirror_setting: str = "torch_extension_sources",
        headers: t.Mapping[str, str] | None = None,
        named_url: str | None = None,
        secret: OriginSecret | None = None,
        explain_status: t.Callable[[str, requests.Response], Failure] | None = None,
    ) -> None:
        """
        :param cache: a folder, made if it is not there, for its owner alone; answers are in its folder ``api``
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param max_age: for how many seconds an answer is used without a request
        :param mirror_setting: names the setting that leads to a mirror
        :param named_url: an address that the operator has written; its host may get the entry ``default`` of netrc
        :param secret: goes to its origin, before what netrc has; nothing of either is cached
        :param explain_status: what a status other than 200 and 304 means
        :raises TorchExtensionError: if the folder cannot be used
        """
        settings.check_ca_path(ca_path)
        self._folder = os.path.join(cache, "api")
        with self._explain_disk_errors():
            os.makedirs(cache, mode=0o700, exist_ok=True)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._ca_path = ca_path
        self._max_age = max_age
        self._mirror_setting = mirror_setting
        self._headers, self._explain_status = headers, explain_status
        self._named_url, self._secret = named_url, secret
        self._client: HttpClient | None = None
        self._is_swept = False  # whether what killed runs have left is gone
        #: what the operator should know about the answers, each once
        self.warnings: list[str] = []
        #: when the oldest of the answers was given or confirmed, in seconds since the epoch
        self.oldest = float("inf")

    def get(
        self,
        url: str,
        parse: t.Callable[[Answer], T],
        subject: str,
        reduce: t.Callable[[bytes], bytes] = lambda body: body,
    ) -> T:
        """The parsed answer of a URL.

        :param parse: raises a ValueError if this is no answer to the question; it is not cached then
        :param subject: of the answer, for messages: "What release … has"
        :param reduce: makes of a body what of it is kept and parsed; raises a ValueError, too
        :raises MissingError: if there is nothing at this URL
        :raises UnavailableError: if the server cannot be asked now, and no earlier answer is cached
        :raises TorchExtensionError: if it is refused, or the cache cannot be written, or requests is missing
        """
        called_at = time.time()
        cached = self._load_answer(url, parse)
        if cached and self._is_fresh(cached):
            return self._use(cached)
        with self._explain_disk_errors(), self._locked(url):
            cached = self._load_answer(url, parse)
            if cached and (self._is_fresh(cached) or called_at <= cached.time <= time.time()):  # from another process
                return self._use(cached)
            failure = self._load_failure(url)
            if not failure:
                try:
                    return self._request(url, parse, cached, reduce)
                except NoAnswerError as exc:
                    failure = exc.failure
                    self._store_failure(url, failure)
        if failure.is_missing:
            raise MissingError(failure.message + failure.note)
        if not failure.is_outage:
            raise TorchExtensionError(failure.message + failure.note)
        if not cached:
            raise UnavailableError(f"{failure.message} No earlier answer is kept.{failure.note}")
        age = _duration(time.time() - cached.time)
        warning = redact(f"{subject} is known as it was {age} ago: {failure.message}")
        if warning not in self.warnings:
            self.warnings.append(warning)
        return self._use(cached)

    def _use(self, cached: CachedAnswer[T]) -> T:
        self.oldest = min(self.oldest, cached.time)
        return cached.value

    def _request(
        self,
        url: str,
        parse: t.Callable[[Answer], T],
        cached: CachedAnswer[T] | None,
        reduce: t.Callable[[bytes], bytes],
    ) -> T:
        answer, etag = self._http_client().get(url, cached)
        start = answer.body[:60].decode("ascii", "replace")
        try:
            if cached and answer is cached.answer:
                value = cached.value
            else:
                answer = answer._replace(body=reduce(answer.body))
                value = parse(answer)
        except ValueError as exc:
            raise NoAnswerError(
                Failure(
                    f"What {url} gave is no answer: {exc}. It begins with {start!r}. It was asked {route_to(url)}. A login"
                    f" page of a proxy or firewall? See what a browser shows there, or set {self._mirror_setting}."
                )
            ) from exc
        self._store_answer(url, answer, etag)
        return value

    def _http_client(self) -> HttpClient:
        if self._client is None:
            # requests takes longer to import than all the rest, and a fresh answer needs no request
            from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session
            from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_client import HttpClient

            self._client = HttpClient(
                self._ca_path,
                self._mirror_setting,
                http_session.open_session(self._named_url, self._secret),
                self._headers,
                self._explain_status,
            )
        return self._client

    def _is_fresh(self, cached: CachedAnswer[t.Any]) -> bool:
        return 0 <= time.time() - cached.time < self._max_age  # a clock that was set back keeps none fresh for ever

    def _load_answer(self, url: str, parse: t.Callable[[Answer], T]) -> CachedAnswer[T] | None:
        try:
            with open(self._file_path(url, "answer"), "rb") as file:
                fields = parse_json(file.readline(_MAX_FIELDS))
                answer = Answer(fields["url"], fields["content_type"], fields["next_url"], file.read())
                if hashlib.sha256(answer.body).hexdigest() != fields["sha256"]:  # a power cut may have cut it off
                    return None
                return CachedAnswer(answer, parse(answer), fields["etag"], fields["time"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version of this collection
            return None

    def _store_answer(self, url: str, answer: Answer, etag: str | None) -> None:
        digest = hashlib.sha256(answer.body).hexdigest()
        fields = {**answer._asdict(), "sha256": digest, "etag": etag, "time": time.time()}
        del fields["body"]
        self._write(self._file_path(url, "answer"), json.dumps(fields).encode() + b"\n" + answer.body)

    def _load_failure(self, url: str) -> Failure | None:
        for scope in (_origin(url), url):
            try:
                fields = read_json(self._file_path(self._failure_key(scope), "failure"))
                age = time.time() - fields.pop("time")
                failure = Failure(**fields)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            seconds = _OUTAGE_SECONDS if failure.is_outage or failure.is_missing else _REFUSAL_SECONDS
            if 0 <= age < seconds:
                return dataclasses.replace(
                    failure, note=f" (Remembered failure; the next question is asked after {seconds} s.)"
                )
        return None

    def _store_failure(self, url: str, failure: Failure) -> None:
        fields = {**dataclasses.asdict(failure), "time": time.time()}
        scope = self._failure_key(_origin(url) if failure.of_host else url)
        self._write(self._file_path(scope, "failure"), json.dumps(fields).encode())

    def _failure_key(self, scope: str) -> str:
        """All that a failure depends on: a new token, proxy or CA makes another request."""
        return repr((scope, bool(self._secret), self._ca_path, self._http_client().proxies_for(scope)))

    def _file_path(self, key: str, kind: str) -> str:
        return os.path.join(self._folder, f"{hashlib.sha256(key.encode()).hexdigest()}.{kind}")

    def _write(self, path: str, content: bytes) -> None:
        """Replace a file at once; it is for its owner alone."""
        if not self._is_swept:
            temporary.remove_leftovers(self._folder)
            self._is_swept = True
        atomic.write_bytes(path, content, 0o600, is_durable=False)

    @contextlib.contextmanager
    def _locked(self, url: str) -> t.Iterator[None]:
        """Hold the lock of a URL across processes. The system frees the lock of a process that died."""
        path = self._file_path(url, "lock")
        with waiting.open_lock(path) as file:
            waiting.lock_file(file, path, waiting.Patience(_PATIENCE_SECONDS))
            waiting.write_holder(file)
            yield

    @contextlib.contextmanager
    def _explain_disk_errors(self) -> t.Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise TorchExtensionError(
                f"Answers cannot be kept in {self._folder} on the control node ({exc.strerror}). Make room, or set"
                " torch_extension_cache_dir."
            ) from exc


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(int(seconds), 0)} seconds"

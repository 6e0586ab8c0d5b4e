# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""One question, one request: answers of HTTP servers, kept on the control node for all nodes and processes.

A play asks the same for each of its nodes, each in a process of its own. So an answer that is young enough is used
without asking, an older one is revalidated (RFC 9110, If-None-Match), and whoever comes while another process asks waits
for what that one is told. What cannot be asked is answered by what was kept, however old, with a warning; and that it
cannot be asked is kept too, for a moment, for else each node would wait for the same time-out.

Why not requests-cache: it has no lock between processes and no memory of failures, its ``stale_if_error`` hides a 401
and a 404 behind an old answer as well, and it keeps whatever a login page says with status 200.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    Answer,
    Failure,
    Kept,
    Missing,
    NoAnswerError,
    Unavailable,
)

if t.TYPE_CHECKING:
    import requests

    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_client import HttpClient

T = t.TypeVar("T")

#: for how many seconds nobody asks again: what is down or not there stays so for a while, what is refused the operator
#: may have set right by now
_OUTAGE_SECONDS = 60
_REFUSAL_SECONDS = 10


class HttpCache:
    """Asks by GET, or finds what was answered before."""

    def __init__(
        self,
        cache: str,
        ca_path: str | None = None,
        max_age: float = 600,
        mirror: str = "torch_extension_sources",
        headers: t.Mapping[str, str] | None = None,
        auth: t.Callable[[t.Any], t.Any] | None = None,
        refusal: t.Callable[[str, requests.Response], Failure] | None = None,
    ) -> None:
        """
        :param cache: a folder, made if it is not there, for its owner alone; answers are kept in its folder ``api``
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param max_age: for how many seconds an answer is used without asking
        :param mirror: the knob that names another place to ask
        :param auth: puts credentials into a request; none are kept
        :param refusal: what a status other than 200 and 304 means
        :raises TorchExtensionError: if the folder cannot be used
        """
        settings.check_ca_path(ca_path)
        self._folder = os.path.join(cache, "api")
        with self._explained_disk():
            os.makedirs(cache, mode=0o700, exist_ok=True)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._ca_path = ca_path
        self._max_age = max_age
        self._mirror = mirror
        self._headers, self._auth, self._refusal = headers, auth, refusal
        self._client: HttpClient | None = None
        #: what the operator should know of the answers, each once
        self.warnings: list[str] = []

    def get(self, url: str, read: t.Callable[[Answer], T], what: str) -> T:
        """What is made of an answer.

        :param read: makes it; a ValueError says that this is no answer to the question, and it is not kept
        :param what: that the answer tells, for messages: "The releases of …"
        :raises Missing: if there is nothing at this URL
        :raises Unavailable: if it cannot be asked now, and no earlier answer is kept
        :raises TorchExtensionError: if it is refused, or the cache cannot be written, or a library is missing that asks
        """
        asked_at = time.time()
        kept = self._kept(url, read)
        if kept and self._is_young(kept):
            return kept.value
        with self._explained_disk(), self._locked(url):
            kept = self._kept(url, read)
            if kept and (self._is_young(kept) or asked_at <= kept.time <= time.time()):  # another process has asked
                return kept.value
            failure = self._remembered(url)
            if not failure:
                try:
                    return self._ask(url, read, kept)
                except NoAnswerError as exc:
                    failure = exc.failure
                    self._remember(url, failure)
        if failure.is_missing:
            raise Missing(failure.message + failure.note)
        if not failure.is_outage:
            raise TorchExtensionError(failure.message + failure.note)
        if not kept:
            raise Unavailable(f"{failure.message} No earlier answer is kept.{failure.note}")
        warning = f"{what} is known as it was {_duration(time.time() - kept.time)} ago: {failure.message}"
        if warning not in self.warnings:
            self.warnings.append(warning)
        return kept.value

    def _ask(self, url: str, read: t.Callable[[Answer], T], kept: Kept[T] | None) -> T:
        asked = self._http_client().ask(url, kept)
        if asked is None:
            self._keep(url, kept.answer, kept.etag)
            return kept.value
        answer, etag = asked
        try:
            value = read(answer)
        except ValueError as exc:
            start = answer.body[:60].decode("ascii", "replace")
            raise NoAnswerError(
                Failure(
                    f"What {url} gave is no answer: {exc}. It begins with {start!r}. A login page of a proxy or"
                    f" firewall? See what a browser shows there, or set {self._mirror}."
                )
            ) from exc
        self._keep(url, answer, etag)
        return value

    def _http_client(self) -> HttpClient:
        if self._client is None:
            # requests takes longer to import than all the rest, and what is kept and young is had without it
            from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_client import HttpClient

            self._client = HttpClient(self._ca_path, self._mirror, self._headers, self._auth, self._refusal)
        return self._client

    def _is_young(self, kept: Kept[t.Any]) -> bool:
        return 0 <= time.time() - kept.time < self._max_age  # a clock that was set back makes none young for ever

    def _kept(self, url: str, read: t.Callable[[Answer], T]) -> Kept[T] | None:
        try:
            with open(self._path(url, "answer"), "rb") as file:
                about = json.loads(file.readline())
                answer = Answer(about["url"], about["content_type"], about["next_url"], file.read())
                return Kept(answer, read(answer), about["etag"], about["time"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version of this collection
            return None

    def _keep(self, url: str, answer: Answer, etag: str | None) -> None:
        about = {**answer._asdict(), "etag": etag, "time": time.time()}
        del about["body"]
        self._write(self._path(url, "answer"), json.dumps(about).encode() + b"\n" + answer.body)

    def _remembered(self, url: str) -> Failure | None:
        for scope in (_host(url), url):
            try:
                with open(self._path(self._circumstances(scope), "failure"), encoding="utf-8") as file:
                    about = json.load(file)
                age = time.time() - about.pop("time")
                failure = Failure(**about)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            seconds = _OUTAGE_SECONDS if failure.is_outage or failure.is_missing else _REFUSAL_SECONDS
            if 0 <= age < seconds:
                return failure._replace(
                    note=f" (Found {_duration(age)} ago; {seconds} seconds after that it is asked again.)"
                )
        return None

    def _remember(self, url: str, failure: Failure) -> None:
        about = {**failure._asdict(), "time": time.time()}
        scope = self._circumstances(_host(url) if failure.of_host else url)
        self._write(self._path(scope, "failure"), json.dumps(about).encode())

    def _circumstances(self, scope: str) -> str:
        """What a failure depends on: who sets it right by a token, a proxy or a CA is not told the old one again."""
        return repr((scope, bool(self._auth), self._ca_path, self._http_client().proxies(scope)))

    def _path(self, key: str, kind: str) -> str:
        return os.path.join(self._folder, f"{hashlib.sha256(key.encode()).hexdigest()}.{kind}")

    def _write(self, path: str, content: bytes) -> None:
        """All or nothing; for its owner alone."""
        descriptor, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @contextlib.contextmanager
    def _locked(self, url: str) -> t.Iterator[None]:
        """One request for a URL at a time, over all processes; the system frees the lock of a process that died."""
        with open(self._path(url, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _explained_disk(self) -> t.Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise TorchExtensionError(
                f"Answers cannot be kept in {self._folder} on the control node ({exc.strerror}). Make room, or set"
                " torch_extension_cache_dir."
            ) from exc


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(int(seconds), 0)} seconds"

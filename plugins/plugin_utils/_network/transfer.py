# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""One file from an HTTP server, by as many answers as it takes: a cut costs what was not yet there, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import typing as t
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Gauge, Silence

with contextlib.suppress(ImportError):  # http.py says so
    import requests
    from urllib3.exceptions import InvalidHeader, MaxRetryError
    from urllib3.util import Retry

# A piece of TLS has 16 KiB at most (RFC 8446, 5.1). Where they come quickly, several at once cost a third less time.
_CHUNK = 1 << 16  # bytes
_QUICK = 1 << 20  # bytes a second
_STEP = 4 << 20  # bytes between two reports of what is written
_PASSING = (408, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 300  # seconds, whatever the server asks for
_ZIP = b"PK\x03\x04"  # what a wheel begins with (PKWARE's APPNOTE, 4.3.7)


class Patience(t.NamedTuple):
    """When a transfer is given up."""

    seconds: float = http.SECONDS  # to connect, and between two pieces of an answer
    window: float = 60.0  # seconds in which at least so many bytes must come:
    least: int = 60 << 10  # bytes; a try that brought less counts as one without progress, too
    tries: int = 5  # more, without progress
    pause: float = 0.5  # seconds before the second of them; doubled before each more


class Part:
    """The beginning of a file, and, beside it, of which version of what is at its URL it is the beginning."""

    def __init__(self, path: str) -> None:
        """
        :param path: of the file, which may be there from an earlier run
        """
        self.path = path
        self._beside = path + ".json"

    @property
    def size(self) -> int:
        """What there is, in bytes."""
        try:
            return os.path.getsize(self.path)
        except FileNotFoundError:
            return 0

    def continued(self, verified: bool) -> str | None:
        """The validator (RFC 9110, 13.1.5) to go on with, or None if there is nothing to go on with.

        :param verified: whether every byte must have come over verified TLS
        """
        try:
            with open(self._beside, encoding="utf-8") as file:
                notes = json.load(file)
            validator, was_verified = notes["validator"], notes["verified"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        usable = (
            isinstance(validator, str) and re.match(r"[ -~]+$", validator) and (was_verified is True or not verified)
        )
        return validator if usable and self.size else None

    def start(self, validator: str | None, verified: bool) -> None:
        """Begin anew. In this order, for a kill in between must not leave new notes beside old bytes.

        :raises OSError: if the disk does not take it
        """
        self.discard()
        with open(self._beside, "w", encoding="utf-8") as file:
            json.dump({"validator": validator, "verified": verified}, file)

    def forget(self) -> None:
        """Keep the file, which is whole, without what is beside it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._beside)

    def discard(self) -> None:
        """Throw away what there is."""
        self.forget()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Transfer:
    """Brings what is at a URL into a part."""

    def __init__(
        self,
        url: str,
        part: Part,
        ca_path: str | None = None,
        size: int | None = None,
        verified: bool = False,
        patience: Patience | None = None,
        progress: Silence | None = None,
        received: t.Callable[[int], None] = lambda size: None,
    ) -> None:
        """
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param size: what it must have, in bytes, if that is known
        :param verified: whether to take it over verified TLS only, redirects included
        :param received: is told the size of the part, when there is more of it
        """
        self._url, self._part, self._size, self._verified = url, part, size, verified
        self._ca_path, self._patience = ca_path, patience or Patience()
        self._progress, self._received = progress or Silence(), received
        self._resumed = False

    def run(self, name: str) -> bool:
        """Bring all of it.

        :param name: to show to the operator
        :returns: whether it came in more than one piece, so that a wrong whole may be worth another try
        :raises TorchExtensionError: if it cannot be had; what came of it stays in the part
        """
        best = self._part.size
        tries = fresh = Retry(total=self._patience.tries, backoff_factor=self._patience.pause)
        with requests.Session() as session, self._progress.gauge(name) as gauge:
            while True:
                try:
                    self._ask(session, gauge)
                    return self._resumed
                except _PassingError as exc:
                    again = exc
                except Exception as exc:
                    if isinstance(exc, TorchExtensionError) or not http.is_passing(exc):
                        with http.explained(self._url):
                            raise
                    again = _PassingError(http.cause(exc), exc)
                if self._part.size >= best + self._patience.least:
                    tries, best = fresh, self._part.size
                try:
                    tries = tries.increment()
                except MaxRetryError:
                    with http.explained(self._url):
                        raise again.error from None
                seconds = _pause(tries, again.response)
                self._progress.note(f"{name}: {again}. It goes on in {seconds:.0f} s.")
                time.sleep(seconds)

    def _ask(self, session: requests.Session, gauge: Gauge) -> None:
        validator = self._part.continued(self._verified)
        offset = self._part.size if validator else 0
        headers = {"Accept-Encoding": "identity"}
        if validator:
            headers.update({"Range": f"bytes={offset}-", "If-Range": validator})
        # verify is said with the request, for a session's own setting yields to REQUESTS_CA_BUNDLE
        with session.get(
            self._url, headers=headers, stream=True, timeout=self._patience.seconds, verify=self._ca_path or True
        ) as response:
            status, (begins, total) = response.status_code, _extent(response)
            if status in _PASSING:
                raise _PassingError(f"HTTP status {status}", TorchExtensionError(_refusal(self._url, status)), response)
            goes_on = offset > 0 and status == 206 and begins == offset
            if goes_on or status == 200:
                self._check(response, total)
                self._resumed = goes_on
                with explain_write_errors(self._part.path):
                    self._take(response, begins, total, gauge)
                return
            if offset == 0 or status not in (206, 416):
                raise TorchExtensionError(_refusal(self._url, status))
        self._part.discard()  # it does not fit what the server has now
        self._ask(session, gauge)

    def _check(self, response: requests.Response, total: int | None) -> None:
        """What can be told before the body."""
        if self._verified and not _is_verified(response):
            raise TorchExtensionError(
                f"{self._url} is redirected to {urlsplit(response.url).hostname} without TLS, and there is no sha256 to"
                " check the file by. Give its hash in torch_extension_sha256."
            )
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise not_the_wheel(self._url, "it is a page of HTML.", response.raw.read(60, decode_content=False))
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise TorchExtensionError(
                f"{self._url} came with Content-Encoding {response.headers['Content-Encoding']}, wanted is the file as"
                " it is. Set up the server or the proxy so that it does not pack files."
            )
        if None not in (total, self._size) and total != self._size:
            raise self._wrong_size(f"{total}")
        check_free_space(self._part.path, (total or self._size or 0) - self._part.size)

    def _take(self, response: requests.Response, begins: int, total: int | None, gauge: Gauge) -> None:
        """Write the body to the part."""
        start = b""
        if begins == 0:
            start = response.raw.read(len(_ZIP), decode_content=False)
            if not _ZIP.startswith(start):
                start += response.raw.read(60, decode_content=False)
                raise not_the_wheel(self._url, "it is not a zip file.", start)
            self._part.start(_validator(response), _is_verified(response))
        done, most = begins + len(start), total or self._size
        gauge.start(done, most)
        self._received(0)
        told = done
        with open(self._part.path, "ab") as file, _SlowWatch(self._patience, response, gauge):
            file.write(start)
            for chunk in _chunks(response):
                file.write(chunk)
                done += len(chunk)
                gauge.done = done
                if done > (most or done):
                    raise self._wrong_size(f"more than {most}")
                if done >= told + _STEP:
                    file.flush()
                    self._received(done)
                    told = done
        if done < (most or 0):
            reason = f"the connection was cut after {done} of {most} bytes"
            raise _PassingError(reason, requests.exceptions.ConnectionError(reason))

    def _wrong_size(self, found: str) -> TorchExtensionError:
        return TorchExtensionError(
            f"{self._url} has {found} bytes, wanted are {self._size}, as the release or the lock has it. Either somebody"
            " changed the file, or a proxy or mirror gives another one (torch_extension_proxy, torch_extension_github_url)."
        )


def not_the_wheel(url: str, reason: str, start: bytes) -> TorchExtensionError:
    """The error for something else that came in a wheel's place.

    :param start: what it begins with
    """
    return TorchExtensionError(
        f"What {url} gave is not the wheel: {reason} It begins with {start[:60].decode('ascii', 'replace')!r}. A login"
        " page of a proxy or firewall?"
    )


class _PassingError(Exception):
    """Something that another try may mend, and the error to raise if none does."""

    def __init__(self, reason: str, error: Exception, response: requests.Response | None = None) -> None:
        super().__init__(reason)
        self.error, self.response = error, response


class _SlowWatch:
    """Ends a transfer that trickles, which a time-out between two pieces does not."""

    def __init__(self, patience: Patience, response: requests.Response, gauge: Gauge) -> None:
        self._patience, self._response, self._gauge = patience, response, gauge
        self._is_over, self._was_slow = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._was_slow and not isinstance(exc, TorchExtensionError):
            reason = f"less than {self._patience.least} bytes came in {self._patience.window:.0f} s"
            raise _PassingError(reason, requests.exceptions.ReadTimeout(reason)) from exc

    def _run(self) -> None:
        done = self._gauge.done
        while not self._is_over.wait(self._patience.window):
            if self._gauge.done < done + self._patience.least:
                self._was_slow = True
                with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has just ended
                    self._response.raw.shutdown()
                return
            done = self._gauge.done


def _chunks(response: requests.Response) -> t.Iterator[bytes]:
    """The body, in pieces as large as come at once, or, where they come quickly, larger ones."""
    raw, is_quick, since = response.raw, False, time.monotonic()
    while chunk := (raw.read if is_quick else raw.read1)(_CHUNK, decode_content=False):
        yield chunk
        now = time.monotonic()
        is_quick, since = len(chunk) > _QUICK * (now - since), now


def _pause(tries: Retry, response: requests.Response | None) -> float:
    """Seconds until the next try: what the server asks for (Retry-After), or longer each time."""
    asked = None
    if response is not None:
        with contextlib.suppress(InvalidHeader):
            asked = tries.get_retry_after(response.raw)
    return min(tries.get_backoff_time() if asked is None else asked, _LONGEST_PAUSE)


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Where the body begins within the file (-1 if that is not told), and how large the file is (RFC 9110, 14.4)."""
    if response.status_code == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _is_verified(response: requests.Response) -> bool:
    return all(answer.url.startswith("https://") for answer in (*response.history, response))


def _validator(response: requests.Response) -> str | None:
    """What tells this version of the file from any other (RFC 9110, 8.8): a strong ETag, or a date that is one.

    A date is one if it was more than a second old when the server sent it (8.8.2.2).
    """
    etag, changed = response.headers.get("ETag"), response.headers.get("Last-Modified")
    if etag:
        return etag if etag.startswith('"') else None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        age = parsedate_to_datetime(response.headers["Date"]) - parsedate_to_datetime(changed)
        return changed if age.total_seconds() > 1 else None
    return None


def _refusal(url: str, status: int) -> str:
    if status == 404:
        releases = re.sub(r"/releases/download/([^/]+)/.*", r"/releases/tag/\1", url)
        return (
            f"{url} does not exist (404): there is no wheel of this version for this torch, CUDA, Python and C++ ABI."
            f" What there is stands at {releases}. Choose another version in torch_extension_packages, or another torch"
            " on the node."
        )
    if status == 407:
        return http.proxy_wants_credentials(urlsplit(url).hostname)
    return (
        f"{url} was answered with HTTP status {status}. See whether the server or the proxy wants credentials"
        " (~/.netrc, torch_extension_proxy)."
    )

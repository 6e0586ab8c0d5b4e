# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Download one file over HTTP. After a broken connection the next request asks for the rest only."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import time
import typing as t
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import parse_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import (
    PACE,
    Limit,
    Watch,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session, settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Gauge, Progress
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnservedError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import OriginSecret

with contextlib.suppress(ImportError):  # http_session.py says so
    import requests
    from urllib3.exceptions import MaxRetryError
    from urllib3.util import Retry

# A TLS record has 16 KiB at most (RFC 8446, 5.1). Where they come fast, reading several at once takes a third less time.
_CHUNK = 1 << 16  # bytes
_FAST = 1 << 20  # bytes a second
_REPORT_STEP = 4 << 20  # bytes between two calls of on_written
_TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_LONGEST_DELAY = 300  # seconds, whatever the server asks for
_MAX_SIZE = 16 << 30  # bytes of a file whose size nobody tells
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: what a file begins with, by the end of its name: PKWARE's APPNOTE, 4.3.7; RFC 1952, 2.3.1; the .xz file format, 2.1.1.1
_MAGICS = {
    ".whl": ("zip", b"PK\x03\x04"),
    ".zip": ("zip", b"PK\x03\x04"),
    ".tar.gz": ("gzip", b"\x1f\x8b"),
    ".tar.xz": ("xz", b"\xfd7zXZ\x00"),
}


_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)


class RetryPolicy(t.NamedTuple):
    """When a request counts as failed, and when the transfer is given up."""

    timeout: float = http_session.TIMEOUT_SECONDS  # to connect, and between two pieces of the body
    pace: Limit = PACE  # a request that brings less than its size counts as one without progress, too
    max_retries: int = 5  # in a row, without progress
    backoff: float = 0.5  # seconds before the second retry; doubled before each further one


class Wording(t.NamedTuple):
    """How messages speak of files of one kind."""

    noun: str = "wheel"
    told_by: str = "as the release or the lock has it"  # who tells hash and size
    hash_told_by: str = "as the release, the lock or torch_extension_sha256 has it"
    #: the setting that leads to a mirror
    mirror_setting: str = "torch_extension_github_url"
    #: what to do where nobody tells a hash, and the address is without TLS; a sentence
    without_hash: str = (
        "Give its hash in torch_extension_sha256, or name its source (torch_extension_github_url, torch_extension_sources) by an"
        " https: URL."
    )
    #: how to state the hash of a file, a sentence
    pin: str = "Set torch_extension_sha256 to pin it."
    #: how to accept a file that is another one than at its first download; it goes on after "If the new one is right, "
    renew: str = "set torch_extension_sha256, or delete that file"


class PartialFile:
    """The beginning of a file, and beside it notes on the version of the remote file that it belongs to."""

    def __init__(self, path: str) -> None:
        """
        :param path: of the file, which may be there from an earlier run
        """
        self.path = path
        self._notes_path = path + ".json"

    @property
    def size(self) -> int:
        """In bytes; 0 if there is no file."""
        try:
            return os.path.getsize(self.path)
        except FileNotFoundError:
            return 0

    def resume_validator(self, verified: bool) -> str | None:
        """The validator (RFC 9110, 13.1.5) to resume with, or None if there is nothing to resume.

        :param verified: whether every byte must have come over verified TLS
        """
        try:
            notes = read_json(self._notes_path)
            validator, was_verified = notes["validator"], notes["verified"]
            if verified and notes["boot"] != _boot_id():
                return None  # a power cut may have left zeros in it, and nothing would tell
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_usable = (
            isinstance(validator, str) and re.match(r"[ -~]+$", validator) and (was_verified is True or not verified)
        )
        return validator if is_usable and self.size else None

    def start(self, validator: str | None, verified: bool) -> None:
        """Start over. The old bytes go first: a kill in between must not leave them beside new notes.

        :raises OSError: if the notes cannot be written
        """
        self.discard()
        with open(self._notes_path, "w", encoding="utf-8") as file:
            json.dump({"validator": validator, "verified": verified, "boot": _boot_id()}, file)

    def finish(self) -> None:
        """The file is complete: remove the notes."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._notes_path)

    def discard(self) -> None:
        """Remove the file and its notes."""
        self.finish()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _boot_id() -> str:
    """What this machine is called until it is switched off; empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(100).strip()
    except OSError:
        return ""


class Transfer:
    """Downloads a URL into a partial file."""

    def __init__(
        self,
        url: str,
        part: PartialFile,
        ca_path: str | None = None,
        size: int | None = None,
        verified: bool = False,
        retry_policy: RetryPolicy | None = None,
        progress: Progress | None = None,
        on_written: t.Callable[[int], object] = lambda size: None,
        secret: OriginSecret | None = None,
        wording: Wording = Wording(),  # noqa: B008 (it is a tuple)
    ) -> None:
        """
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param size: what it must have, in bytes, if that is known
        :param verified: whether to take it over verified TLS only, redirects included
        :param on_written: is called with the size of the partial file as it grows; with 0 when it starts over
        :param secret: goes to its origin, before what netrc has
        """
        self._secret, self._wording = secret, wording
        self._url, self._part, self._size, self._verified = url, part, size, verified
        self._ca_path, self._retry_policy = ca_path, retry_policy or RetryPolicy()
        self._progress, self._on_written = progress or Progress(), on_written
        self._was_resumed = False
        self._name = ""
        self._received = 0  # bytes, of all requests

    def run(self, name: str) -> bool:
        """Download all of it, with as many requests as it takes.

        :param name: of the file, which says by its end what it is, and is shown to the operator
        :returns: whether it was resumed, so that a wrong file may be worth another download
        :raises TorchExtensionError: if it fails; what has come stays in the partial file
        """
        self._name = name
        largest = self._part.size
        retry = untried = Retry(total=self._retry_policy.max_retries, backoff_factor=self._retry_policy.backoff)
        session = http_session.open_session(secret=self._secret, retries=False)
        with session, self._progress.gauge(name) as gauge:
            while True:
                try:
                    self._request(session, gauge)
                    return self._was_resumed
                except _TransientError as exc:
                    failure = exc
                except Exception as exc:
                    if isinstance(exc, TorchExtensionError) or not http_session.is_transient(exc):
                        with http_session.explain_http_errors(self._url, self._wording.mirror_setting):
                            raise
                    failure = _TransientError(settings.root_cause(exc), exc)
                if self._part.size >= largest + self._retry_policy.pace.size:
                    retry, largest = untried, self._part.size
                try:
                    retry = retry.increment()
                except MaxRetryError:
                    with http_session.explain_http_errors(self._url, self._wording.mirror_setting):
                        raise failure.error from None
                seconds = _retry_delay(retry, failure.response)
                attempt = self._retry_policy.max_retries - (retry.total or 0)
                self._progress.note(
                    f"{name}: {failure}; attempt {attempt} of {self._retry_policy.max_retries + 1} failed,"
                    f" retrying in {seconds:.0f} s"
                )
                time.sleep(seconds)

    def _request(self, session: requests.Session, gauge: Gauge) -> None:
        validator = self._part.resume_validator(self._verified)
        offset = self._part.size if validator else 0
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if validator else {}
        # verify goes with the request, for a session's own setting yields to REQUESTS_CA_BUNDLE
        with (
            session.get(
                self._url,
                headers=headers,
                stream=True,
                timeout=self._retry_policy.timeout,
                verify=self._ca_path or True,
            ) as response,
            Watch(self._retry_policy.pace, response.raw.shutdown, lambda: self._received),
        ):
            status, (first_byte, total) = response.status_code, _content_range(response)
            if status in _TRANSIENT_STATUSES:
                raise _TransientError(f"HTTP status {status}", http_session.status_error(self._url, response), response)
            is_resumed = offset > 0 and status == 206 and first_byte == offset
            if is_resumed or status == 200:
                self._check_headers(response, total)
                self._was_resumed = is_resumed
                try:
                    self._write_body(response, first_byte, total, gauge)
                except OSError as exc:
                    if exc.errno in _NO_ROOM:  # for others, too; they need it more than the next run needs this
                        self._part.discard()
                    with explain_write_errors(self._part.path):
                        raise
                return
            if offset == 0 or status not in (206, 416):
                raise http_session.status_error(self._url, response)
        self._part.discard()  # it does not belong to what the server has now
        self._request(session, gauge)

    def _check_headers(self, response: requests.Response, total: int | None) -> None:
        """Refuse what is wrong as far as the headers tell."""
        if self._verified and not _is_verified(response):
            raise UnservedError(
                f"{self._url} is redirected to {urlsplit(response.url).hostname} without TLS, and there is no sha256 to"
                f" check the file by. {self._wording.without_hash}"
            )
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            start = response.raw.read(60, decode_content=False)
            raise another_file_error(self._url, self._wording.noun, "it is a page of HTML.", start)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnservedError(
                f"{self._url} came with Content-Encoding {response.headers['Content-Encoding']}, wanted is the file as"
                " it is. Set up the server or the proxy so that it does not pack files."
            )
        if None not in (total, self._size) and total != self._size:
            raise self._size_error(f"{total}")
        check_free_space(self._part.path, (total or self._size or 0) - self._part.size)

    def _write_body(self, response: requests.Response, first_byte: int, total: int | None, gauge: Gauge) -> None:
        """Append the body to the partial file."""
        start = b""
        if first_byte == 0:
            form, magic = next((_MAGICS[end] for end in _MAGICS if self._name.endswith(end)), ("", b""))
            start = response.raw.read(len(magic), decode_content=False) if magic else b""
            if not magic.startswith(start):
                start += response.raw.read(60, decode_content=False)
                raise another_file_error(self._url, self._wording.noun, f"it is not a {form} file.", start)
            self._part.start(_validator(response), _is_verified(response))
        done, expected_size = first_byte + len(start), total or self._size
        gauge.start(done, expected_size)
        self._on_written(0)
        reported = done
        with open(self._part.path, "ab") as file:
            file.write(start)
            for chunk in _read_chunks(response):
                file.write(chunk)
                done += len(chunk)
                self._received += len(chunk)
                gauge.done = done
                if done > (expected_size or _MAX_SIZE):
                    self._part.discard()
                    raise self._size_error(f"more than {expected_size or _MAX_SIZE}")
                if done >= reported + _REPORT_STEP:
                    file.flush()
                    self._check_room(done, expected_size)
                    self._on_written(done)
                    reported = done
        if done < (expected_size or 0):
            reason = f"the connection was cut after {done} of {expected_size} bytes"
            raise _TransientError(reason, requests.exceptions.ConnectionError(reason))

    def _check_room(self, done: int, expected_size: int | None) -> None:
        """Refuse to fill the disk, on which this is not alone."""
        try:
            check_free_space(self._part.path, expected_size - done if expected_size else 1)
        except TorchExtensionError:
            self._part.discard()
            raise

    def _size_error(self, size: str) -> TorchExtensionError:
        return UnservedError(
            f"{self._url} has {size} bytes, wanted are {self._size or f'no more than {_MAX_SIZE}'}, {self._wording.told_by}. Either somebody"
            f" changed the file, or a proxy or a mirror ({self._wording.mirror_setting}) gives another one; it was asked"
            f" {route_to(self._url)}."
        )


def another_file_error(url: str, noun: str, reason: str, start: bytes) -> UnservedError:
    """The error for something else in a file's place.

    :param noun: what the file should be
    :param start: what it begins with
    """
    return UnservedError(
        f"What {url} gave is not the {noun}: {reason} It begins with {start[:60].decode('ascii', 'replace')!r}. It was asked"
        f" {route_to(url)}. A login page of a proxy or firewall?"
    )


class _TransientError(Exception):
    """Something that a retry may mend, and the error to raise if none does."""

    def __init__(self, reason: str, error: Exception, response: requests.Response | None = None) -> None:
        super().__init__(reason)
        self.error, self.response = error, response


def _read_chunks(response: requests.Response) -> t.Iterator[bytes]:
    """The body, in pieces as they come, or in larger ones where they come fast."""
    raw, is_fast, since = response.raw, False, time.monotonic()
    while chunk := (raw.read if is_fast else raw.read1)(_CHUNK, decode_content=False):
        yield chunk
        now = time.monotonic()
        is_fast, since = len(chunk) > _FAST * (now - since), now


def _retry_delay(retry: Retry, response: requests.Response | None) -> float:
    """Seconds until the next request: what the server asks for (Retry-After), or longer each time."""
    wait = None if response is None else _retry_after(response.headers.get("Retry-After"))
    return min(retry.get_backoff_time() if wait is None else wait, _LONGEST_DELAY)


def _retry_after(header: str | None) -> float | None:
    seconds = parse_size(header)
    if seconds is None and header:
        moment = _parse_date(header)
        seconds = max(int(moment.timestamp() - time.time()), 0) if moment else None
    return seconds


def _content_range(response: requests.Response) -> tuple[int, int | None]:
    """Where the body begins within the file (-1 if unknown), and the size of the file (RFC 9110, 14.4)."""
    if response.status_code == 206:
        match = re.fullmatch(
            r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", response.headers.get("Content-Range", ""), re.ASCII
        )
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else (-1, None)
    return 0, parse_size(response.headers.get("Content-Length"))


def _is_verified(response: requests.Response) -> bool:
    return all(answer.url.startswith("https://") for answer in (*response.history, response))


def _validator(response: requests.Response) -> str | None:
    """What tells this version of the file from any other (RFC 9110, 8.8): a strong ETag, or a date that counts as one.

    A date counts if it was more than a second old when the server sent it (8.8.2.2).
    """
    etag, last_modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    if etag:
        return etag if etag.startswith('"') else None
    sent, modified = _parse_date(response.headers.get("Date")), _parse_date(last_modified)
    return last_modified if sent and modified and (sent - modified).total_seconds() > 1 else None


def _parse_date(text: str | None) -> datetime.datetime | None:
    """A date in the form in which servers are to send it (RFC 9110, 5.6.7); None if it is none."""
    try:
        return parsedate_to_datetime(text) if text and _DATE.fullmatch(text) else None
    except ValueError:  # such as the 31st of February
        return None

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""A node fetches files from an HTTP server inside the gap, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import ssl
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import in_one_line
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import parse_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging, watch
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import (
    OTHER_FILE_ADVICE,
    OTHER_METHODS_ADVICE,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import lock
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import make_own_folder, trust

#: What became of a file: it was present already, was fetched, or the server does not have it.
PRESENT, PULLED, MISSING = "there", "pulled", "missing"

_SECONDS = 60  # to connect, and between two pieces of an answer
_TRIES = 5  # in a row that bring nothing new
_PAUSE = 1.0  # seconds before the second of them; doubled before each more
_CHUNK = 1 << 16  # bytes
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class RemoteFile(t.NamedTuple):
    """A file that the server should have."""

    filename: str
    sha256: str  # in hexadecimal
    size: int  # bytes


class _TransientError(Exception):
    """Another try may succeed."""


class _MissingError(Exception):
    """The server does not have it."""


def is_present(folder: str, remote: RemoteFile) -> bool:
    """Whether a file exists in its whole length; whoever installs it checks its hash."""
    return _size_of(os.path.join(folder, remote.filename)) == remote.size


def make_folder(folder: str, trusted_owners: t.Iterable[str] = ()) -> str:
    """Make a folder that its user alone may write to.

    :param folder: ``~`` is the home of the user
    :param trusted_owners: who besides the user and root may change the folders above it (``trust.trust``)
    :returns: its path, without links
    :raises TorchExtensionError: if it cannot be made, or belongs to another user, or others may write to it
    """
    try:
        return make_own_folder(os.path.expanduser(folder), trust(trusted_owners))
    except OSError as exc:
        raise TorchExtensionError(
            f"The folder {folder} on the node cannot be made or used ({exc.strerror}). Nothing was changed. Set"
            " torch_extension_stage_dir."
        ) from exc


class Puller:
    """Fetches files from below one URL into one folder."""

    def __init__(
        self,
        url: str,
        folder: str,
        opener: urllib.request.OpenerDirector,
        sleep: t.Callable[[float], None] = time.sleep,
        seconds: float = _SECONDS,
        pace: watch.Limit = watch.PACE,
    ) -> None:
        """
        :param folder: of the user alone (:func:`make_folder`)
        :param opener: of URLs (:func:`build_opener`)
        :param seconds: to connect, and between two pieces of an answer
        :param pace: of a file; a request that brings less than this counts as one that brings nothing new, too
        """
        self._url, self._folder, self._opener = url.rstrip("/"), folder, opener
        self._sleep, self._seconds, self._pace = sleep, seconds, pace
        self._received = 0  # bytes, of all files

    def pull(self, remote: RemoteFile) -> str:
        """Fetch a file, or what is missing of it. It gets its name once it is complete and has its hash.

        :returns: ``PRESENT``, ``PULLED`` or ``MISSING``
        :raises TorchExtensionError: if it cannot be fetched; a part of it stays only where the next run can continue it
        """
        try:
            with self._lock(remote):
                return self._pull(remote)
        except OSError as exc:  # of the disk: those of the network are explained
            with contextlib.suppress(OSError):
                os.unlink(self._part_path(remote))
            raise TorchExtensionError(
                f"{remote.filename} cannot be written to {self._folder} on the node ({exc.strerror}). Make room there, or set"
                " torch_extension_stage_dir."
            ) from exc

    @contextlib.contextmanager
    def _lock(self, remote: RemoteFile) -> t.Iterator[None]:
        """Lock the part of a file: a lost run may still be writing it. The system frees the lock of a process that died."""
        part = self._part_path(remote)
        while True:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                lock(handle, part)
                try:
                    if os.path.exists(part) and os.path.samestat(os.fstat(handle), os.stat(part)):
                        yield
                        break
                finally:
                    if _size_of(part) == 0:
                        _discard(part)
            finally:
                os.close(handle)

    def _pull(self, remote: RemoteFile) -> str:
        part = self._part_path(remote)
        if is_present(self._folder, remote):
            return PRESENT
        for is_resumed in (_size_of(part) > 0, False):
            self._check_room(remote, part)
            if not self._download(remote, part):
                return MISSING
            sha256 = sha256_of(part)
            if sha256 == remote.sha256:
                os.replace(part, os.path.join(self._folder, remote.filename))
                return PULLED
            _truncate(part)
            if not is_resumed:
                break
        raise self._other_file_error(remote, f"has sha256 {sha256}, wanted is {remote.sha256}")

    def _part_path(self, remote: RemoteFile) -> str:
        return os.path.join(self._folder, staging.part_name(remote.filename, remote.sha256))

    def _other_file_error(self, remote: RemoteFile, facts: str) -> TorchExtensionError:
        return TorchExtensionError(
            f"{self._url_of(remote)} {facts}: it is another file. {OTHER_FILE_ADVICE} {OTHER_METHODS_ADVICE}"
        )

    def _url_of(self, remote: RemoteFile) -> str:
        return f"{self._url}/{urllib.parse.quote(remote.filename, safe='')}"

    def _check_room(self, remote: RemoteFile, part: str) -> None:
        free, lacking = shutil.disk_usage(self._folder).free, remote.size - _size_of(part)
        if lacking > free:
            _truncate(part)
            raise TorchExtensionError(
                f"{self._folder} on the node has {free >> 20} MiB free, wanted are {-(-lacking >> 20)} MiB. Nothing was"
                " changed. Make room, or set torch_extension_stage_dir."
            )

    def _download(self, remote: RemoteFile, part: str) -> bool:
        """Download all bytes of a file, in as many tries as it takes. False if the server does not have it."""
        tries, pause, largest = _TRIES, _PAUSE, _size_of(part)
        while True:
            try:
                self._request(remote, part)
                return True
            except _MissingError:
                return False
            except _TransientError as exc:
                # more than ever, not only more than the last time: a server may begin anew each time
                if _size_of(part) >= largest + self._pace.size:
                    tries, pause, largest = _TRIES, _PAUSE, _size_of(part)
                else:
                    tries -= 1
                if not tries:
                    raise TorchExtensionError(
                        f"{self._url_of(remote)} cannot be fetched by this node{self._describe_proxy()}: {exc}. What has come stays, and"
                        f" the next run goes on. {OTHER_METHODS_ADVICE}"
                    ) from exc
            self._sleep(pause)
            pause *= 2

    def _describe_proxy(self) -> str:
        """The proxy between this node and the server, in words for a message; empty if the environment names none."""
        parts = urllib.parse.urlsplit(self._url)
        if parts.scheme not in urllib.request.getproxies() or urllib.request.proxy_bypass(parts.netloc):
            return ""
        return f" through the proxy of its environment (no_proxy={parts.hostname} goes without)"

    def _request(self, remote: RemoteFile, part: str) -> None:
        """Download the rest of a file with one request.

        :raises _TransientError: if not all of it arrived
        :raises _MissingError: if the server does not have it
        """
        start = _size_of(part)
        if start == remote.size:
            return
        if start > remote.size:
            _truncate(part)
            start = 0
        request = urllib.request.Request(self._url_of(remote), headers={"Accept-Encoding": "identity"})  # noqa: S310 - see check_url
        if start:
            request.add_header("Range", f"bytes={start}-")
        with self._explain_errors(remote):
            response = self._opener.open(request, timeout=self._seconds)
        with response:
            if response.status != 206:
                start = 0
            elif not _starts_at(response.headers.get("Content-Range"), start):
                _truncate(part)
                raise _TransientError(
                    f"the server gives {in_one_line(response.headers.get('Content-Range'))}, asked for was {start}-"
                )
            length = parse_size(response.headers.get("Content-Length"))
            if length is not None and start + length != remote.size:
                _truncate(part)
                raise self._other_file_error(remote, f"has {start + length} bytes, wanted are {remote.size}")
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            pieces = self._read_body(remote, response)
            with os.fdopen(handle, "wb") as file, contextlib.closing(pieces):
                file.truncate(start)
                file.seek(start)
                for data in pieces:
                    start += file.write(data)
                    if start > remote.size:  # one that goes on for ever is another file
                        break
        if start > remote.size:
            _truncate(part)
            raise self._other_file_error(remote, f"has more than {remote.size} bytes, which are wanted")
        if start < remote.size:
            raise _TransientError(f"{start} bytes came, wanted are {remote.size}")

    def _read_body(self, remote: RemoteFile, response: t.Any) -> t.Generator[bytes, None, None]:
        """The pieces of a body, as they come."""
        with self._explain_errors(remote), watch.Watch(self._pace, response.hang_up, lambda: self._received):
            while True:
                data = response.read1(_CHUNK)
                if not data:
                    return
                self._received += len(data)
                yield data

    @contextlib.contextmanager
    def _explain_errors(self, remote: RemoteFile) -> t.Iterator[None]:
        """Turn the standard library's errors into ours.

        :raises _MissingError: if the server does not have the file
        :raises _TransientError: if another try may succeed
        :raises TorchExtensionError: if none will
        """
        url = self._url_of(remote)
        host = urllib.parse.urlsplit(url).hostname
        try:
            yield
        except urllib.error.HTTPError as exc:
            with contextlib.closing(exc):
                if exc.code in (404, 410):
                    raise _MissingError from exc
                if exc.code == 416:  # what is here is longer than what is there
                    _truncate(self._part_path(remote))
                if exc.code == 416 or exc.code in _TRANSIENT_STATUSES:
                    raise _TransientError(f"the server answers {exc.code} ({in_one_line(exc.reason)})") from exc
                if exc.code in (401, 403):
                    raise TorchExtensionError(
                        f"{url} is refused to this node ({exc.code} {in_one_line(exc.reason)}). Put credentials for {host} into ~/.netrc"
                        " of the user that the task becomes there, which are sent over https alone; or let everybody read it."
                        f" {OTHER_METHODS_ADVICE}"
                    ) from exc
                raise TorchExtensionError(
                    f"{url} cannot be fetched by this node{self._describe_proxy()}: the server answers {exc.code} ({in_one_line(exc.reason)}). Look at"
                    f" torch_extension_pull_url. {OTHER_METHODS_ADVICE}"
                ) from exc
        except ssl.SSLCertVerificationError as exc:
            raise _untrusted_certificate(host, exc) from exc
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, ssl.SSLCertVerificationError):
                raise _untrusted_certificate(host, exc.reason) from exc
            raise _TransientError(in_one_line(getattr(exc.reason, "strerror", None) or exc.reason)) from exc
        except OSError as exc:
            raise _TransientError(in_one_line(exc.strerror or exc)) from exc
        except (http.client.InvalidURL, ValueError) as exc:  # in words that may hold a piece of a proxy's password
            raise TorchExtensionError(
                f"{url} cannot be fetched by this node{self._describe_proxy()}: one of their addresses is none. Look at"
                f" torch_extension_pull_url, and at http_proxy and https_proxy of the node. {OTHER_METHODS_ADVICE}"
            ) from exc
        except http.client.HTTPException as exc:
            raise _TransientError(f"the server's answer is broken ({in_one_line(repr(exc))})") from exc


def _untrusted_certificate(host: str | None, exc: ssl.SSLCertVerificationError) -> TorchExtensionError:
    return TorchExtensionError(
        f"This node does not trust the certificate of {host}: {exc.verify_message}. Name the file of your site's CA in"
        f" torch_extension_pull_ca_path. {OTHER_METHODS_ADVICE}"
    )


def _starts_at(content_range: str | None, start: int) -> bool:
    match = re.match(r"bytes ([0-9]+)-", content_range or "")
    return match is not None and parse_size(match.group(1)) == start


def _truncate(path: str) -> None:
    """Empty a file without removing it: it is locked, and removed with the lock."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, 0)


def _discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _size_of(path: str) -> int:
    """Bytes; 0 if there is no such file."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0

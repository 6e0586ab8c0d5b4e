# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""A node fetches files from an HTTP server inside the gap, with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import netrc
import os
import re
import shutil
import ssl
import stat
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _staged, _wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError

#: What has become of a file: it was there already, has been fetched, or the server does not have it.
THERE, PULLED, MISSING = "there", "pulled", "missing"

_SECONDS = 60  # to connect, and between two pieces of an answer
_TRIES = 5  # in a row that bring nothing new
_PAUSE = 1.0  # seconds before the second of them; doubled before each more
_CHUNK = 1 << 20  # bytes
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_ELSE = "Nothing was changed. torch_extension_delivery has other ways, such as copy."


class Wanted(t.NamedTuple):
    """A file that the server shall have."""

    filename: str
    sha256: str  # in hexadecimal
    size: int  # bytes


class _PassingError(Exception):
    """Another try may go better."""


class _Credentials(urllib.request.BaseHandler):
    """Those that ``~/.netrc`` has for the host of a request, over TLS alone, and anew after each redirection."""

    def __init__(self, entries: netrc.netrc | None) -> None:
        self._entries = entries

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        host = urllib.parse.urlsplit(request.full_url).hostname or ""
        found = self._entries.authenticators(host) if self._entries else None
        if found:
            text = "{}:{}".format(found[0] or "", found[2] or "").encode()
            # one that is not taken along to where the server sends us
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(text).decode())
        return request


def check_url(url: str) -> str:
    """Returns the URL of the folder on the server, as it is.

    :raises TorchExtensionError: if it is none, or holds credentials, which would be shown
    """
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("wanted is http:// or https:// and a host")
        if parts.query or parts.fragment:
            raise ValueError("wanted is a folder, without ? or #")
    except ValueError as exc:
        raise TorchExtensionError(f"torch_extension_pull_url is no address of a folder on a server: {exc}.") from exc
    if parts.username is not None:
        raise TorchExtensionError(
            f"torch_extension_pull_url holds credentials for {parts.hostname}, which would be shown. Put them into ~/.netrc,"
            " of the control node for the upload and of the nodes for reading, and leave them out of the URL."
        )
    return url


def is_there(folder: str, wanted: Wanted) -> bool:
    """Whether a file is there in its whole length; whoever installs it checks its hash."""
    return _size(os.path.join(folder, wanted.filename)) == wanted.size


def opener(ca: str | None = None, path: str = "~/.netrc") -> urllib.request.OpenerDirector:
    """What asks servers, by the proxies of the environment.

    :param ca: certificates of CAs (PEM) to trust instead of the system's
    :param path: a file of credentials, which need not be there
    :raises TorchExtensionError: if one of the two cannot be read
    """
    try:
        context = ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError) as exc:
        raise TorchExtensionError(f"torch_extension_pull_ca_path has no certificates (PEM): {exc}.") from exc
    path = os.path.expanduser(path)
    try:
        entries = netrc.netrc(path) if os.path.exists(path) else None
    except (netrc.NetrcParseError, OSError) as exc:
        raise TorchExtensionError(f"{path} on the node cannot be read: {exc}. {_ELSE}") from exc
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Credentials(entries))


def make_folder(folder: str) -> str:
    """Make a folder that its user alone may write to.

    :param folder: ``~`` is the home of the user
    :returns: its path, without links
    :raises TorchExtensionError: if it cannot be made, or belongs to another user, or others may write to it
    """
    path = os.path.expanduser(folder)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise PermissionError(0, "it belongs to another user, or others may write to it")
    except OSError as exc:
        raise TorchExtensionError(
            f"The folder {folder} on the node cannot be made or used ({exc.strerror}). Nothing was changed. Set"
            " torch_extension_stage_dir."
        ) from exc
    return os.path.realpath(path)


class Puller:
    """Fetches files from below one URL into one folder."""

    def __init__(
        self,
        url: str,
        folder: str,
        opens: urllib.request.OpenerDirector,
        sleep: t.Callable[[float], None] = time.sleep,
        seconds: float = _SECONDS,
    ) -> None:
        """
        :param folder: of the user alone (:func:`make_folder`)
        :param opens: asks servers (:func:`opener`)
        :param seconds: to connect, and between two pieces of an answer
        """
        self._url, self._folder, self._opens = url.rstrip("/"), folder, opens
        self._sleep, self._seconds = sleep, seconds

    def pull(self, wanted: Wanted) -> str:
        """Fetch a file, or what is still missing of it. It has its name once all of it is there, and has its hash.

        :returns: ``THERE``, ``PULLED`` or ``MISSING``
        :raises TorchExtensionError: if it cannot be had; a part of it stays only where the next run can go on from there
        """
        path = os.path.join(self._folder, wanted.filename)
        part = self._part(wanted)
        if is_there(self._folder, wanted):
            return THERE
        for is_resumed in (_size(part) > 0, False):
            self._check_room(wanted, part)
            if not self._bring(wanted, part):
                return MISSING
            found = _wheel_file.sha256(part)
            if found == wanted.sha256:
                os.replace(part, path)
                return PULLED
            os.unlink(part)
            if not is_resumed:
                break
        raise TorchExtensionError(
            f"{self._url_of(wanted)} has sha256 {found}, wanted is {wanted.sha256}: it is another file. Remove it from that"
            f" server, or name another folder in torch_extension_pull_url. {_ELSE}"
        )

    def _part(self, wanted: Wanted) -> str:
        return os.path.join(self._folder, _staged.part(wanted.filename, wanted.sha256))

    def _url_of(self, wanted: Wanted) -> str:
        return f"{self._url}/{urllib.parse.quote(wanted.filename, safe='')}"

    def _check_room(self, wanted: Wanted, part: str) -> None:
        free, lacking = shutil.disk_usage(self._folder).free, wanted.size - _size(part)
        if lacking > free:
            raise TorchExtensionError(
                f"{self._folder} on the node has {free >> 20} MiB free, wanted are {-(-lacking >> 20)} MiB. Nothing was"
                " changed. Make room, or set torch_extension_stage_dir."
            )

    def _bring(self, wanted: Wanted, part: str) -> bool:
        """Bring as many bytes as the file has. False if the server does not have it."""
        tries, pause = _TRIES, _PAUSE
        while True:
            before = _size(part)
            try:
                with self._explained(wanted):
                    self._ask(wanted, part)
                return True
            except FileNotFoundError:
                return False
            except _PassingError as exc:
                if _size(part) > before:
                    tries, pause = _TRIES, _PAUSE
                tries -= 1
                if not tries:
                    raise TorchExtensionError(
                        f"{self._url_of(wanted)} cannot be fetched by this node: {exc}. What has come stays, and the next run goes"
                        f" on. {_ELSE}"
                    ) from exc
            self._sleep(pause)
            pause *= 2

    def _ask(self, wanted: Wanted, part: str) -> None:
        """One question, and what comes of it.

        :raises _PassingError: if not all has come
        """
        begin = _size(part)
        if begin >= wanted.size:
            if begin == wanted.size:
                return
            os.unlink(part)
            begin = 0
        request = urllib.request.Request(self._url_of(wanted), headers={"Accept-Encoding": "identity"})  # noqa: S310 - see check_url
        if begin:
            request.add_header("Range", f"bytes={begin}-")
        with self._opens.open(request, timeout=self._seconds) as answer:
            if begin and (answer.status != 206 or not _begins(answer.headers.get("Content-Range"), begin)):
                begin = 0
            length = answer.headers.get("Content-Length")
            if length is not None and length.isdigit() and begin + int(length) != wanted.size:
                _discard(part)
                raise TorchExtensionError(
                    f"{self._url_of(wanted)} has {begin + int(length)} bytes, wanted are {wanted.size}: it is another file."
                    f" Remove it from that server, or name another folder in torch_extension_pull_url. {_ELSE}"
                )
            handle = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.truncate(begin)
                file.seek(begin)
                while begin <= wanted.size:  # one that goes on for ever is another file
                    data = answer.read(_CHUNK)
                    if not data:
                        break
                    begin += file.write(data)
        if begin != wanted.size:
            raise _PassingError(f"{begin} bytes came, wanted are {wanted.size}")

    @contextlib.contextmanager
    def _explained(self, wanted: Wanted) -> t.Iterator[None]:
        """Turn what the standard library raises into what it means for the operator.

        :raises FileNotFoundError: if the server does not have the file
        :raises _PassingError: if another try may go better
        :raises TorchExtensionError: if it will not
        """
        url = self._url_of(wanted)
        host = urllib.parse.urlsplit(url).hostname
        try:
            yield
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code in (404, 410):
                    raise FileNotFoundError(url) from exc
                if exc.code == 416:  # what is here is longer than what is there
                    _discard(self._part(wanted))
                if exc.code == 416 or exc.code in _PASSING:
                    raise _PassingError(f"the server answers {exc.code} ({exc.reason})") from exc
                if exc.code in (401, 403):
                    raise TorchExtensionError(
                        f"{url} is refused to this node ({exc.code} {exc.reason}). Put credentials for {host} into ~/.netrc"
                        " of the user that the task becomes there, which are sent over https alone; or let everybody read it."
                        f" {_ELSE}"
                    ) from exc
                raise TorchExtensionError(
                    f"{url} cannot be fetched by this node: the server answers {exc.code} ({exc.reason}). Look at"
                    f" torch_extension_pull_url. {_ELSE}"
                ) from exc
        except ssl.SSLCertVerificationError as exc:
            raise _untrusted(host, exc) from exc
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, ssl.SSLCertVerificationError):
                raise _untrusted(host, exc.reason) from exc
            raise _PassingError(str(getattr(exc.reason, "strerror", None) or exc.reason)) from exc
        except OSError as exc:
            if exc.filename is not None or exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                _discard(self._part(wanted))
                raise TorchExtensionError(
                    f"{wanted.filename} cannot be written to {self._folder} on the node ({exc.strerror}). Make room there, or set"
                    " torch_extension_stage_dir."
                ) from exc
            raise _PassingError(exc.strerror or str(exc)) from exc
        except http.client.HTTPException as exc:
            raise _PassingError(f"the server's answer is broken ({exc!r})") from exc


def _untrusted(host: str | None, exc: ssl.SSLCertVerificationError) -> TorchExtensionError:
    return TorchExtensionError(
        f"This node does not trust the certificate of {host}: {exc.verify_message}. Name the file of your site's CA in"
        f" torch_extension_pull_ca_path. {_ELSE}"
    )


def _begins(content_range: str | None, begin: int) -> bool:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return match is not None and int(match.group(1)) == begin


def _discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _size(path: str) -> int:
    """Bytes; 0 if there is no such file."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0

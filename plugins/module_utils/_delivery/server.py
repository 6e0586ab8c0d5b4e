# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The HTTP server inside the gap, as a node reaches it: its address, its certificates and the credentials for it."""

from __future__ import annotations

import base64
import http.client
import netrc
import os
import re
import socket
import ssl
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import (
    find_credentials,
    read_netrc,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import (
    SILENCES,
    Limit,
    Watch,
    duplicate,
    hang_up,
)

#: how messages end
OTHER_METHODS_ADVICE = "Nothing was changed. torch_extension_delivery has other ways, such as copy."

#: where the server has another file of a name
OTHER_FILE_ADVICE = (
    "If no node wants that one, remove it from that server. If nodes of another kind want it, set torch_extension_pull_url for"
    " this node, and all of its kind, to another folder: one folder holds one file of a name."
)

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----")


class _Credentials(urllib.request.BaseHandler):
    """Those that ``~/.netrc`` has for the host of a request, found anew after each redirection."""

    def __init__(self, entries: netrc.netrc | None) -> None:
        self._entries = entries

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        credentials = find_credentials(self._entries, request.full_url, request.origin_req_host.strip("[]"))
        if credentials:
            # one that is not taken along to where the server sends us
            pair = base64.b64encode(":".join(credentials).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {pair}")
        return request


class _Response(http.client.HTTPResponse):
    """An answer that can be ended while it is read."""

    def __init__(self, sock: socket.socket, *args: t.Any, **more: t.Any) -> None:
        self._line: socket.socket | None = duplicate(sock)
        super().__init__(sock, *args, **more)

    def hang_up(self) -> None:
        hang_up(self._line)

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.close()


class _Connection(http.client.HTTPConnection):
    """A connection that is made, and begins to answer, in time; how much that is follows from its timeout."""

    response_class = _Response
    _line: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self._line = duplicate(self.sock)  # for TLS, which comes next, and takes the other

    def getresponse(self) -> http.client.HTTPResponse:
        with self._watch():
            return super().getresponse()

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.close()

    def _watch(self) -> Watch:
        return Watch(Limit(SILENCES * t.cast(float, self.timeout)), self._hang_up)

    def _hang_up(self) -> None:
        for line in (self._line, self.sock):
            hang_up(line)


class _PlainConnection(_Connection):
    def connect(self) -> None:
        with self._watch():
            super().connect()


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    def connect(self) -> None:
        with self._watch():
            super().connect()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to where there is a watch, too."""

    def redirect_request(
        self, req: urllib.request.Request, fp: t.Any, code: int, msg: str, headers: t.Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # else its body is read to the end, whatever that is
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(req.full_url, code, "it redirects to no http: or https:", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._own_context = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req, context=self._own_context)


def check_url(url: str) -> str:
    """Check the URL of a folder on a server. Returns it unchanged.

    :raises TorchExtensionError: if it is no such URL, or holds credentials, which would be shown
    """
    reason = None
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            reason = "wanted is http:// or https:// and a host"
    except ValueError:  # in words that may hold a piece of a password
        reason = "wanted is http:// or https://, a host, and perhaps a port, a number"
    if reason is None and (parts.query or parts.fragment):
        reason = "wanted is a folder, without ? or #"
    if reason is None and not re.fullmatch("[!-~]+", url):
        reason = "wanted are printable characters of ASCII, and any other as %20"
    if reason:
        raise TorchExtensionError(f"torch_extension_pull_url is no address of a folder on a server: {reason}.")
    if parts.username is not None:
        raise TorchExtensionError(
            f"torch_extension_pull_url holds credentials for {parts.hostname}, which would be shown. Put them into ~/.netrc,"
            " of the control node for the upload and of the nodes for reading, and leave them out of the URL."
        )
    return url


def extract_certificates(text: str) -> str:
    """The certificates in a file (PEM), without its other content: a key, or comments.

    :raises TorchExtensionError: if it has none
    """
    certificates = _CERTIFICATE.findall(text)
    if not certificates:
        raise TorchExtensionError("torch_extension_pull_ca_path has no certificates (PEM: BEGIN CERTIFICATE).")
    return "\n".join(certificates) + "\n"


def build_opener(ca: str | None = None, path: str = "~/.netrc") -> urllib.request.OpenerDirector:
    """What opens URLs, with the proxies of the environment.

    :param ca: certificates of CAs (PEM) to trust instead of the system's
    :param path: a file of credentials, which need not exist
    :raises TorchExtensionError: if one of the two cannot be read
    """
    try:
        context = ssl.create_default_context(cadata=None if ca is None else extract_certificates(ca))
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise TorchExtensionError(f"torch_extension_pull_ca_path has no certificates (PEM): {exc}.") from exc
    handlers = (_PlainHandler(), _SecureHandler(context), _Redirects(), _Credentials(_read_netrc(path)))
    return urllib.request.build_opener(*handlers)


def _read_netrc(path: str) -> netrc.netrc | None:
    path = os.path.expanduser(path)
    try:
        return read_netrc(path) if os.path.exists(path) else None
    except ValueError as exc:
        reason = str(exc)
    except OSError as exc:
        reason = exc.strerror or "unknown error"
    raise TorchExtensionError(f"{path} on the node cannot be read: {reason}. Correct it. {OTHER_METHODS_ADVICE}")

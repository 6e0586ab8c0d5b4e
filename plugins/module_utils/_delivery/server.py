# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The HTTP server inside the gap, as a node reaches it: its address, its certificates and the credentials for it."""

from __future__ import annotations

import base64
import netrc
import os
import re
import ssl
import urllib.parse
import urllib.request

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

#: how messages end
OTHER_METHODS_ADVICE = "Nothing was changed. torch_extension_delivery has other ways, such as copy."

#: where the server has another file of a name
OTHER_FILE_ADVICE = (
    "If no node wants that one, remove it from that server. If nodes of another kind want it, set torch_extension_pull_url for"
    " this node, and all of its kind, to another folder: one folder holds one file of a name."
)

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----")


class _Credentials(urllib.request.BaseHandler):
    """Those that ``~/.netrc`` has for the host of a request, over TLS alone, and anew after each redirection.

    Where the server redirects to another host, that one gets what is there for it by name, and not what is there for all.
    """

    def __init__(self, entries: netrc.netrc | None) -> None:
        self._entries = entries

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        host = urllib.parse.urlsplit(request.full_url).hostname or ""
        entries = self._entries
        is_named = entries is not None and (host in entries.hosts or host == request.origin_req_host.strip("[]"))
        credentials = entries.authenticators(host) if entries is not None and is_named else None
        if credentials:
            text = "{}:{}".format(credentials[0] or "", credentials[2] or "").encode()
            # one that is not taken along to where the server sends us
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(text).decode())
        return request


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
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Credentials(_read_netrc(path)))


def _read_netrc(path: str) -> netrc.netrc | None:
    path = os.path.expanduser(path)
    try:
        return netrc.netrc(path) if os.path.exists(path) else None
    except netrc.NetrcParseError as exc:
        reason = f"line {exc.lineno} is not understood"  # what stands there may be a password
    except ValueError:
        reason = "its characters are not understood"
    except OSError as exc:
        reason = exc.strerror or "unknown error"
    raise TorchExtensionError(f"{path} on the node cannot be read: {reason}. Correct it. {OTHER_METHODS_ADVICE}")

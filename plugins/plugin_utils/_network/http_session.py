# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""HTTP with requests on the control node: retries, timeouts, and errors in words for the operator."""

from __future__ import annotations

import contextlib
import http.client
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import host_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import SlowError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    MissingFileError,
    UnservedError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.route import route_to
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import (
    PROXY_SETTING,
    root_cause,
)

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import OriginSecret

try:
    import requests
    from urllib3 import __version__ as urllib3_version
    from urllib3 import exceptions as urllib3_exceptions
    from urllib3.response import HTTPResponse
except ImportError as exc:
    REQUESTS_IMPORT_ERROR: ImportError | None = exc
else:
    REQUESTS_IMPORT_ERROR = None
    #: all that these libraries, and the standard library below them, raise for what a server or an address may be. An OSError may say
    #: that REQUESTS_CA_BUNDLE names no file, a ValueError that a redirect leads to what is no address
    LIBRARY_ERRORS: tuple[type[Exception], ...] = (
        requests.exceptions.RequestException,
        urllib3_exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
    )

#: to connect, and between two pieces of an answer
TIMEOUT_SECONDS = 30
_MISSING_STATUSES = (404, 410)
# http.client's words
_NO_TUNNEL = re.compile("Tunnel connection failed: ([0-9]{3}.*)")
_PROXY_REFUSAL = re.compile("Tunnel connection failed: 4[0-9][0-9]")
_NO_CERTIFICATES = re.compile(r"NO_CERTIFICATE_OR_CRL_FOUND|\bPEM lib\b")  # OpenSSL's
_PROXY_CREDENTIALS_REFUSAL = "Tunnel connection failed: 407"


def check_requests() -> None:
    """
    :raises TorchExtensionError: if requests cannot be imported, or reads by a urllib3 that is too old
    """
    require_library("requests", REQUESTS_IMPORT_ERROR)
    if not hasattr(HTTPResponse, "shutdown"):
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node has urllib3 {urllib3_version}, wanted is 2.3 or newer. "
            "Install the collection's requirements.txt into it."
        )


def open_session(
    named_url: str | None = None, secret: OriginSecret | None = None, retries: bool = True
) -> requests.Session:
    """A session for requests of the control node. There is no other way to make one.

    :param named_url: an address that the operator has written; its host may get the entry ``default`` of netrc
    :param secret: goes to its origin, before what netrc has
    :param retries: whether it repeats requests that may succeed in a moment
    :raises TorchExtensionError: if a library is missing, or the address of a proxy would be shown in pieces
    """
    check_requests()
    settings.check_proxies()
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.bounded_session import BoundedSession

    return BoundedSession(named_url, secret, retries)


@contextlib.contextmanager
def explain_http_errors(url: str, mirror_setting: str = "torch_extension_github_url") -> t.Iterator[None]:
    """Turn what requests raises into what the operator can do about it.

    :param mirror_setting: names the setting that leads to a mirror
    :raises UnservedError: for any error of the network
    """
    try:
        yield
    except LIBRARY_ERRORS as exc:
        asked = getattr(getattr(exc, "request", None), "url", None) or url  # where a redirect has led to
        raise UnservedError(_explain(exc, url, asked, mirror_setting)) from exc


def _explain(exc: Exception, url: str, asked: str, mirror_setting: str) -> str:
    reason, route, host = root_cause(exc), route_to(asked), host_of(asked)
    if _PROXY_CREDENTIALS_REFUSAL in reason:
        return proxy_credentials_message(asked)
    if isinstance(exc, requests.exceptions.InvalidProxyURL):
        return (
            f"{host} was not asked: the proxy that {route.setting} names ({route.proxy}) has no address such as"
            f" http://proxy.example:3128. Correct {route.setting}."
        )
    if isinstance(exc, requests.exceptions.ProxyError):
        answer = _NO_TUNNEL.search(reason)
        if answer:
            return (
                f"The proxy {route.proxy} ({route.setting}) does not connect to {host}: {answer[1]}. Have it let {host}"
                f" through, set {mirror_setting} to a mirror that it lets through, or name another proxy in"
                " torch_extension_proxy."
            )
        return (
            f"The proxy {route.proxy} ({route.setting}) cannot be reached: {reason}. So {host} was not asked. Correct"
            f" {route.setting}; or, if {host} is reached without a proxy, add it to no_proxy in the environment of"
            " ansible-playbook."
        )
    if _NO_CERTIFICATES.search(reason):
        return (
            f"{host} was not asked: the file of CA certificates that torch_extension_ca_path names, else REQUESTS_CA_BUNDLE, holds none"
            f" that can be read ({reason}). Wanted is a file of certificates in PEM."
        )
    if is_certificate_error(exc):
        return (
            f"The certificate of {host} is not trusted: {reason}. It was asked {route}. If a proxy or a mirror has a"
            " certificate of your site's CA, name the CA's file in torch_extension_ca_path."
        )
    if isinstance(exc, ValueError) and not route.proxy:
        return f"{url} cannot be downloaded: this, or what it redirects to, is no address that can be asked ({reason})."
    redirected = f" at {host}, where it was redirected to" if host != host_of(url) else ""
    if "SOCKS" in reason and route.proxy:
        return (
            f"{host} was not asked: the proxy {route.proxy} ({route.setting}) is one for SOCKS, and the Python that runs"
            " Ansible lacks PySocks. Install that into it, or name a proxy for HTTP in torch_extension_proxy."
        )
    return (
        f"{url} cannot be downloaded{redirected}: {reason}. It was asked {route}. {route.advice} If there is a mirror, set"
        f" {mirror_setting}."
    )


def is_transient(exc: BaseException) -> bool:
    """Whether a retry may succeed: what a certificate or a proxy refuses now, it refuses in a second too."""
    if isinstance(exc, requests.exceptions.ConnectionError):
        return not (is_certificate_error(exc) or _PROXY_REFUSAL.search(root_cause(exc)))
    transient_errors = (
        SlowError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3_exceptions.ProtocolError,
        urllib3_exceptions.TimeoutError,
        urllib3_exceptions.SSLError,
    )
    return isinstance(exc, transient_errors)


def proxy_credentials_message(url: str) -> str:
    """The message for a proxy's status 407.

    :param url: that was asked for
    """
    host, route = host_of(url), route_to(url)
    if not route.proxy:
        return (
            f"{host} wants credentials of a proxy (407), and was asked {route}. Something on the way answers in its place. Name"
            " the proxy in torch_extension_proxy."
        )
    return (
        f"The proxy {route.proxy} wants other credentials before it reaches {host} (407). Give them as in"
        f" http://USER:PASSWORD@proxy.example:3128 in {route.setting}, where it is named"
        f"{'' if route.setting == PROXY_SETTING else ', or in torch_extension_proxy'}."
    )


def status_message(url: str, status: int, advice: str = "") -> str:
    """The message for a status that says that a request is refused.

    :param url: that was asked for, after redirects
    :param advice: what to do besides, if anything
    """
    if status == requests.codes.proxy_authentication_required:
        return proxy_credentials_message(url)
    route, host = route_to(url), host_of(url)
    message = f"{url} was answered with HTTP status {status}; it was asked {route}."
    if status in (requests.codes.unauthorized, requests.codes.forbidden):
        message += (
            f" If {host} wants credentials, put them into ~/.netrc of the control node (machine {host}); they are sent over https alone."
            f" {route.advice}"
        )
    elif not advice:
        message += f" {route.advice}"
    return f"{message} {advice}".rstrip()


def status_error(url: str, response: requests.Response) -> UnservedError:
    """The error for an answer that gives no file.

    :param url: that was asked for
    """
    if response.status_code in _MISSING_STATUSES:
        return MissingFileError(f"{url} does not exist ({response.status_code})")
    return UnservedError(status_message(response.url, response.status_code))


def is_certificate_error(exc: BaseException) -> bool:
    """Whether the certificate of a server or proxy is not trusted."""
    return isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(exc)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""HTTP by requests from the control node: tries, time-outs, and what goes wrong in words for the operator."""

from __future__ import annotations

import contextlib
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import cause

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import __version__ as urllib3_version
    from urllib3 import exceptions as urllib3_exceptions
    from urllib3.response import HTTPResponse
    from urllib3.util import Retry
except ImportError as exc:
    REQUESTS_IMPORT_ERROR = exc
else:
    REQUESTS_IMPORT_ERROR = None

#: to connect, and between two pieces of an answer, in seconds
SECONDS = 30
_RETRIES = 3
_PROXY_REFUSES = re.compile("Tunnel connection failed: 4[0-9][0-9]")  # http.client's words
_PROXY_WANTS_CREDENTIALS = "Tunnel connection failed: 407"


def check_library() -> None:
    """
    :raises TorchExtensionError: if requests cannot be imported, or reads by a urllib3 that is too old
    """
    if REQUESTS_IMPORT_ERROR:
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node lacks requests ({REQUESTS_IMPORT_ERROR}). "
            "Install the collection's requirements.txt into it."
        )
    if not hasattr(HTTPResponse, "shutdown"):
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node has urllib3 {urllib3_version}, wanted is 2.3 or newer. "
            "Install the collection's requirements.txt into it."
        )


def with_retries(session: requests.Session, waits_as_told: bool = True) -> requests.Session:
    """Let a session ask again where an answer may be better in a moment.

    :param waits_as_told: whether to sit out a server's Retry-After, which may be an hour, or to take 429 as an answer
    """
    retry = Retry(
        total=_RETRIES,
        other=0,  # a certificate that is not trusted now is not trusted in a second
        backoff_factor=1,
        status_forcelist=(429, 500, 502, 503, 504) if waits_as_told else (500, 502, 503, 504),
        respect_retry_after_header=waits_as_told,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@contextlib.contextmanager
def explained(url: str, mirror: str = "torch_extension_github_url") -> t.Iterator[None]:
    """Turn what requests raises into what the operator can do about it.

    :param mirror: the knob that names another place to ask
    :raises TorchExtensionError: for any error of the network
    """
    host = urlsplit(url).hostname
    try:
        yield
    except requests.exceptions.ProxyError as exc:
        if _PROXY_WANTS_CREDENTIALS in cause(exc):
            raise TorchExtensionError(proxy_wants_credentials(host)) from exc
        raise TorchExtensionError(
            f"{host} cannot be reached through the proxy of the control node: {cause(exc)}. Set"
            " torch_extension_proxy, or https_proxy and no_proxy in the environment of ansible-playbook."
        ) from exc
    except requests.exceptions.RequestException as exc:
        if not is_certificate(exc):
            raise _failure(url, exc, mirror) from exc
        raise TorchExtensionError(
            f"The certificate of {host} is not trusted: {cause(exc)}. If a proxy or a mirror has a certificate of"
            " your site's CA, name the CA's file in torch_extension_ca_path."
        ) from exc
    except (urllib3_exceptions.HTTPError, OSError) as exc:  # an OSError says that REQUESTS_CA_BUNDLE names no file
        raise _failure(url, exc, mirror) from exc


def is_passing(exc: BaseException) -> bool:
    """Whether another try may go better: what a certificate or a proxy refuses now, it refuses in a second too."""
    if isinstance(exc, requests.exceptions.ConnectionError):
        return not (is_certificate(exc) or _PROXY_REFUSES.search(cause(exc)))
    passing = (
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3_exceptions.ProtocolError,
        urllib3_exceptions.TimeoutError,
        urllib3_exceptions.SSLError,
    )
    return isinstance(exc, passing)


def proxy_wants_credentials(host: str | None) -> str:
    """The error for a proxy's status 407."""
    return (
        f"The proxy of the control node wants other credentials before it reaches {host} (407). Give them as in"
        " http://USER:PASSWORD@proxy.example:3128 in https_proxy of the environment of ansible-playbook, or in"
        " torch_extension_proxy."
    )


def _failure(url: str, exc: BaseException, mirror: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{url} cannot be downloaded: {cause(exc)}. If the control node has a proxy, set torch_extension_proxy; if there"
        f" is a mirror, set {mirror}."
    )


def is_certificate(exc: BaseException) -> bool:
    """Whether a certificate is what is wrong."""
    return isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(exc)

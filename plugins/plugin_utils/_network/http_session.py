# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""HTTP with requests on the control node: retries, timeouts, and errors in words for the operator."""

from __future__ import annotations

import contextlib
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import root_cause

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import __version__ as urllib3_version
    from urllib3 import exceptions as urllib3_exceptions
    from urllib3.response import HTTPResponse
    from urllib3.util import Retry
except ImportError as exc:
    REQUESTS_IMPORT_ERROR: ImportError | None = exc
else:
    REQUESTS_IMPORT_ERROR = None

#: to connect, and between two pieces of an answer
TIMEOUT_SECONDS = 30
_MAX_RETRIES = 3
_PROXY_REFUSAL = re.compile("Tunnel connection failed: 4[0-9][0-9]")  # http.client's words
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


def add_retries(session: requests.Session) -> requests.Session:
    """Let a session repeat requests that may succeed in a moment.

    It takes 429 as an answer: a wait as long as a rate limit's is for the operator to decide.
    """
    retry = Retry(
        total=_MAX_RETRIES,
        other=0,  # a certificate that is not trusted now is not trusted in a second
        backoff_factor=1,
        status_forcelist=(500, 502, 503, 504),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@contextlib.contextmanager
def explain_http_errors(url: str, mirror_setting: str = "torch_extension_github_url") -> t.Iterator[None]:
    """Turn what requests raises into what the operator can do about it.

    :param mirror_setting: names the setting that leads to a mirror
    :raises TorchExtensionError: for any error of the network
    """
    host = urlsplit(url).hostname
    try:
        yield
    except requests.exceptions.ProxyError as exc:
        if _PROXY_CREDENTIALS_REFUSAL in root_cause(exc):
            raise TorchExtensionError(proxy_credentials_message(host)) from exc
        raise TorchExtensionError(
            f"{host} cannot be reached through the proxy of the control node: {root_cause(exc)}. Set"
            " torch_extension_proxy, or https_proxy and no_proxy in the environment of ansible-playbook."
        ) from exc
    except requests.exceptions.RequestException as exc:
        if not is_certificate_error(exc):
            raise _download_error(url, exc, mirror_setting) from exc
        raise TorchExtensionError(
            f"The certificate of {host} is not trusted: {root_cause(exc)}. If a proxy or a mirror has a certificate of"
            " your site's CA, name the CA's file in torch_extension_ca_path."
        ) from exc
    except (urllib3_exceptions.HTTPError, OSError) as exc:  # an OSError says that REQUESTS_CA_BUNDLE names no file
        raise _download_error(url, exc, mirror_setting) from exc


def is_transient(exc: BaseException) -> bool:
    """Whether a retry may succeed: what a certificate or a proxy refuses now, it refuses in a second too."""
    if isinstance(exc, requests.exceptions.ConnectionError):
        return not (is_certificate_error(exc) or _PROXY_REFUSAL.search(root_cause(exc)))
    transient_errors = (
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3_exceptions.ProtocolError,
        urllib3_exceptions.TimeoutError,
        urllib3_exceptions.SSLError,
    )
    return isinstance(exc, transient_errors)


def proxy_credentials_message(host: str | None) -> str:
    """The message for a proxy's status 407."""
    return (
        f"The proxy of the control node wants other credentials before it reaches {host} (407). Give them as in"
        " http://USER:PASSWORD@proxy.example:3128 in https_proxy of the environment of ansible-playbook, or in"
        " torch_extension_proxy."
    )


def _download_error(url: str, exc: BaseException, mirror_setting: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{url} cannot be downloaded: {root_cause(exc)}. If the control node has a proxy, set torch_extension_proxy; if there"
        f" is a mirror, set {mirror_setting}."
    )


def is_certificate_error(exc: BaseException) -> bool:
    """Whether the certificate of a server or proxy is not trusted."""
    return isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(exc)

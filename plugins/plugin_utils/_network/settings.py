# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The operator's settings of the control node's network: proxy, CA, URLs. Nothing here connects to anything."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import (
    REDACTED,
    in_one_line,
    redact,
)

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
PROXY_SETTING = "torch_extension_proxy"

_values_of_setting: set[str] = set()  # of torch_extension_proxy, while it is in force


@contextlib.contextmanager
def use_proxy(proxy: str | None) -> t.Iterator[None]:
    """Let this process, and the programs that it starts, use a proxy for all hosts but those in no_proxy.

    :raises TorchExtensionError: if this is no address of a proxy

    The environment is the one place that requests and pip both read, redirects and no_proxy included. Ansible runs an
    action in a process of its own, so nothing else sees the change.
    """
    if not proxy:
        yield
        return
    try:
        host = urlsplit(proxy).hostname if "://" in proxy else None
    except ValueError:
        host = None
    if not host:
        # without its value, which may hold credentials
        raise TorchExtensionError(f"{PROXY_SETTING} is no address of a proxy such as http://proxy.example:3128.")
    _check_proxy(PROXY_SETTING, proxy)
    original = {name: os.environ.get(name) for name in _PROXY_VARIABLES}
    for name in _PROXY_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(http_proxy=proxy, https_proxy=proxy)
    _values_of_setting.add(proxy)
    try:
        yield
    finally:
        _values_of_setting.discard(proxy)
        for name, value in original.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def check_proxies() -> None:
    """
    :raises TorchExtensionError: if a proxy of the environment has a password that ends where no program expects it
    """
    for name in _PROXY_VARIABLES:
        _check_proxy(proxy_setting(name), os.environ.get(name, ""))


def _check_proxy(setting: str, proxy: str) -> None:
    """Programs take what stands before such a character for the host, and show it."""
    login = proxy.partition("://")[2].rpartition("@")[0] if "://" in proxy else proxy.rpartition("@")[0]
    if re.search(r"[/?#\\]", login):
        raise TorchExtensionError(
            f"{setting} has / ? # or \\ in its user or password, which ends the host there. Write %2F, %3F, %23 or %5C instead."
        )


def proxy_setting(variable: str) -> str:
    """Where the operator has written down the proxy that a variable of the environment names."""
    return PROXY_SETTING if os.environ.get(variable) in _values_of_setting else variable


def check_ca_path(ca_path: str | None) -> None:
    """
    :raises TorchExtensionError: if there is no such file
    """
    if ca_path and not os.path.isfile(ca_path):
        raise TorchExtensionError(
            f"torch_extension_ca_path is {ca_path}, and there is no such file on the control node."
        )


def check_url(url: str, setting: str) -> None:
    """
    :param setting: names where the operator wrote it
    :raises TorchExtensionError: if it is no address of a server, or holds credentials, which would be shown
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("wanted is http:// or https:// and a host")
    except ValueError as exc:
        raise TorchExtensionError(f"{setting} is no address of a server: {root_cause(exc)}.") from exc
    # of the address in the path, as with https://mirror.example/https://github.com
    inner = re.search(r"https?:/{1,2}[^/]*@([^/]*)", parts.path)
    if parts.username is not None or inner:
        host = inner[1] if parts.username is None and inner else parts.hostname
        raise TorchExtensionError(
            f"{setting} holds credentials for {host}, which would be shown in plans and reports. "
            "Put them into ~/.netrc of the control node and leave them out of the URL."
        )
    if f"={REDACTED}" in redact(url):
        raise TorchExtensionError(
            f"{setting} holds a token or a signature for {parts.hostname} in its query, which would be shown in plans and reports. "
            "Name an address without one."
        )


def root_cause(exc: BaseException) -> str:
    """The innermost reason of an error, in the library's words, without credentials."""
    if isinstance(exc, OSError) and exc.errno is not None and exc.strerror:  # of the system itself
        return in_one_line(exc.strerror)
    reason: t.Any = getattr(exc.args[0], "reason", exc.args[0]) if exc.args else exc
    if not isinstance(reason, (str, BaseException)):
        reason = exc
    # urllib3 and http.client say what they were doing, and then the error
    if isinstance(reason, BaseException) and len(reason.args) > 1 and isinstance(reason.args[-1], BaseException):
        return root_cause(reason.args[-1])
    text = re.sub(r"<[^>]*>:? ?", "", str(reason))
    text = re.sub(r"^HTTPS?Connection\(host=[^)]*\): ", "", text)
    return in_one_line(text).rstrip(".")

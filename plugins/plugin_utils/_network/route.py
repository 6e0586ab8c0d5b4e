# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""How a request gets to a server: through which proxy of the environment, or why through none. In words for the operator.

Python's urllib and requests read the variables so: the one in small letters before the one in capitals, the one of the URL's scheme
before ``all_proxy``, and none where ``no_proxy`` has the host.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import host_of
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings

_ENVIRONMENT = "in the environment of ansible-playbook"


class Route(t.NamedTuple):
    """How requests for one URL go."""

    host: str | None  # that is asked
    proxy: str | None  # its host and port, without credentials; None if none is used
    setting: str | None  # what names the proxy, or what keeps one from being used
    is_excepted: bool = False  # no_proxy has the host
    unused: tuple[str, ...] = ()  # variables that name a proxy for another scheme

    def __str__(self) -> str:
        """It follows "It was asked"."""
        if self.proxy:
            return f"through the proxy {self.proxy} ({self.setting})"
        if self.is_excepted:
            return f"without a proxy, for {self.setting} has {self.host}"
        if self.unused:
            return f"without a proxy, for only {' and '.join(self.unused)} is set, which is for other addresses"
        return "without a proxy, for none is set"

    @property
    def advice(self) -> str:
        """What to do where it is this that does not work; a sentence or two."""
        host = self.host
        if self.proxy:
            return (
                f"See whether that proxy lets {host} through. If {host} is reached without it, add it to no_proxy"
                f" {_ENVIRONMENT}."
            )
        if self.is_excepted:
            return f"If a proxy is needed for {host}, take it out of no_proxy {_ENVIRONMENT}."
        return "If a proxy is needed, set torch_extension_proxy."


def route_to(url: str) -> Route:
    """How requests for a URL go. It asks nobody."""
    host = host_of(url)
    variables = _proxy_variables()
    scheme = next((name for name in (url.partition(":")[0].lower(), "all") if name in variables), None)
    if variables and _is_excepted(url):
        name = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
        return Route(host, None, f"{name} ({os.environ.get(name, '')})", is_excepted=True)
    if scheme is None:
        return Route(host, None, None, unused=tuple(variables.values()))
    return Route(host, _without_credentials(os.environ[variables[scheme]]), settings.proxy_setting(variables[scheme]))


def _is_excepted(url: str) -> bool:
    # requests takes longer to import than all the rest
    from requests.utils import should_bypass_proxies

    try:
        return bool(should_bypass_proxies(url, no_proxy=None))
    except ValueError:  # it is no address
        return False


def _proxy_variables() -> dict[str, str]:
    """The variables that name a proxy, by scheme, as ``urllib.request.getproxies_environment`` has it."""
    found = {}
    for scheme in ("http", "https", "all"):
        small, capital = f"{scheme}_proxy", f"{scheme.upper()}_PROXY"
        if os.environ.get(small):
            found[scheme] = small
        elif small not in os.environ and os.environ.get(capital):
            found[scheme] = capital
    return found


def _without_credentials(proxy: str) -> str:
    return proxy.rpartition("://")[2].rpartition("@")[2].rstrip("/")

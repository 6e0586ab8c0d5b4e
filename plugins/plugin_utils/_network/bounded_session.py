# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The one session of requests that the control node makes its requests with. Get it from :func:`http_session.open_session`.

What requests leaves to the server is bounded here: how long it takes to connect and to answer, how often it redirects, and how large
the bodies are that nobody wants to read. Bodies are read by who asks, without requests' decompression, which takes all memory.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import time
import typing as t

try:
    import requests
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry
except ImportError:  # http_session.py says so, and makes no session
    Session = HTTPAdapter = Retry = object  # type: ignore[assignment,misc]

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import (
    PACE,
    SILENCES,
    Limit,
    Watch,
    duplicate,
    hang_up,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import (
    Credentials,
    OriginSecret,
)

_MAX_REDIRECTS = 10
_REDIRECT_SECONDS = 300.0  # for all redirects of one request together
_MAX_RETRIES = 3


class BoundedSession(Session):
    """A session that waits for nobody for ever, and tells each server what it may know alone."""

    def __init__(self, named_url: str | None, secret: OriginSecret | None, retries: bool) -> None:
        """The parameters are those of :func:`http_session.open_session`."""
        super().__init__()
        self.max_redirects = _MAX_REDIRECTS
        self.headers["Accept-Encoding"] = "identity"
        self.auth = self._credentials = Credentials(named_url, secret)  # with them requests reads no netrc
        self._redirected_until = float("inf")
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(max_retries=_Retry.few() if retries else 0))

    def request(self, *args: t.Any, **more: t.Any) -> requests.Response:
        self._redirected_until = time.monotonic() + _REDIRECT_SECONDS
        return super().request(*args, **more)

    def rebuild_auth(self, prepared_request: t.Any, response: t.Any) -> None:
        """What a redirected request may carry. requests itself would ask netrc for any host, and without TLS, too."""
        if time.monotonic() > self._redirected_until:
            raise requests.exceptions.TooManyRedirects(
                f"it redirects for more than {_REDIRECT_SECONDS:.0f} s", request=prepared_request
            )
        self._credentials(prepared_request)


class _Retry(Retry):
    """Repeats what may succeed in a moment, without reading what a server says to that."""

    @classmethod
    def few(cls) -> _Retry:
        """It takes 429 as an answer: a wait as long as a rate limit's is for the operator to decide."""
        return cls(
            total=_MAX_RETRIES,
            other=0,  # a certificate that is not trusted now is not trusted in a second
            backoff_factor=1,
            status_forcelist=(500, 502, 503, 504),
            respect_retry_after_header=False,
            raise_on_status=False,
        )

    def increment(
        self, method: str | None = None, url: str | None = None, response: t.Any = None, *args: t.Any, **more: t.Any
    ) -> _Retry:
        increased = super().increment(method, url, response, *args, **more)
        if response is not None:
            response.close()  # else urllib3 reads it to its end, which it need not have
        return increased


class _InTime:
    """A connection of urllib3 that is made, takes a body and begins to answer in time; how much that is follows from its timeout."""

    sock: socket.socket | None
    timeout: float | None
    _line: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()  # type: ignore[misc]
        self._line = duplicate(made)  # for TLS, which comes next, and takes the other
        return made

    def connect(self) -> None:
        with self._watch():
            super().connect()  # type: ignore[misc]
        self._drop_line()

    def request(self, method: str, url: str, body: t.Any = None, *args: t.Any, **more: t.Any) -> None:
        upload = Watch(PACE, self._hang_up, body.tell) if hasattr(body, "tell") else contextlib.nullcontext()
        with upload:
            super().request(method, url, body, *args, **more)  # type: ignore[misc]

    def getresponse(self) -> t.Any:
        with self._watch():
            return super().getresponse()  # type: ignore[misc]

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        self._drop_line()

    def _watch(self) -> t.ContextManager[object]:
        if not isinstance(self.timeout, (int, float)):
            return contextlib.nullcontext()
        return Watch(Limit(SILENCES * self.timeout), self._hang_up)

    def _hang_up(self) -> None:
        for line in (self._line, self.sock):
            hang_up(line)

    def _drop_line(self) -> None:
        if self._line is not None:
            self._line.close()


@functools.cache
def _in_time(pool: t.Any) -> t.Any:
    connection = type("_Connection", (_InTime, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: t.Any, **more: t.Any) -> None:
        super().init_poolmanager(*args, **more)
        _bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: t.Any) -> t.Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **more)
        if is_new:
            _bound(manager)
        return manager

    def send(self, *args: t.Any, **more: t.Any) -> requests.Response:
        response = super().send(*args, **more)
        if response.is_redirect:
            response.raw.close()  # else requests reads and unpacks it to its end, whatever that is
        return response


def _bound(manager: t.Any) -> None:
    manager.pool_classes_by_scheme = {scheme: _in_time(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


class _RedactingFilter(logging.Filter):
    """urllib3 logs what it asks for, signatures included, and Ansible's log may take that up."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_RedactingFilter())

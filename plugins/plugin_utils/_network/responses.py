# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The answer of an HTTP server, or why there is none."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact

T = t.TypeVar("T")


class UnavailableError(TorchExtensionError):
    """The server cannot be asked now, and no earlier answer is cached."""


class MissingError(TorchExtensionError):
    """There is nothing at this address (404)."""


class UnservedError(TorchExtensionError):
    """This address does not give the file; another one may."""


class MissingFileError(UnservedError):
    """There is no file at this address (404, 410)."""


class Answer(t.NamedTuple):
    """What a server has sent."""

    url: str  # after redirects, without its query
    content_type: str  # in lower case, without parameters
    next_url: str | None  # of the header Link (RFC 8288)
    body: bytes


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no answer."""

    message: str  # without secrets, for it is kept
    is_outage: bool = True  # it may be better later, so an old answer will do
    is_missing: bool = False  # 404
    of_host: bool = False  # of all requests to this host
    note: str = ""  # on its age

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(self.message))


@dataclasses.dataclass(frozen=True)  # before Python 3.11 no NamedTuple is generic
class CachedAnswer(t.Generic[T]):
    """An answer in the cache, parsed."""

    answer: Answer
    value: T
    etag: str | None
    time: float  # seconds since the epoch, when the server last gave or confirmed it


class NoAnswerError(Exception):
    """A server, or a proxy on the way to it, gives no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

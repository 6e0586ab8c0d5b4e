# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What an HTTP server has answered, or why it has not."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

T = t.TypeVar("T")


class Unavailable(TorchExtensionError):  # noqa: N818 (it is an answer)
    """It cannot be asked now, and no earlier answer is kept."""


class Missing(TorchExtensionError):  # noqa: N818 (it is an answer)
    """There is nothing at this address (404)."""


class Answer(t.NamedTuple):
    """What a server has said."""

    url: str  # after redirects, without its query
    content_type: str  # in lower case, without parameters
    next_url: str | None  # of the header Link (RFC 8288)
    body: bytes


class Failure(t.NamedTuple):
    """Why there is no answer."""

    message: str
    is_outage: bool = True  # it may be better later, so an old answer will do
    is_missing: bool = False  # 404
    of_host: bool = False  # whatever is asked there
    note: str = ""  # on its age


class Kept(t.NamedTuple, t.Generic[T]):
    """An answer as it is kept, and what was made of it."""

    answer: Answer
    value: T
    etag: str | None
    time: float  # seconds since the epoch, when the server last said so


class NoAnswerError(Exception):
    """A server, or what is on the way to it, gives no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

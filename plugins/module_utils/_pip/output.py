# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What pip prints, made fit for a message: without credentials, and without the Python objects in its errors."""

from __future__ import annotations

import re
import typing as t

_FETCH_FAILURE = re.compile(r"Could not fetch URL (\S+): (.*)", re.DOTALL)


def redact(text: str) -> str:
    """A text without the credentials of the URLs in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "****@", text)


def innermost_reason(error: str) -> str:
    """The reason in an error that Python has written with its class and those around it."""
    texts = [piece for piece in re.split("['\"]", error) if re.search("[a-z]{3}", piece)]
    return re.sub(r"^(, port=\d+\)|<[^>]*>): ", "", texts[-1] if texts else error)


class FetchFailure(t.NamedTuple):
    """Why pip could not read a page of its index."""

    url: str
    reason: str
    is_answered: bool  # by a server, with a status such as 404

    def __str__(self) -> str:
        return f"{self.url} ({self.reason})"


def parse_fetch_failure(message: str) -> FetchFailure | None:
    """What pip says of a page that it could not read; None for any other message.

    :param message: a line that pip has logged
    """
    match = _FETCH_FAILURE.match(message)
    if not match:
        return None
    url, error = match[1], match[2].replace(" - skipping", "").strip()
    reason = innermost_reason(error) if "(Caused by " in error else error.replace("connection error: ", "", 1)
    return FetchFailure(redact(url), redact(reason).rstrip(". "), bool(re.match(r"\d{3} ", error)))

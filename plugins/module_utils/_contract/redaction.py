# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Take secrets out of text: ``user:password@`` of addresses, and the signatures and tokens in their queries.

All that is shown, or written to where others read, goes through here: errors by themselves (``errors``), other text by its writer.
"""

from __future__ import annotations

import re

#: stands where a secret was
REDACTED = "***"

_MAX_WORDS = 300  # characters
_ADDRESS = re.compile(r"//[^\s\"'<>]*")  # begins with its slashes, for a search for schemes is not linear
_AUTHORITY_END = re.compile(r"[/?#\\]")
_PORT = re.compile(r":[0-9]{0,5}$")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.~%\[\]-]{1,64})=([^&;#\s\"'<>]*)")
_SECRET_NAME = re.compile(
    r"(^|[_.-])(sig|sign|signature|token|jwt|key|apikey|accesskeyid|awsaccesskeyid|secret|credentials?|pass|passwd|password|pwd|auth"
    r"|authorization|hmac|policy|sas|ticket|session)([_.-]|$)|(signature|token|secret|password|credential|apikey|accesskey)",
    re.IGNORECASE,
)
#: values of these may be long, and are no secrets
_PUBLIC_NAME = re.compile(
    r"(md5|sha\d+|egg|subdirectory|ref|commit|version(id)?|generation|file(name)?|name|path)", re.IGNORECASE
)
_RANDOM_VALUE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_%~-]{20,}")


def redact(text: str) -> str:
    """A text without secrets. It takes time in proportion to the length of the text, whatever that is."""
    if "//" in text:
        text = _ADDRESS.sub(lambda match: _without_login(match[0]), text)
    return _PARAMETER.sub(_redact_parameter, text) if "=" in text else text


def in_one_line(text: object) -> str:
    """What a server or a library says, as a part of a message: short, on one line, without secrets or what a terminal obeys."""
    words = " ".join(redact(str(text)).split())
    words = "".join(character if character.isprintable() else "?" for character in words)
    return words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}…"


def _redact_parameter(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    is_secret = _SECRET_NAME.search(name) or (_RANDOM_VALUE.fullmatch(value) and not _PUBLIC_NAME.fullmatch(name))
    return f"{name}={REDACTED}" if value and is_secret else match[0]


def _without_login(address: str) -> str:
    """An address, and those in its path, without what stands before the host."""
    pieces: list[str] = []
    position, last_at = 0, address.rfind("@")
    while True:
        slashes = address.find("//", position)
        if slashes < 0:
            return "".join([*pieces, address[position:]])
        pieces.append(address[position : slashes + 2])
        position = slashes + 2
        end = _AUTHORITY_END.search(address, position)
        authority_end = end.start() if end else len(address)
        at = address.rfind("@", position, authority_end)
        has_colon = address.find(":", position, authority_end) >= 0 and address[position : position + 1] != "["
        if at < 0 <= last_at - authority_end and has_colon and not _PORT.search(address[position:authority_end]):
            at = last_at  # a password with a slash in it, or what else ends a host
        position = max(position, at + 1)
        end = _AUTHORITY_END.search(address, position)
        authority_end = end.start() if end else len(address)
        pieces.append(address[position:authority_end])
        position = authority_end

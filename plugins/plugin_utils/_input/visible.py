# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Texts of nodes and servers, as they may be shown: control characters would let them write whatever they like on a terminal."""

from __future__ import annotations

import re
import typing as t

#: The longest text of a node that is shown. Compilers write a lot.
LONGEST = 16384
_LONGEST_FOUND = 100  # in a message that describes a value

# C0 but for tab and newline, DEL and C1; what is not seen, or turns the direction of what follows (Unicode Technical Report 36); line
# separators, and surrogates, which cannot be written
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])")  # of JSON


def make_visible(value: t.Any, longest: int | None = None) -> t.Any:
    """A value in all of whose texts control characters stand as Python would write them, such as ``\\x1b``.

    :param longest: longer texts are cut
    """
    if isinstance(value, str):
        return value if value.isprintable() and (longest is None or len(value) <= longest) else _show(value, longest)
    if isinstance(value, (dict, t.Mapping)):
        return {make_visible(key, longest): make_visible(item, longest) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_visible(item, longest) for item in value]
    return value


def make_json_visible(text: str) -> str:
    """A text with JSON in it that says the same, but for control characters, of which it says how Python would write them."""
    text = _ESCAPE.sub(_escape_again, text.replace("\r\n", "\n"))
    return _HIDDEN.sub(lambda match: f"\\{_write(match[0])}", text)


def _escape_again(match: re.Match[str]) -> str:
    escape = match[0]
    is_hidden = escape[1] in "bfr" or (escape[1] == "u" and _HIDDEN.match(chr(int(escape[2:], 16))))
    is_half = escape[1:3].lower() == "ud"  # one of two that stand for one character
    return f"\\{escape}" if is_hidden and not is_half else escape


def describe(value: t.Any) -> str:
    """A value in words, for a message; of a long one no more than its beginning."""
    if isinstance(value, str):
        return repr(str.__str__(value[:_LONGEST_FOUND])) + _count_rest(value, _LONGEST_FOUND)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, t.Mapping):
        return f"a dictionary of {len(value)} keys"
    return "null" if value is None else str(value)[:_LONGEST_FOUND]


def _show(text: str, longest: int | None) -> str:
    if longest is not None and len(text) > longest:
        text = text[:longest] + _count_rest(text, longest)
    if not _HIDDEN.search(text):
        return text
    return _HIDDEN.sub(lambda match: _write(match[0]), text.replace("\r\n", "\n"))


def _write(character: str) -> str:
    """As Python would write it."""
    return character.encode("unicode_escape").decode()


def _count_rest(text: str, shown: int) -> str:
    return f"… ({len(text) - shown} more characters)" if len(text) > shown else ""

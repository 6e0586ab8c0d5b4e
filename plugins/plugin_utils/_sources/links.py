# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The links of a page of HTML, in time and memory in proportion to its length, whatever somebody has made of it.

Why not html.parser: before Python 3.14 it takes the square of the length for tags that do not end. Beautiful Soup stands on it, and
lxml and html5lib are on no control node by themselves.

It follows the HTML Living Standard (13.2.5) as far as links go: comments, scripts and styles hold none, quotes hold any character,
of two attributes of a name the first counts, and a tag that does not end ends the page.
"""

from __future__ import annotations

import html
import re
import typing as t

#: characters of an attribute; a signed link has some hundred, and a longer one is none
_MAX_VALUE = 4000
_MARKUP = re.compile(r"<(?:(!--)|([A-Za-z][^\s/>]*))")
_ATTRIBUTE = re.compile(r"""[\s/]*(?:(>)|([^\s/>][^\s/>=]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|(?!["'])([^\s>]*)))?)""")
_RAW_TEXT_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}

Attributes = t.Mapping[str, str | None]


class Tag(t.NamedTuple):
    """A tag that begins an element."""

    name: str  # in small letters
    attributes: Attributes  # by name in small letters, None for one without a value


def find_tags(page: str, names: t.Collection[str]) -> t.Iterator[Tag]:
    """The tags of some names, in the order of the page.

    :param names: in small letters
    """
    position = 0
    while markup := _MARKUP.search(page, position):
        if markup[1]:
            end = page.find("-->", markup.end() - 2)  # <!--> is a whole comment
            if end < 0:
                return
            position = end + 3
            continue
        name = markup[2].lower()
        attributes: dict[str, str | None] | None = {} if name in names else None
        end_of_tag = _read_attributes(page, markup.end(), attributes)
        if end_of_tag is None:
            return
        position = end_of_tag
        if attributes is not None:
            yield Tag(name, attributes)
        if name in _RAW_TEXT_ENDS:
            raw_text_end = _RAW_TEXT_ENDS[name].search(page, position)
            if raw_text_end is None:
                return
            position = raw_text_end.end()


def _read_attributes(page: str, position: int, found: dict[str, str | None] | None) -> int | None:
    """Read those of a tag up to its end. Returns where that is, or None if there is none."""
    while match := _ATTRIBUTE.match(page, position):
        position = match.end()
        if match[1]:
            return position
        if found is not None:
            value = next((each for each in match.group(3, 4, 5) if each is not None), None)
            if value is not None:
                value = "" if len(value) > _MAX_VALUE else html.unescape(value)
            found.setdefault(match[2].lower(), value)
    return None

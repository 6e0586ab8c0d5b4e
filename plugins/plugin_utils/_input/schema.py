# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Schemas of values that come from outside: their types, their forms and their bounds.

What is read by a schema costs no more time and memory than its bounds allow.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import describe

#: the longest path that Linux takes, in bytes
MAX_PATH = 4096


class Misfit(t.NamedTuple):
    """A value that is not as it should be."""

    place: str  # "platform.libc.version"
    found: str  # in words
    wanted: str = ""  # likewise; empty where the former says it all

    def __str__(self) -> str:
        return f"{self.place} is {self.found}, wanted is {self.wanted}" if self.wanted else f"{self.place} {self.found}"


#: Looks for the first misfit in a value; the text is the place of that, for messages.
Schema = t.Callable[[t.Any, str], "Misfit | None"]


def anything(value: t.Any, place: str) -> Misfit | None:
    """Whatever it is."""
    return None


def form(pattern: str, wanted: str) -> Schema:
    """A text that a regular expression matches as a whole.

    :param pattern: in which each repetition has an end
    :param wanted: what it is, in words
    """
    matches = re.compile(pattern, re.ASCII).fullmatch
    return _make(lambda value: isinstance(value, str) and matches(value) is not None, wanted)


def matching(fits: t.Callable[[str], bool], wanted: str, longest: int, pattern: str = "") -> Schema:
    """A text that something else has to take, which is asked for no longer ones than it can deal with.

    :param pattern: that it has to match as a whole before
    """
    matches = re.compile(pattern or r"[\s\S]*").fullmatch
    return _make(
        lambda value: isinstance(value, str) and len(value) <= longest and matches(value) is not None and fits(value),
        wanted,
    )


def words(longest: int) -> Schema:
    """Any text, which is for people."""
    return _make(
        lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"
    )


def number(least: float, most: float) -> Schema:
    """A number, which may be an integer."""
    return _make(
        lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most,
        f"a number from {least} to {most}",
    )


def integer(least: int, most: int, wanted: str = "") -> Schema:
    return _make(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        wanted or f"an integer from {least} to {most}",
    )


def one_of(*values: str) -> Schema:
    return _make(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}")


def nullable(schema: Schema) -> Schema:
    """The same, or null."""

    def check(value: t.Any, place: str) -> Misfit | None:
        if value is None:
            return None
        misfit = schema(value, place)
        return misfit._replace(wanted=f"{misfit.wanted}, or null") if misfit and misfit.place == place else misfit

    return check


def list_of(schema: Schema, most: int, least: int = 0) -> Schema:
    """A list whose items all fit."""

    def check(value: t.Any, place: str) -> Misfit | None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            return Misfit(place, describe(value), f"a list of {f'{least} to' if least else 'at most'} {most}")
        for index, item in enumerate(value):
            if schema(item, ""):  # the place is put together for the one that is told
                return schema(item, f"{place}[{index}]")
        return None

    return check


def mapping_of(schema: Schema, most: int) -> Schema:
    """A dictionary of texts, whose values all fit."""

    def check(value: t.Any, place: str) -> Misfit | None:
        if not isinstance(value, (dict, t.Mapping)) or len(value) > most:
            return Misfit(place, describe(value), f"a dictionary of at most {most} keys")
        for key, item in value.items():
            if _key(key, "") or schema(item, ""):
                name = key if isinstance(key, str) and key.isprintable() else describe(key)
                return _key(key, f"a key of {place}") or schema(item, f"{place}.{name}")
        return None

    return check


def record(fields: t.Mapping[str, Schema], optional: t.Mapping[str, Schema] | None = None) -> Schema:
    """A dictionary with some keys. What else it has is not looked at.

    :param fields: keys that must be there
    :param optional: keys that need not be there
    """
    all_fields = {**fields, **(optional or {})}

    def check(value: t.Any, place: str) -> Misfit | None:
        if not isinstance(value, (dict, t.Mapping)):
            return Misfit(place, describe(value), "a dictionary")
        lacking = [key for key in fields if key not in value]
        if lacking:
            return Misfit(place, f"lacks {', '.join(lacking)}")
        for key, field in all_fields.items():
            if key in value and field(value[key], ""):
                return field(value[key], f"{place}.{key}")
        return None

    return check


def one_or_more_of(schema: Schema, most: int) -> Schema:
    """What fits, or a list of such."""
    several = list_of(schema, most)
    return lambda value, place: several(value, place) if isinstance(value, (list, tuple)) else schema(value, place)


def _make(fits: t.Callable[[t.Any], bool], wanted: str) -> Schema:
    return lambda value, place: None if fits(value) else Misfit(place, describe(value), wanted)


boolean: Schema = _make(lambda value: isinstance(value, bool), "true or false")
#: without control characters; where it leads is for the one to see who uses it
path = form(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_PATH}}}", "a path")
sha256 = form("[0-9a-fA-F]{64}", "64 hexadecimal digits")
size = integer(0, 1 << 50, "a number of bytes")
_key = words(300)

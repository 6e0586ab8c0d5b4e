# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import (
    describe,
    make_json_visible,
    make_visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b[31mok", r"\x1b[2J\x1b[31mok"),
        ("\x9b2J", r"\x9b2J"),  # one character that begins a sequence, too
        ("a\rb", r"a\rb"),
        ("a\x07\x08b\x7f", r"a\x07\x08b\x7f"),
        ("file\u202egnp.exe", r"file\u202egnp.exe"),
        ("\u2066a\u2069\u200f\ufeff\u200b", r"\u2066a\u2069\u200f\ufeff\u200b"),
        ("a\u2028b", r"a\u2028b"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("of Windows\r\nhere \x1b", "of Windows\nhere \\x1b"),
        ("Grüße, 世界 ⚠", "Grüße, 世界 ⚠"),
    ],
)
def test_control_characters_are_shown_and_nothing_else(text, shown):
    assert make_visible(text) == shown
    assert make_visible({text: [text, (text,)], "n": 1}) == {shown: [shown, [shown]], "n": 1}


def test_no_character_is_left_that_is_neither_printed_nor_white_space():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    hidden = {char for char in make_visible(everything) if not char.isprintable() and not char.isspace()}
    # private use, and what is not assigned yet or stands for a part of a script
    assert not {char for char in hidden if ord(char) < 0xE000 and ascii(char)[1:4] in ("\\x0", "\\x1", "\\x8", "\\x9")}
    assert not hidden & set("\x1b\x9b\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_a_long_text_is_cut_where_there_is_a_limit():
    assert make_visible("a" * 5, 3) == "aaa… (2 more characters)"
    assert make_visible("a" * 5) == "aaaaa"
    assert describe("x" * 1000).endswith("'… (900 more characters)")
    assert describe(10**5000) == "an integer of 16610 bits"
    assert describe(["\x1b"]) == "a list of 1"


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (r'"\u001b[2J \u001B"', r"\u001b[2J \u001B"),
        (r'"\u202e\b\f\r"', r"\u202e\b\f\r"),
        ('"\x9b\u202e\U000e0041"', r"\x9b\u202e\U000e0041"),
        (r'"a\\u001b"', r"a\u001b"),
        (r'"a\\\u001b"', r"a\\u001b"),
        (r'"\ud83d\ude00 \n\t\"\/\\ é \u00e9"', '😀 \n\t"/\\ é é'),
    ],
)
def test_json_is_made_visible_before_anybody_reads_it(made, shown):
    assert json.loads(make_json_visible(made)) == shown
    assert make_visible(shown) == shown


def test_what_is_printed_beside_an_answer_is_made_visible():
    assert make_json_visible('\x1b]0;x\x07\n{"a": 1}\r\n') == '\\\\x1b]0;x\\\\x07\n{"a": 1}\n'

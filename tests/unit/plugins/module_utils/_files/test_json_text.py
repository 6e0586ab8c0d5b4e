# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json, read_json


@pytest.mark.parametrize("value", [{"a": [1, -2.5, None, True, "é"], "b": {}}, 12345678901234567890, "text", []])
def test_json_is_what_was_written(value, tmp_path):
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value
    (tmp_path / "a.json").write_text(text)
    assert read_json(str(tmp_path / "a.json")) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 500_000, "a number of 500000 digits"),
        ("[" + "[]," * 2_000_000 + "1]", "2000000 values"),
        (" " * ((64 << 20) + 1), "67108864 bytes"),
        (b"\xff", "decode"),
        ("", "Expecting value"),
        ("{", "Expecting"),
    ],
    ids=range(8),
)
def test_what_is_no_such_json_is_a_value_error_soon(text, reason):
    def act():
        with pytest.raises(ValueError, match=reason):
            parse_json(text)

    limited.run(act, mebibytes=128)


def test_a_file_that_never_ends_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def act():
        for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path), str(tmp_path / "nowhere")):
            with pytest.raises(OSError):
                read_json(path)

    limited.run(act, patience=20)


@pytest.mark.slow
def test_no_text_breaks_the_reader():
    pieces = st.sampled_from(
        ["[", "]", "{", "}", ",", ":", '"', "\\u", "1", "e9", "-", "null", "NaN", "\n", "\x00", "\ud800"]
    )

    @given(st.lists(pieces, max_size=30).map("".join))
    def check(text):
        for form in (text, text.encode("utf-8", "surrogatepass")):
            with contextlib.suppress(ValueError):
                parse_json(form)

    limited.check_property(check, mebibytes=32)

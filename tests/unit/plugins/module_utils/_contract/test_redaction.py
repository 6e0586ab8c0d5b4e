# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact

SIGNED = (
    "https://s3.example/w/x.whl?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=***&X-Amz-Date=20260101T000000Z"
    "&X-Amz-Signature=***&partNumber=1"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter2@a.example/x", "https://a.example/x"),
        ("the proxy http://me:hunter2@a.example:3128.", "the proxy http://a.example:3128."),
        ("https://hunter2@a.example", "https://a.example"),
        ("//me:hunter2@a.example/x", "//a.example/x"),
        ("http://me:hun@ter2@a.example/x", "http://a.example/x"),
        ("http://me:hun/ter2@a.example:3128", "http://a.example:3128"),
        ("http://me:hun?ter2@a.example:3128/", "http://a.example:3128/"),
        ("http://me:hun#ter2@a.example:3128/", "http://a.example:3128/"),
        ("http://me:hun\\ter2@a.example:3128/", "http://a.example:3128/"),
        ("https://mirror.example/https://me:hunter2@github.com/x", "https://mirror.example/https://github.com/x"),
        ("https://a.example/x?sig=hunter2&v=1", "https://a.example/x?sig=***&v=1"),
        ("/x?token=hunter2 was asked", "/x?token=*** was asked"),
        ("https://a.example/x?sv=1&amp;sig=hunter2&amp;v=1", "https://a.example/x?sv=1&amp;sig=***&amp;v=1"),
        ("https://a.example/x?q=hunter2hunter2hunter2hunter2", "https://a.example/x?q=***"),
        ("https://a.example/?AWSAccessKeyId=hunter2&Expires=1", "https://a.example/?AWSAccessKeyId=***&Expires=1"),
        ("https://a.example/?private_token=hunter2", "https://a.example/?private_token=***"),
        (SIGNED.replace("***", "hunter2"), SIGNED),
    ],
)
def test_secrets_in_addresses_are_taken_out(text, shown):
    assert redact(text) == shown
    assert str(TorchExtensionError(f"See {text}")) == f"See {shown}", "errors do so themselves"
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example:8080/x@y/z",
        "https://[::1]:8080/a@b",
        "https://mirror.example/https://github.com/a/b",
        "https://a.example/x.whl#sha256=" + "ab12" * 16,
        "https://a.example/x.whl?raw=true&ref=0123456789abcdef0123456789abcdef01234567",
        "https://api.github.com/repos/a/b/releases?per_page=30&page=2",
        "write to me@example.com // or not",
        "flash-attn==2.8.3; python_version >= '3.9'",
    ],
)
def test_other_text_stays(text):
    assert redact(text) == text


@pytest.mark.parametrize("unit", ["//", "/", "//a:b", "//a@", "?a=", "?sig=x", "&", "//a:x/@", "a=b&", "https://a:b"])
def test_it_takes_no_more_time_than_a_text_is_long(unit):
    text = unit * ((1 << 20) // len(unit))
    limited.run(lambda: len(redact(text)), seconds=8, mebibytes=256)


def test_no_password_stays_whatever_it_is_made_of():
    @given(
        st.text(
            st.characters(codec="ascii", exclude_categories=("Cc", "Zs"), exclude_characters="\"'<>@/?#\\"), min_size=1
        )
    )
    def check(rest):
        assert "hunter2" not in redact(f"http://me:hunter2{rest}@a.example/b")
        assert "hunter2" not in redact(f"http://me:{rest}hunter2@a.example/b")

    limited.check_property(check, seconds=1)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import output

POOL = "connection error: HTTPConnectionPool(host='index.example', port=80): Max retries exceeded with url: /simple/a/"
REFUSED = "<pip._vendor.urllib3.connection.HTTPConnection object at 0x7f5e2c1d>: Failed to establish a new connection: [Errno 111] refused"


@pytest.mark.parametrize(
    ("error", "reason", "is_answered"),
    [
        (f"{POOL} (Caused by NewConnectionError('{REFUSED}')) - skipping", "[Errno 111] refused", False),
        (
            f"{POOL} (Caused by ConnectTimeoutError(<x.Y object at 0x7f>, 'timed out. (timeout=15.0)'))",
            "timed out",
            False,
        ),
        ("connection error: [Errno 111] Connection refused - skipping", "[Errno 111] Connection refused", False),
        ("404 Client Error: Not Found for url: http://me:pass@index.example/a/ - skipping", "404 Client Error", True),
    ],
    ids=["refused", "timed out", "refused, as pip 26 has it", "answered with a status"],
)
def test_why_a_page_was_not_read_is_said_without_python_objects_and_credentials(error, reason, is_answered):
    failure = output.parse_fetch_failure(f"Could not fetch URL http://me:pass@index.example/simple/a/: {error}")
    assert failure.url == "http://****@index.example/simple/a/"
    assert reason in failure.reason
    assert failure.is_answered == is_answered
    assert "object at" not in str(failure)
    assert "me:pass" not in str(failure)


def test_other_messages_are_no_failures_to_read_a_page():
    assert output.parse_fetch_failure("No matching distribution found for a==1") is None

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import format_size


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1, "1 byte"),
        (999, "999 bytes"),
        (64_123, "64 kB"),
        (254_100_000, "254 MB"),
        (1_250_000_000, "1.2 GB"),
    ],
)
def test_a_size_has_as_many_digits_as_people_want_to_know(size, words):
    assert format_size(size) == words

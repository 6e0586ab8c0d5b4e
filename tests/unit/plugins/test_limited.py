# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import os
import re
import time

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_what_keeps_to_its_limits_returns_its_value():
    assert limited.run(lambda: {"answer": [1, "a" * (1 << 20)]}) == {"answer": [1, "a" * (1 << 20)]}


def test_what_computes_too_long_is_ended_though_it_catches_exceptions():
    def act():
        for _number in itertools.count():
            try:
                sum(range(10000))
            except Exception:
                return

    with pytest.raises(AssertionError, match=r"more than 0\.2 s of CPU time"):
        limited.run(act, seconds=0.2)


@pytest.mark.slow
def test_what_does_not_come_back_to_python_is_ended():
    with pytest.raises(AssertionError, match="no signal ended it"):
        limited.run(lambda: sum(itertools.count()), seconds=0.2)


def test_what_waits_for_ever_is_ended():
    with pytest.raises(AssertionError, match=r"had not ended after 0\.5 s"):
        limited.run(lambda: time.sleep(60), patience=0.5)


def test_what_takes_too_much_memory_fails():
    assert limited.run(lambda: len(bytes(50 << 20)), mebibytes=128) == 50 << 20
    with pytest.raises(AssertionError, match="MemoryError"):
        limited.run(lambda: len(bytes(200 << 20)), mebibytes=128)


def test_what_raises_or_dies_fails():
    with pytest.raises(AssertionError, match=r"ValueError: .*no number"):
        limited.run(lambda: int("no number"))
    with pytest.raises(AssertionError, match=r"It was killed \(SIGKILL\)"):
        limited.run(lambda: os.kill(os.getpid(), 9))


def test_a_property_that_holds_tells_what_it_has_seen():
    seen = set()

    @given(st.booleans())
    def check(value):
        seen.add(value)

    assert limited.check_property(check, result=lambda: sorted(seen)) == [False, True]
    assert seen == set()  # it was another process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda: re.match(r"(a+)+$", "a" * 60 + "b"), "more than 0.2 s of CPU time"),
        (lambda: bytes(1 << 40), "MemoryError"),
        (lambda: sum(itertools.count()), "no signal ended it"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_property_that_does_not_hold_tells_the_input(act, reason):
    @given(st.integers(0, 100))
    def check(number):
        if number > 20:
            act()

    with pytest.raises(AssertionError) as caught:
        limited.check_property(check, seconds=0.2)
    assert reason in str(caught.value)
    assert re.search(r"The last input: number=\d+", str(caught.value))

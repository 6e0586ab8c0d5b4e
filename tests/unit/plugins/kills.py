# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill what runs at one of its steps on the file system."""

from __future__ import annotations

import os
from typing import Callable

import pytest


def run_until_killed(act: Callable[[], object], calls: int, *names: str) -> bool:
    """Run something that dies once it has called functions of ``os`` so many times. Returns whether it has come to that.

    :param names: of the functions that count
    """
    left = iter(range(calls))

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*arguments)

        return called

    with pytest.MonkeyPatch.context() as patched:
        for name in names:
            patched.setattr(os, name, dying(getattr(os, name)))
        try:
            act()
        except KeyboardInterrupt:
            return True
    return False

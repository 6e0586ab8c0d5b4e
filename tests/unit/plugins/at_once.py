# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do several things at the same time, each in a process of its own."""

from __future__ import annotations

import os
import traceback
from typing import Callable


def do_at_once(*acts: Callable[[], object]) -> None:
    """
    :raises AssertionError: if one of them fails
    """
    children = []
    for act in acts:
        children.append(os.fork())
        if not children[-1]:
            try:
                act()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(acts)

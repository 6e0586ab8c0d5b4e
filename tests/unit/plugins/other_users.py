# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has this process, which is root's, be another user's for a while, and gives files to users."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

import pytest

#: Nobody knows their names, so messages have the numbers.
OWNER, STRANGER = 12345, 12346

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user and give files away")


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def give(path: Path, uid: int) -> None:
    """Give a tree to a user."""
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)

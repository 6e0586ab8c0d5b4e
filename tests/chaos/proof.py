# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""That the campaign would see what is broken: it breaks each invariant once, and looks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import invariants
from events import SITE
from rounds import SITE_PACKAGES
from world import World


def blind_spots(
    world: World, node: str, before: Mapping[str, invariants.Entry], control: Mapping[str, invariants.Entry]
) -> list[str]:
    """What is not seen.

    :param node: one on which flash-attn is installed, and all is well
    :param before: what was on the node before anything was
    :param control: the same of the operator's folders
    """
    site = world.root(node) / SITE

    def look_at_version() -> Collection[str]:
        return invariants.version_there(world, node)[1]

    def look_for_rest() -> Collection[str]:
        return invariants.left_on_node(world, node, before, [SITE_PACKAGES], is_kept=False)

    def look_at_control_node() -> Collection[str]:
        return invariants.left_on_control_node(world, control)

    somebodys = invariants.SOMEBODYS
    breakages: list[tuple[Path, bytes | None, Callable[[], Collection[str]]]] = [
        (site / "flash_attn/__init__.py", b"other bytes", look_at_version),
        (site / "flash_attn/__init__.py", None, look_at_version),
        (site / "flash_attn/left.py", b"", look_at_version),
        (site / ".torch_extension-left", b"", look_for_rest),
        (site / somebodys, b"other bytes", look_for_rest),
        (site / somebodys, None, look_for_rest),
        (world.root(node) / "etc/somebodys.conf", b"", look_for_rest),
        (world.root(node) / "etc/hostname", b"other bytes", look_for_rest),
        (world.root(node) / "tmp/left", b"", lambda: invariants.left_in_tmp(world, node)),
        (world.shared() / "left", b"", lambda: invariants.left_on_share(world)),
        (world.cache / "wheels/.left.part", b"", look_at_control_node),
        (world.control / "carried/left.lock.yml.new", b"", look_at_control_node),
        (world.control / somebodys, b"other bytes", look_at_control_node),
    ]
    return list(_unseen(breakages))


def _unseen(breakages: list[tuple[Path, bytes | None, Callable[[], Collection[str]]]]) -> Iterator[str]:
    for path, content, look in breakages:
        saved = (path.read_bytes(), path.stat()) if path.exists() else None
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        if not look():
            yield f"{path} with {content!r}"
        path.unlink(missing_ok=True)
        if saved:
            path.write_bytes(saved[0])
            path.chmod(saved[1].st_mode)
            os.utime(path, ns=(saved[1].st_atime_ns, saved[1].st_mtime_ns))

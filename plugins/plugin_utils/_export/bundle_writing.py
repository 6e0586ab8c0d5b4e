# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Write the bundle of a lock."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_if_there
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom, bundle_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.diff import build_diff
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.summary import Totals, describe_outcome
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


def write_bundle(path: str, dest: str, context: DownloadContext, predict: bool = False) -> dict[str, t.Any]:
    """Write the bundle of a lock, unless it is there already.

    :param path: of the lock
    :param dest: a folder, or a name that ends in ``.tar``; absolute
    :param predict: tell what would be written, using no network
    :raises TorchExtensionError: if a file cannot be had, or something else is in the way; ``dest`` is then as it was
    """
    lock_text = lock_file.read_lock_text(path)
    lock = lock_file.parse_lock(lock_text, path)
    downloads: list[dict[str, t.Any]] = []
    wheels, requirements = context.wheel_downloader(), context.requirement_finder()

    def get_wheel(wheel: t.Mapping[str, t.Any]) -> str:
        download = wheels.get(wheel["url"], wheel["filename"], wheel["sha256"], wheel["size"])
        if download.is_new:
            downloads.append({"url": wheel["url"], "size": download.size})
        return download.path

    bom_text = bom.build_bom(lock, lock_text)
    planned = bundle_files.plan_files(lock, lock_text, bom_text, get_wheel, requirements)
    after = {name: file.sha256 for name, file in planned.items()}
    with contextlib.nullcontext() if predict else _locked_target(dest, context):
        before = bundle_files.hash_existing_files(dest)
        if after != before and not predict:
            with context.progress:
                bundle_files.write_files(dest, planned, before)
    downloads += [{"url": os.path.basename(new), "size": os.path.getsize(new)} for new in requirements.downloaded]
    totals = Totals.of(lock.environments)
    return {
        "changed": after != before,
        "path": dest,
        "files": sorted(planned),
        "size": totals.size,
        "report": [describe_outcome(dest, after != before, predict, totals)],
        "downloads": downloads,
        "diff": build_diff(dest, bundle_files.format_sums(before), bundle_files.format_sums(after)),
    }


@contextlib.contextmanager
def _locked_target(dest: str, context: DownloadContext) -> t.Iterator[None]:
    """Nobody else writes this bundle meanwhile, on this control node or another one, and what killed runs have left beside it is gone."""
    name = hashlib.sha256(f"bundle {dest}".encode()).hexdigest()[:32]
    with process_lock(os.path.join(context.cache, "locks"), name):
        bundle_files.clear_leftovers(dest)
        with locked_if_there(dest):
            yield

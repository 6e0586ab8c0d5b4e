# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Write the bundle of a lock."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom, bundle_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.diff import diff
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


def write_bundle(path: str, dest: str, context: DownloadContext, predict: bool = False) -> dict[str, t.Any]:
    """Write the bundle of a lock, unless it is there already.

    :param path: of the lock
    :param dest: a folder, or a name that ends in ``.tar``; absolute
    :param predict: tell what would be written, using no network
    :raises TorchExtensionError: if a file cannot be had, or something else is in the way; ``dest`` is then as it was
    """
    text = lock_file.read_text(path)
    lock = lock_file.load(text, path)
    downloads: list[dict[str, t.Any]] = []
    wheels, requirements = context.wheel_downloader(), context.requirement_finder()

    def get_wheel(wheel: t.Mapping[str, t.Any]) -> str:
        found = wheels.get(wheel["url"], wheel["filename"], wheel["sha256"], wheel["size"])
        if found.is_new:
            downloads.append({"url": wheel["url"], "size": found.size})
        return found.path

    wanted = bundle_files.contents(lock, text, bom.bill(lock, text), get_wheel, requirements)
    there = bundle_files.state(dest)
    after = {name: source.sha256 for name, source in wanted.items()}
    if after != there and not predict:
        with context.progress:
            bundle_files.write(dest, wanted, there)
    downloads += [{"url": os.path.basename(new), "size": os.path.getsize(new)} for new in requirements.downloaded]
    return {
        "changed": after != there,
        "path": dest,
        "files": sorted(wanted),
        "downloads": downloads,
        "diff": diff(dest, bundle_files.listing(there), bundle_files.listing(after)),
    }

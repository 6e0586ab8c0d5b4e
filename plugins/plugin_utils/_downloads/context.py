# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the control node has for bringing files to itself."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.facts import read_facts_cached
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import Requirements
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Silence


class DownloadContext(t.NamedTuple):
    """The cache, and how to fill it."""

    cache: str  # a folder of the control node
    ca_path: str | None = None  # a file of CA certificates to trust instead of the usual ones
    require_sha256: bool = False  # refuse wheels whose hash nobody knows beforehand
    progress: Silence = Silence()  # is told what is under way

    def wheels(self) -> Downloader:
        """
        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        return Downloader(os.path.join(self.cache, "wheels"), self.ca_path, self.require_sha256, self.progress)

    def facts(self, wheel: str, sha256: str) -> dict[str, t.Any]:
        """What the binaries of a wheel need, read once.

        :param sha256: of the wheel, as it was checked
        :raises TorchExtensionError: if it is no sound wheel, or the cache cannot be used
        """
        folder = os.path.join(self.cache, "facts")
        with explain_write_errors(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        return read_facts_cached(wheel, sha256, folder)

    def requirements(self, offline: bool = False) -> Requirements:
        """
        :param offline: whether what is not in the cache is an error
        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        folder = os.path.join(self.cache, "requirements")
        return Requirements(folder, Downloader(folder, self.ca_path, progress=self.progress).get, offline)

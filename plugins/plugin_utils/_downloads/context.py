# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What downloads to the control node have in common: its cache, and the settings for filling it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.facts import (
    read_facts_cached,
    read_kept_facts,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.signed_links import (
    SignedLinks,
    is_redacted,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import archives
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    RequirementFinder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.pip_indexes import read_pip_indexes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnservedError


class DownloadContext(t.NamedTuple):
    """The control node's cache, and the settings of downloads into it."""

    cache: str  # a folder of the control node
    ca_path: str | None = None  # a file of CA certificates to trust instead of the usual ones
    require_sha256: bool = False  # refuse wheels whose hash nobody knows beforehand
    progress: Progress = Progress()  # takes reports of how far downloads are

    def wheel_downloader(self) -> Downloader:
        """What downloads wheels into the cache.

        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        return self._downloader("wheels", require_sha256=self.require_sha256)

    def sdist_downloader(self, is_on_index: bool) -> Downloader:
        """What downloads sdists and archives of tags into the cache.

        :param is_on_index: whether they are on an index of the control node's pip, which then says how it is asked
        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        if not is_on_index:
            return self._downloader("sdists", require_sha256=self.require_sha256, kind=archives.TAG_ARCHIVES)
        pip = read_pip_indexes()
        return self._downloader(
            "sdists",
            ca_path=pip.ca_path or self.ca_path,
            require_sha256=self.require_sha256,
            kind=archives.INDEX_SDISTS,
            secret_for=pip.credentials_for,
        )

    def toolchain_downloader(self) -> Downloader:
        """What downloads archives of NVIDIA's compiler into the cache.

        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        return self._downloader("toolchain", kind=archives.CUDA_ARCHIVES)

    def locate(self, url: str) -> str:
        """The whole link to a file, of which plans and locks have no signature.

        :raises UnservedError: if this control node does not have the signature
        """
        link = SignedLinks(self.cache).restore(url)
        if is_redacted(link):
            raise UnservedError(
                f"{url} is a link with a signature, which is in no plan and no lock, and {self.cache} on this control node has it no"
                " longer. Run the playbook plan or lock here again, which finds the link anew; or carry the file in a bundle."
            )
        return link

    def _downloader(self, subfolder: str, **settings: t.Any) -> Downloader:
        settings = {"ca_path": self.ca_path, "progress": self.progress, "locate": self.locate, **settings}
        return Downloader(os.path.join(self.cache, subfolder), **settings)

    @staticmethod
    def provenance_of(wheel: t.Mapping[str, t.Any]) -> Provenance:
        """Who has told of a planned wheel, and where else it is."""
        return Provenance.of(wheel)

    def read_wheel_facts(self, wheel: str, sha256: str) -> dict[str, t.Any]:
        """What the binaries of a wheel need, read once.

        :param sha256: of the wheel, as it was checked
        :raises TorchExtensionError: if it is no sound wheel, or the cache cannot be used
        """
        folder = os.path.join(self.cache, "facts")
        with explain_write_errors(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        return read_facts_cached(wheel, sha256, folder)

    def kept_wheel_facts(self, filename: str, sha256: str) -> dict[str, t.Any] | None:
        """What was read from a wheel before, whether that is still here or not; None if nothing was.

        :param filename: of the wheel
        """
        return read_kept_facts(os.path.join(self.cache, "facts", f"{filename}.facts.json"), filename, sha256)

    def requirement_finder(self, predict: bool = False) -> RequirementFinder:
        """What finds and downloads what wheels require.

        :param predict: whether what is not in the cache is only looked up
        :raises TorchExtensionError: if a library is missing, or the cache cannot be used
        """
        fetch = self._downloader("requirements").get
        return RequirementFinder(os.path.join(self.cache, "requirements"), fetch, predict)

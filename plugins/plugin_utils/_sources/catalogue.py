# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Asks the places that wheels come from what they have."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub, NoRelease
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    GITHUB,
    INDEX,
    RELEASE,
    Source,
)


class Access(t.NamedTuple):
    """What it takes to ask the places."""

    cache: str  # folder of the control node
    github_url: str = "https://github.com"
    github_api_url: str = "https://api.github.com"
    github_token: str | None = None
    ca_path: str | None = None
    max_age: int = 600  # seconds for which an answer serves without asking again


class Catalogue:
    """Asks the places what they have."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._warnings: list[str] = []
        self._asked: GitHub | None = None

    @property
    def warnings(self) -> list[str]:
        """What the operator should know of the answers, such as that one is old."""
        return [*(self._asked.warnings if self._asked else ()), *self._warnings]

    def likely(self, source: Source, name: str, version: str | None) -> list[Asset] | None:
        """The wheels where one version of a package most likely is; None if that is no less than all of them.

        :param version: the one wanted, None if there is not only one
        :raises TorchExtensionError: if the source cannot be asked
        """
        if source.kind != RELEASE or version is None:
            return None
        try:
            return self._mirrored(self._github().release(PACKAGES[name].repository, f"v{version}"))
        except NoRelease:
            return []

    def all(self, source: Source, name: str) -> list[Asset]:
        """All wheels that a source has of a package, of the newest release first; there may be others among them.

        :raises TorchExtensionError: if the source cannot be asked
        """
        if source.kind == RELEASE:
            return self._mirrored(self._github().releases(PACKAGES[name].repository))
        if source.kind == GITHUB:
            return self._mirrored(self._github().releases(source.where))
        # a parser of pages, and pathlib, are for these two alone
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import folder, pages

        if source.kind == INDEX:
            access = self._access
            return pages.wheels(source.where, name, access.cache, access.ca_path, access.max_age, self._warnings)
        return folder.wheels(source.where, name)

    def _github(self) -> GitHub:
        access = self._access
        if self._asked is None:
            self._asked = GitHub(
                access.github_api_url,
                cache=access.cache,
                token=access.github_token,
                ca_path=access.ca_path,
                max_age=access.max_age,
            )
        return self._asked

    def _mirrored(self, assets: list[Asset]) -> list[Asset]:
        """The API gives addresses of github.com, whatever mirror it was asked through."""
        official, mirror = "https://github.com/", self._access.github_url.rstrip("/") + "/"
        return [asset._replace(url=re.sub(f"^{re.escape(official)}", mirror, asset.url)) for asset in assets]

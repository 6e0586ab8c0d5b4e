# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""List the wheels that sources have."""

from __future__ import annotations

import re
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import package_facts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import MissingError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub, NoReleaseError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    GITHUB,
    INDEX,
    RELEASE,
    Source,
)


class SourceAccess(t.NamedTuple):
    """The settings for asking sources."""

    cache: str  # folder of the control node
    github_url: str = "https://github.com"
    github_api_url: str = "https://api.github.com"
    github_token: str | None = None
    ca_path: str | None = None
    max_age: int = 600  # seconds for which an answer is used without a request
    place_urls: t.Mapping[str, str] = {}  # mirrors of known places, by name
    suggest: bool = False  # whether known places are asked where nothing fits
    build_architectures: tuple[str, ...] = ()  # that wheels are built for, instead of those of the GPUs that there are


class WheelCatalogue:
    """Lists the wheels that sources have: releases, indexes, folders."""

    def __init__(self, access: SourceAccess) -> None:
        self.access = access
        #: the pages of known places that are not there
        self.missing: set[str] = set()
        self._warnings: list[str] = []
        self._times: list[float] = []
        self._github_client: GitHub | None = None

    @property
    def warnings(self) -> list[str]:
        """What the operator should know about the answers, such as that one is old."""
        return [*(self._github_client.warnings if self._github_client else ()), *self._warnings]

    def oldest_answer(self) -> float:
        """When the oldest of the answers so far was given or confirmed, in seconds since the epoch; now, if there is none."""
        of_github = [self._github_client.oldest] if self._github_client else []
        return min([time.time(), *of_github, *self._times])

    def list_release(self, source: Source, name: str, version: str | None) -> list[Asset] | None:
        """The wheels of the release that should have one version of a package; None if there is no such release to ask for.

        :param version: None if the requirement pins none
        :raises TorchExtensionError: if the source cannot be asked
        """
        repository = package_facts(name).repository if source.kind == RELEASE else None
        if repository is None or version is None:
            return None
        try:
            return self._with_mirror_urls(self._github_api().list_release(repository, f"v{version}"))
        except NoReleaseError:
            return []

    def list_all(self, source: Source, name: str) -> list[Asset]:
        """All wheels that a source has of a package, newest release first. There may be wheels of other packages among them.

        :raises TorchExtensionError: if the source cannot be asked
        """
        if source.kind == RELEASE:
            repository = package_facts(name).repository
            if repository is None:
                raise TorchExtensionError(f"The project of {name} publishes no wheels in releases on GitHub.")
            return self._with_mirror_urls(self._github_api().list_releases(repository))
        if source.kind == GITHUB and source.release:
            return self._with_mirror_urls(self._github_api().list_release(source.location, source.release))
        if source.kind == GITHUB:
            return self._with_mirror_urls(self._github_api().list_releases(source.location))
        # only these two need a parser of pages, and pathlib
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import folder, pages

        if source.kind == INDEX:
            access = self.access
            try:
                return pages.list_wheels(
                    source.location, name, access.cache, access.ca_path, access.max_age, self._warnings, self._times
                )
            except MissingError:
                if source.text == f"{INDEX}:{source.location}":
                    raise
                self.missing.add(source.location)  # a known place need not have a page for each package and CUDA
                return []
        return folder.list_wheels(source.location, name, self._warnings)

    def _github_api(self) -> GitHub:
        access = self.access
        if self._github_client is None:
            self._github_client = GitHub(
                access.github_api_url,
                cache=access.cache,
                token=access.github_token,
                ca_path=access.ca_path,
                max_age=access.max_age,
            )
        return self._github_client

    def _with_mirror_urls(self, assets: list[Asset]) -> list[Asset]:
        """Replace GitHub's own address, which the API gives whatever mirror it was asked through."""
        official, mirror = "https://github.com/", self.access.github_url.rstrip("/") + "/"
        return [asset._replace(url=re.sub(f"^{re.escape(official)}", mirror, asset.url)) for asset in assets]

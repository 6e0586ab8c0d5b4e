# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The places that wheels come from, as the operator names them: ``KIND`` or ``KIND:WHERE``."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub, NoRelease

RELEASE, GUESS, GITHUB, INDEX, DIRECTORY, BUNDLE = "release", "guess", "github", "index", "directory", "bundle"

#: of each kind an example of how it is written
FORMS = {
    RELEASE: "release",
    GUESS: "guess",
    GITHUB: "github:mjun0812/flash-attention-prebuild-wheels",
    INDEX: "index:https://wheels.example/simple/",
    DIRECTORY: "directory:/srv/wheels",
    BUNDLE: "bundle:/media/disk/bundle",
}


class Source(t.NamedTuple):
    """A place that has wheels."""

    text: str  # as the operator wrote it
    kind: str
    where: str


class Access(t.NamedTuple):
    """What it takes to ask the places."""

    cache: str  # folder of the control node
    github_url: str = "https://github.com"
    github_api_url: str = "https://api.github.com"
    github_token: str | None = None
    ca_path: str | None = None
    max_age: int = 600  # seconds for which an answer serves without asking again


def parse_source(text: str) -> Source:
    """Read one entry of torch_extension_sources.

    :raises TorchExtensionError: if it has no such form
    """
    kind, colon, where = str(text).strip().partition(":")
    if kind not in FORMS or bool(colon) != (":" in FORMS[kind]) or (colon and not where):
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources is no source of wheels. Wanted is one of: {', '.join(FORMS.values())}."
        )
    if kind == GITHUB and not re.fullmatch(r"[\w.-]+/[\w.-]+", where):
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources names no repository. Wanted is github:OWNER/NAME."
        )
    if kind == INDEX:
        settings.check_url(where, f"{kind} in torch_extension_sources")
    if kind in (DIRECTORY, BUNDLE):
        where = os.path.expanduser(where)
        if not os.path.isabs(where):
            raise TorchExtensionError(
                f"{text!r} in torch_extension_sources has a relative path. Wanted is an absolute one, or one from ~."
            )
    return Source(str(text).strip(), kind, where)


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

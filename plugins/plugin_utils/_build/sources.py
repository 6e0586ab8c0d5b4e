# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring the sources of a package to the control node, such as can be compiled."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.sdist_file import SdistFacts, read_sdist
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Download
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import INDEX_OF_PIP, Sdist


_CUDA_SOURCE = re.compile(r"\.cuh?$")


class Sources(t.NamedTuple):
    """Sources on the control node that have all that is compiled."""

    sdist: Sdist  # with the address that they are from
    file: Download
    facts: SdistFacts

    @property
    def use_cuda(self) -> bool:
        """Whether any of them is compiled for GPUs."""
        return any(map(_CUDA_SOURCE.search, self.facts.paths))


class SourceSettings(t.NamedTuple):
    """The settings for fetching sources."""

    context: DownloadContext
    github_url: str = "https://github.com"  # or a mirror of it
    sha256: t.Mapping[str, str] = {}  # hashes that the operator gives, by URL or by file name
    predict: bool = False  # nothing may be downloaded


def fetch_sources(sdist: Sdist, build: builds.Build, settings: SourceSettings) -> Sources | None:
    """The sources of a package, from the cache if they are there: the sdist, or the archive of its tag where the sdist lacks some.

    :param build: what the table has of the package
    :returns: None if they would have to be downloaded, and may not be
    :raises TorchExtensionError: if they cannot be had, or are not complete
    """
    sources = _fetch(sdist, settings)
    missing = _missing(sources, build)
    if not missing:
        return sources
    path = builds.tag_archive(build, sdist.version)
    lack = f"{sdist.filename} of {sdist.source} lacks {' and '.join(missing)}, so that nothing of it can be compiled."
    knob = "Put an sdist that has all into a directory: of torch_extension_sources, or ask for another version in torch_extension_packages."
    if path is None or sdist.source != INDEX_OF_PIP:
        raise TorchExtensionError(f"{lack} {_explain_submodule(missing)}{knob}")
    url = f"{settings.github_url.rstrip('/')}/{path}"
    archive = sdist._replace(
        filename=f"{build.repository.rpartition('/')[2]}-{sdist.version}.tar.gz" if build.repository else sdist.filename,
        url=url,
        sha256=None,
        size=None,
        source=url,
    )
    try:
        sources = _fetch(archive, settings)
    except TorchExtensionError as exc:
        raise TorchExtensionError(f"{lack} The archive of its tag has all, and cannot be had: {exc} {knob}") from exc
    missing = _missing(sources, build)
    if missing:
        raise TorchExtensionError(f"{lack} The archive of its tag ({url}) lacks {' and '.join(missing)}, too. {knob}")
    return sources


def _fetch(sdist: Sdist, settings: SourceSettings) -> Sources | None:
    digest = settings.sha256.get(sdist.url) or settings.sha256.get(sdist.filename) or sdist.sha256
    downloader = settings.context.sdist_downloader(is_on_index=sdist.source == INDEX_OF_PIP)
    if settings.predict:
        cached = downloader.find_cached(sdist.url, sdist.filename, digest)
        return Sources(sdist, cached, read_sdist(cached.path)) if cached else None
    file = downloader.get(sdist.url, sdist.filename, digest, sdist.size)
    return Sources(sdist, file, read_sdist(file.path))


def _missing(sources: Sources | None, build: builds.Build) -> tuple[str, ...]:
    if sources is None:
        return ()
    return sources.facts.missing(builds.required_contents(build, sources.sdist.version))


def _explain_submodule(missing: t.Iterable[str]) -> str:
    if not any("/cutlass/" in path for path in missing):
        return ""
    return "That is a submodule, which GitHub's archives of tags leave out; the sdist on the index has it. "

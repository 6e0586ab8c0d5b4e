# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find the sources of a package that can be built: sdists and git archives in folders, sdists on the index of the control node's pip.

pip itself is of no use for that: to tell what an sdist requires, it runs its setup.py.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import OTHER_NAMES, PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.signed_links import SignedLinks
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.pip_indexes import read_pip_indexes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import folder, pages
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import DIRECTORY, Source

with contextlib.suppress(ImportError):  # decision.py says so, before anything comes here
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

INDEX_OF_PIP = "the index of the control node's pip"
SUFFIXES = (".tar.gz", ".zip")  # the one to take first in front


class Sdist(t.NamedTuple):
    """An sdist, or the archive of a git tag."""

    name: str  # normalised
    version: str  # as its file name has it, without a leading v
    filename: str
    url: str  # http:, https: or file:, without credentials
    sha256: str | None
    size: int | None  # bytes
    requires_python: str | None
    source: str  # as the operator wrote it, or INDEX_OF_PIP


def find_sdists(
    name: str,
    specifier: SpecifierSet,
    python_version: str,
    sources: t.Iterable[Source],
    access: SourceAccess,
    warnings: list[str] | None = None,
) -> list[Sdist]:
    """What can be built of a package, newest version first: of the first source that has any, and the folders are asked first.

    Versions before a release are left out unless the specifier asks for them. What is yanked, or is not for this Python, is so, too.

    :param name: of the package, in any spelling; it need not be a known one
    :param python_version: of the node, ``3.12.3``
    :param sources: of these the folders count
    :param warnings: what the operator should know is added here, each once
    :raises TorchExtensionError: if a folder cannot be read; if no index can be asked, and nothing has been found
    """
    name = canonical(name)
    names = _names_of_archives(name)
    for source in sources:
        if source.kind != DIRECTORY:
            continue
        assets = folder.list_files(source.location, lambda file: parse_filename(file, names) is not None, warnings)
        found = _choose(name, names, assets, specifier, python_version, source.text)
        if found:
            return found
    return _find_on_indexes(name, specifier, python_version, access, warnings)


def parse_filename(filename: str, names: t.Container[str]) -> Version | None:
    """The version in the name of an sdist, or of the archive of a tag; None if it is of none of these packages.

    :param names: normalised
    """
    suffix = next((each for each in SUFFIXES if filename.endswith(each)), None)
    if suffix is None:
        return None
    stem, _dash, version = filename[: -len(suffix)].rpartition("-")
    if canonical(stem) not in names:
        return None
    try:
        return Version(version)  # which allows for a leading v
    except InvalidVersion:
        return None


def _names_of_archives(name: str) -> set[str]:
    """Those of the package, and of the repository whose tags GitHub names archives after."""
    names = {name, *(other for other, meant in OTHER_NAMES.items() if meant == name)}
    repository = PACKAGES[name].repository if name in PACKAGES else None
    if repository:
        names.add(canonical(repository.rpartition("/")[2]))
    return names


def _find_on_indexes(
    name: str, specifier: SpecifierSet, python_version: str, access: SourceAccess, warnings: list[str] | None
) -> list[Sdist]:
    indexes, links = read_pip_indexes(), SignedLinks(access.cache)
    found: list[Sdist] = []
    failures = [
        f"{url} was not asked: it is without TLS, and trusted-host of pip on the control node does not have it."
        for url in indexes.untrusted
    ]
    for url in indexes.urls:
        try:
            assets = pages.list_project(
                url,
                name,
                access.cache,
                indexes.ca_path or access.ca_path,
                access.max_age,
                warnings,
                indexes.credentials_for(url),
            )
        except TorchExtensionError as exc:
            failures.append(str(exc))
            continue
        chosen = _choose(name, {name}, assets, specifier, python_version, INDEX_OF_PIP)
        found += [sdist._replace(url=links.keep(sdist.url)) for sdist in chosen]
    if failures and not found:
        raise UnavailableError(" ".join(failures))
    if warnings is not None:
        warnings += [failure for failure in failures if failure not in warnings]
    return _sort(found)


def _choose(
    name: str,
    names: set[str],
    assets: t.Iterable[Asset],
    specifier: SpecifierSet,
    python_version: str,
    source: str,
) -> list[Sdist]:
    found = []
    for asset in assets:
        version = parse_filename(asset.filename, names)
        if version is None or not specifier.contains(version, prereleases=True):
            continue
        if version.is_prerelease and not specifier.prereleases:
            continue
        if not _supports(asset.requires_python, python_version):
            continue
        found.append(
            Sdist(
                name,
                str(version),
                asset.filename,
                asset.url,
                asset.sha256,
                asset.size,
                asset.requires_python,
                source,
            )
        )
    return _sort(found)


def _sort(sdists: list[Sdist]) -> list[Sdist]:
    """The newest first; of one version in the order in which they were found, but tar archives in front."""
    tars_first = sorted(sdists, key=lambda sdist: not sdist.filename.endswith(SUFFIXES[0]))
    return sorted(tars_first, key=lambda sdist: Version(sdist.version), reverse=True)


def _supports(requires_python: str | None, python_version: str) -> bool:
    try:
        return SpecifierSet(requires_python or "").contains(python_version, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip has it

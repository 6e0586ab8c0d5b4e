# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The sources of wheels, as the operator writes them: ``KIND``, ``KIND:LOCATION``, or the name of a known place."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES, Place

RELEASE, GUESS, GITHUB, INDEX, DIRECTORY, BUNDLE = "release", "guess", "github", "index", "directory", "bundle"
BUILD = "build"
PLACE, KNOWN = "place", "known"

#: how each kind is written
SOURCE_EXAMPLES = {
    RELEASE: "release",
    GUESS: "guess",
    GITHUB: "github:OWNER/NAME",
    INDEX: "index:https://wheels.example/simple/",
    DIRECTORY: "directory:/srv/wheels",
    BUNDLE: "bundle:/media/disk/bundle",
    KNOWN: "known",
    BUILD: "build",
}


class Source(t.NamedTuple):
    """A source of wheels."""

    text: str  # as the operator wrote it, or the name of the place
    kind: str
    location: str
    grammar: str | None = None  # that the place uses, a key of grammars.OF_PLACES
    release: str | None = None  # the tag of the only release that counts


def parse_source(text: str) -> Source:
    """Read one entry of torch_extension_sources.

    :raises TorchExtensionError: if it is no source
    """
    text = str(text).strip()
    kind, colon, location = text.partition(":")
    if text in PLACES and text != RELEASE:
        return Source(text, PLACE, text)
    if kind not in SOURCE_EXAMPLES or bool(colon) != (":" in SOURCE_EXAMPLES[kind]) or (colon and not location):
        places = ", ".join(name for name in PLACES if name != RELEASE)
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources is no source of wheels. Wanted is one of: {', '.join(SOURCE_EXAMPLES.values())};"
            f" or the name of a known place: {places}."
        )
    if kind == GITHUB and not re.fullmatch(r"[\w.-]+/[\w.-]+", location):
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources names no repository. Wanted is github:OWNER/NAME."
        )
    if kind == INDEX:
        settings.check_url(location, f"{kind} in torch_extension_sources")
    if kind in (DIRECTORY, BUNDLE):
        location = os.path.expanduser(location)
        if not os.path.isabs(location):
            raise TorchExtensionError(
                f"{text!r} in torch_extension_sources has a relative path. Wanted is an absolute one, or one from ~."
            )
    return Source(text, kind, location)


def expand_source(
    source: Source, package: str, environment: t.Mapping[str, t.Any], place_urls: t.Mapping[str, str]
) -> list[Source]:
    """What a source means for a package on a node: itself; or of a known place its pages, the one to ask first in front.

    A place that does not publish the package means nothing, and so do releases of a project that has none on GitHub.

    :param package: its normalised name
    :param environment: what torch_info returned, with a torch
    :param place_urls: mirrors of known places, by name
    """
    if source.kind == KNOWN:
        names = [name for name, place in PLACES.items() if place.is_trusted]
    elif source.kind in (PLACE, RELEASE):
        names = [source.location or RELEASE]
    else:
        return [source]
    return [
        part for name in names for part in _expand_place(name, PLACES[name], package, environment["torch"], place_urls)
    ]


def _expand_place(
    name: str, place: Place, package: str, torch: t.Mapping[str, t.Any], place_urls: t.Mapping[str, str]
) -> list[Source]:
    if package not in place.packages:
        return []
    if name == RELEASE:
        return [Source(name, RELEASE, "")]
    if place.repository:
        return [Source(name, GITHUB, place.repository, place.grammar, place.release)]
    base = place_urls.get(name, place.url).rstrip("/")
    locations = place.locations(package, torch["version"], None if torch["hip"] else torch["cuda"])
    return [Source(name, INDEX, f"{base}/{location}", place.grammar) for location in locations]


def check_place_urls(place_urls: t.Mapping[str, t.Any]) -> None:
    """
    :raises TorchExtensionError: if it names no place that has an address, or no address
    """
    for name, url in place_urls.items():
        if name not in PLACES or not PLACES[name].url:
            names = ", ".join(each for each, place in PLACES.items() if place.url)
            raise TorchExtensionError(f"{name!r} in torch_extension_place_urls is none of the known places {names}.")
        settings.check_url(str(url), f"torch_extension_place_urls of {name}")

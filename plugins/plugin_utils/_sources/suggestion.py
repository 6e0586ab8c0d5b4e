# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which known places have a wheel for a node, where the operator's sources have none. Only their listings are asked."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.answer import ask_source
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    KNOWN,
    Source,
    expand_source,
    parse_source,
)


def suggest_places(
    requirement: WheelRequirement,
    environment: t.Mapping[str, t.Any],
    sources: t.Sequence[Source],
    access: SourceAccess,
) -> list[str]:
    """Name the known places that have a wheel that fits, with the line to write, or say that none has; a sentence each.

    :param sources: that were asked before
    """
    asked = {part.text for source in sources for part in expand_source(source, requirement.name, environment, {})}
    names = [part.text for part in expand_source(Source(KNOWN, KNOWN, ""), requirement.name, environment, {})]
    found, without, failures = [], [], []
    for name in dict.fromkeys(name for name in names if name not in asked):
        try:
            filename = _first_fitting(parse_source(name), requirement, environment, access)
        except TorchExtensionError as exc:
            failures.append(f"{name} cannot be asked: {exc}")
            continue
        if filename:
            found.append((name, filename))
        else:
            without.append(name)
    sentences = [f"{name} ({PLACES[name].describe()}) has {filename}." for name, filename in found]
    if found:
        line = ", ".join([*(source.text for source in sources), found[0][0]])
        sentences.append(f"To take it, set torch_extension_sources: [{line}].")
    elif without:
        sentences.append(
            f"None of the other known places has one either ({', '.join(without)}). What is left is a wheel of your own"
            " (pip wheel on a machine with the same torch, then torch_extension_sources: [directory:/PATH])."
        )
    return [*sentences, *failures]


def _first_fitting(
    place: Source, requirement: WheelRequirement, environment: t.Mapping[str, t.Any], access: SourceAccess
) -> str | None:
    """The name of the best wheel that a place has for a node."""
    catalogue = WheelCatalogue(access)
    for part in expand_source(place, requirement.name, environment, access.place_urls):
        answer = ask_source(part, requirement, environment, catalogue, access)
        for wheel in answer.wheels:
            if not wheel["needs_proof"]:
                return str(wheel["filename"])
    return None

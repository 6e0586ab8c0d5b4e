# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which known places have a wheel for a node, where the operator's sources have none. No wheel is downloaded to tell."""

from __future__ import annotations

import re
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.answer import ask_source
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    GITHUB,
    KNOWN,
    RELEASE,
    Source,
    expand_source,
)

#: A firewall that answers nothing takes two minutes for each place; a refusal must not wait for all of them.
_PATIENCE_SECONDS = 60

Wheel = t.Mapping[str, t.Any]


def suggest_places(
    requirement: WheelRequirement,
    environment: t.Mapping[str, t.Any],
    sources: t.Sequence[Source],
    access: SourceAccess,
) -> list[str]:
    """Name the known places that have a wheel that fits, with the line to write, or say that none has; a sentence each.

    :param sources: that were asked before
    """

    def expand(source: Source) -> list[Source]:
        return expand_source(source, requirement.name, environment, access.place_urls)

    asked = {_address(part, requirement.name) for source in sources for part in expand(source)}
    pages: dict[str, list[Source]] = {}
    for part in expand(Source(KNOWN, KNOWN, "")):
        if _address(part, requirement.name) not in asked:
            pages.setdefault(part.text, []).append(part)

    fitting: dict[str, str] = {}
    untold: dict[str, str] = {}
    without: list[str] = []
    unanswered: list[str] = []
    failures: list[str] = []
    begun = time.monotonic()
    for name, parts in pages.items():
        if time.monotonic() - begun > _PATIENCE_SECONDS:
            unanswered.append(name)
            continue
        try:
            wheel = _find_best(parts, requirement, environment, access)
        except TorchExtensionError as exc:
            failures.append(f"{name} could not be asked: {exc}")
            continue
        if wheel is None:
            without.append(name)
        else:
            (untold if wheel["needs_proof"] else fitting)[name] = wheel["filename"]

    found = {**fitting, **untold}
    sentences = [f"A wheel that fits is at {_describe(name)}: {filename}." for name, filename in fitting.items()]
    sentences += [
        f"One that may fit is at {_describe(name)}: {filename}. Nothing tells for which torch it is; the node finds out."
        for name, filename in untold.items()
    ]
    if found:
        line = ", ".join(_quote(text) for text in [*(source.text for source in sources), next(iter(found))])
        which = "it" if len(found) == 1 else "the first of them"
        sentences.append(f"To take {which}, set torch_extension_sources: [{line}].")
    elif without:
        sentences.append(f"Of the other known places none has one ({', '.join(without)}).")
    elif not pages:
        sentences.append("There is no other known place to ask.")
    sentences += failures
    if unanswered:
        sentences.append(f"Not asked, for the others took too long: {', '.join(unanswered)}.")
    if not found:
        sentences.append(
            "What is left is a wheel of your own: build it on a machine with this Python and torch (pip wheel --no-deps"
            f" --no-build-isolation {requirement.name}), and name its folder, torch_extension_sources: [directory:/PATH]."
        )
    return sentences


def _find_best(
    parts: t.Sequence[Source],
    requirement: WheelRequirement,
    environment: t.Mapping[str, t.Any],
    access: SourceAccess,
) -> Wheel | None:
    """The best wheel that a place has for a node; one of which nobody tells for which torch it is, only if it has no other."""
    catalogue = WheelCatalogue(access)
    untold = None
    for part in parts:
        for wheel in ask_source(part, requirement, environment, catalogue).wheels:
            if not wheel["needs_proof"]:
                return wheel
            untold = untold or wheel
    return untold


def _address(part: Source, package: str) -> tuple[str, str]:
    """What is asked; the operator may have written it in another way."""
    if part.kind == RELEASE:
        return GITHUB, str(PACKAGES[package].repository)
    return part.kind, part.location.rstrip("/")


def _describe(name: str) -> str:
    return f"{name} ({PLACES[name].describe()})"


def _quote(text: str) -> str:
    """A source as YAML has it in a list on one line."""
    return text if re.fullmatch(r"[\w./~:+-]+", text) else "'" + text.replace("'", "''") + "'"

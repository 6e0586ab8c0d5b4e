# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find the wheel that really exists: ask the sources in their order, take what fits, or tell what is nearest."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import selection
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Unavailable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import Access, Catalogue
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    BUNDLE,
    GUESS,
    RELEASE,
    Source,
)

if t.TYPE_CHECKING:
    from packaging.requirements import Requirement

Environment = t.Mapping[str, t.Any]


class Wanted(t.NamedTuple):
    """A requirement of a known package."""

    name: str  # normalised
    requirement: Requirement
    version: str | None  # where the requirement pins one

    def __str__(self) -> str:
        return f"{self.name}{self.requirement.specifier}"


class NothingFitsError(TorchExtensionError):
    """No source has a wheel that fits; ``provable`` are those for another torch, as :func:`find` would return them."""

    def __init__(self, message: str, provable: list[dict[str, t.Any]]) -> None:
        super().__init__(message)
        self.provable = provable


def find(wanted: Wanted, environment: Environment, sources: t.Sequence[Source], access: Access) -> dict[str, t.Any]:
    """The wheel for a requirement, from the first source that has one that fits.

    :returns: the part of the lookup's answer that the source knows
    :raises NothingFitsError: if no source has one; it tells what comes nearest
    :raises TorchExtensionError: if it cannot be told
    """
    shelves = Catalogue(access)
    failures: list[str] = []
    seen: dict[Source, list[selection.Candidate]] = {}
    for source in sources:
        try:
            if source.kind == GUESS:
                return guessed(wanted, environment, access.github_url)
            if source.kind == BUNDLE:
                # archives and pip's answers are for bundles alone
                from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import (
                    open_bundle,
                )

                return {**open_bundle(source.where).find(str(wanted), environment), "source": source.text}
            choice, seen[source] = _from_shelves(source, wanted, environment, shelves)
            if choice:
                warnings = [*failures, *shelves.warnings]
                more = {"ground": choice.ground, "refused": choice.refused, "newer": choice.newer, "warnings": warnings}
                return {**_answer(choice.best, source), **more}
        except Unavailable as exc:
            if source.kind == RELEASE and wanted.version:
                return _guess_instead(wanted, environment, access.github_url, str(exc))
            failures.append(f"{source.text}: {exc}")
        except TorchExtensionError as exc:
            if len(sources) == 1:
                raise
            failures.append(f"{source.text}: {exc}")
    candidates = [candidate for found in seen.values() for candidate in found]
    origins = {candidate.asset: source for source, found in reversed(seen.items()) for candidate in found}
    provable = selection.provable_wheels(candidates, wanted.requirement.specifier, environment)
    raise NothingFitsError(
        _nothing_fits(wanted, environment, sources, candidates, failures),
        [
            {
                **_answer(candidate, origins[candidate.asset]),
                "ground": selection.describe_label(candidate),
                "warnings": shelves.warnings,
            }
            for candidate in provable
        ],
    )


def guessed(wanted: Wanted, environment: Environment, github_url: str) -> dict[str, t.Any]:
    """The wheel whose URL the version's own setup.py would guess, whether it exists or not.

    :raises TorchExtensionError: if the version guesses nothing on such a node, or the requirement pins none
    """
    if wanted.version is None:
        newest = setup_py.find_package(wanted.name)[1].versions[-1]
        raise TorchExtensionError(
            f"{str(wanted)!r} does not pin one version, which source=guess needs. Write for example"
            f" '{wanted.name}=={newest}', the newest that this collection knows."
        )
    guess = setup_py.guess_wheel(
        wanted.name, setup_py.find_version(wanted.name, wanted.version), environment, github_url
    )
    return {
        "version": guess.version,
        "filename": guess.filename,
        "url": guess.url,
        "source": GUESS,
        "conflicts": setup_py.find_conflicts(guess, environment),
        "ground": f"it is what setup.py of {guess.name} {guess.version} would ask for here; whether it exists is not known",
    }


def _from_shelves(
    source: Source, wanted: Wanted, environment: Environment, shelves: Catalogue
) -> tuple[selection.Choice | None, list[selection.Candidate]]:
    specifier, candidates = wanted.requirement.specifier, []
    for assets in (
        lambda: shelves.likely(source, wanted.name, wanted.version),
        # a release need not bear the version's name, and a refusal is to tell of the other versions
        lambda: shelves.all(source, wanted.name),
    ):
        found = assets()
        if found is None:
            continue
        candidates = selection.judge_wheels(wanted.name, found, environment)
        choice = selection.choose_best(candidates, specifier, environment)
        if choice:
            return choice, candidates
    return None, candidates


def _answer(candidate: selection.Candidate, source: Source) -> dict[str, t.Any]:
    asset = candidate.asset
    return {
        "version": str(candidate.version),
        "filename": asset.filename,
        "url": asset.url,
        "source": source.text,
        "size": asset.size,
        "sha256": asset.sha256,
        "release": asset.release,
    }


def _guess_instead(wanted: Wanted, environment: Environment, github_url: str, why: str) -> dict[str, t.Any]:
    warning = (
        f"{why} So the wheel of {wanted} is the one that its setup.py would guess, and whether it exists shows at the"
        " download."
    )
    return {**guessed(wanted, environment, github_url), "warnings": [warning]}


def _nothing_fits(
    wanted: Wanted,
    environment: Environment,
    sources: t.Sequence[Source],
    seen: t.Sequence[selection.Candidate],
    failures: t.Sequence[str],
) -> str:
    places = ", ".join(source.text for source in sources)
    allowed = [candidate for candidate in seen if candidate.version in wanted.requirement.specifier]
    looked = (
        f"{len(allowed)} of {wanted} and {len(seen) - len(allowed)} of other versions"
        if seen
        else "none of this package"
    )
    return " ".join(
        [
            f"No wheel of {wanted} fits this node: {selection.describe_node(environment)}.",
            f"Looked at in {places}: {looked}.",
            *selection.describe_nearest(seen, wanted.requirement.specifier),
            *failures,
            "Knobs: torch_extension_packages (another version), torch_extension_sources (more places), or another torch on"
            " the node.",
        ]
    )

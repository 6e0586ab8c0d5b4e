# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find a wheel that exists: ask the sources in their order, take the first that fits, or say what comes nearest."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import selection
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    BUNDLE,
    GUESS,
    RELEASE,
    Source,
)

if t.TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

Environment = t.Mapping[str, t.Any]


class WheelRequirement(t.NamedTuple):
    """A requirement of a known package."""

    name: str  # normalised
    specifier: SpecifierSet
    version: str | None  # the one that the specifier pins, if it pins one

    def __str__(self) -> str:
        return f"{self.name}{self.specifier}"


class NothingFitsError(TorchExtensionError):
    """No source has a wheel that fits; ``provable`` are those for another torch, as :func:`find_wheel` would return them."""

    def __init__(self, message: str, provable: list[dict[str, t.Any]]) -> None:
        super().__init__(message)
        self.provable = provable


def find_wheel(
    requirement: WheelRequirement, environment: Environment, sources: t.Sequence[Source], access: SourceAccess
) -> dict[str, t.Any]:
    """The wheel for a requirement, from the first source that has one that fits.

    :returns: the part of the lookup's answer that the source knows
    :raises NothingFitsError: if no source has one; the message says what comes nearest
    :raises TorchExtensionError: if the only source cannot be asked, or a guess fails
    """
    catalogue = WheelCatalogue(access)
    failures: list[str] = []
    candidates_by_source: dict[Source, list[selection.Candidate]] = {}
    for source in sources:
        try:
            if source.kind == GUESS:
                return guess_wheel(requirement, environment, access.github_url)
            if source.kind == BUNDLE:
                # only bundles need archives and pip's answers
                from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import (
                    open_bundle,
                )

                return {**open_bundle(source.location).find(str(requirement), environment), "source": source.text}
            choice, candidates_by_source[source] = _choose_from_source(source, requirement, environment, catalogue)
            if choice:
                warnings = [*failures, *catalogue.warnings]
                more = {"ground": choice.ground, "refused": choice.refused, "newer": choice.newer, "warnings": warnings}
                return {**_describe(choice.best, source), **more}
        except UnavailableError as exc:
            if source.kind == RELEASE and requirement.version:
                return _guess_with_warning(requirement, environment, access.github_url, str(exc))
            failures.append(f"{source.text}: {exc}")
        except TorchExtensionError as exc:
            if len(sources) == 1:
                raise
            failures.append(f"{source.text}: {exc}")
    candidates = [candidate for judged in candidates_by_source.values() for candidate in judged]
    origins = {
        candidate.asset: source for source, judged in reversed(candidates_by_source.items()) for candidate in judged
    }
    provable = selection.provable_wheels(candidates, requirement.specifier, environment)
    raise NothingFitsError(
        _nothing_fits_message(requirement, environment, sources, candidates, failures),
        [
            {
                **_describe(candidate, origins[candidate.asset]),
                "ground": selection.describe_label(candidate),
                "warnings": catalogue.warnings,
            }
            for candidate in provable
        ],
    )


def guess_wheel(requirement: WheelRequirement, environment: Environment, github_url: str) -> dict[str, t.Any]:
    """The wheel whose URL the version's own setup.py would guess, whether it exists or not.

    :raises TorchExtensionError: if the version guesses nothing on such a node, or the requirement pins none
    """
    if requirement.version is None:
        newest = setup_py.find_package(requirement.name)[1].versions[-1]
        raise TorchExtensionError(
            f"{str(requirement)!r} does not pin one version, which source=guess needs. Write for example"
            f" '{requirement.name}=={newest}', the newest that this collection knows."
        )
    guess = setup_py.guess_wheel(
        requirement.name, setup_py.find_version(requirement.name, requirement.version), environment, github_url
    )
    return {
        "version": guess.version,
        "filename": guess.filename,
        "url": guess.url,
        "source": GUESS,
        "conflicts": setup_py.find_conflicts(guess, environment),
        "ground": f"it is what setup.py of {guess.name} {guess.version} would ask for here; whether it exists is not known",
    }


def _choose_from_source(
    source: Source, requirement: WheelRequirement, environment: Environment, catalogue: WheelCatalogue
) -> tuple[selection.Choice | None, list[selection.Candidate]]:
    candidates: list[selection.Candidate] = []
    for list_wheels in (
        lambda: catalogue.list_release(source, requirement.name, requirement.version),
        # a release need not bear the version's name, and a refusal mentions the other versions
        lambda: catalogue.list_all(source, requirement.name),
    ):
        assets = list_wheels()
        if assets is None:
            continue
        candidates = selection.judge_wheels(requirement.name, assets, environment)
        choice = selection.choose_best(candidates, requirement.specifier, environment)
        if choice:
            return choice, candidates
    return None, candidates


def _describe(candidate: selection.Candidate, source: Source) -> dict[str, t.Any]:
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


def _guess_with_warning(
    requirement: WheelRequirement, environment: Environment, github_url: str, why: str
) -> dict[str, t.Any]:
    warning = (
        f"{why} So the wheel of {requirement} is the one that its setup.py would guess, and whether it exists shows at the"
        " download."
    )
    return {**guess_wheel(requirement, environment, github_url), "warnings": [warning]}


def _nothing_fits_message(
    requirement: WheelRequirement,
    environment: Environment,
    sources: t.Sequence[Source],
    candidates: t.Sequence[selection.Candidate],
    failures: t.Sequence[str],
) -> str:
    names = ", ".join(source.text for source in sources)
    allowed = [candidate for candidate in candidates if candidate.version in requirement.specifier]
    count = (
        f"{len(allowed)} of {requirement} and {len(candidates) - len(allowed)} of other versions"
        if candidates
        else "none of this package"
    )
    return " ".join(
        [
            f"No wheel of {requirement} fits this node: {selection.describe_node(environment)}.",
            f"Looked at in {names}: {count}.",
            *selection.describe_nearest(candidates, requirement.specifier),
            *failures,
            "Knobs: torch_extension_packages (another version), torch_extension_sources (more places), or another torch on"
            " the node.",
        ]
    )

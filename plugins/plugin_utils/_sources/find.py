# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find wheels that exist: ask the sources in their order, one after the other, or say what comes nearest."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import nearest
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import suggestion
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.answer import SourceAnswer, ask_source
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    BUILD,
    BUNDLE,
    GUESS,
    RELEASE,
    Source,
    expand_source,
)

Environment = t.Mapping[str, t.Any]

_MAX_PROVABLE = 4  # wheels for another torch that are worth a download each, of all sources together


class Offer(t.NamedTuple):
    """A wheel that may serve a node."""

    wheel: dict[str, t.Any]  # the part of the lookup's answer that the source knows
    needs_proof: bool  # nothing but the node can tell whether it does


class WheelSearch:
    """Asks sources for a requirement, each only when what the ones before it have does not do."""

    def __init__(
        self,
        requirement: WheelRequirement,
        environment: Environment,
        sources: t.Sequence[Source],
        access: SourceAccess,
    ) -> None:
        self._requirement = requirement
        self._environment = environment
        self._asked = sources
        self._access = access
        self._catalogue = WheelCatalogue(access)
        self._sources = [
            part
            for source in sources
            if source.kind != BUILD
            for part in expand_source(source, requirement.name, environment, access.place_urls)
        ]
        self._builds = any(source.kind == BUILD for source in sources)
        self._answers: dict[Source, SourceAnswer] = {}
        self._unasked: dict[str, None] = {}  # why sources could not be asked, each once
        self._refusals: dict[str, None] = {}  # what bundles, and the guess, say for themselves

    def offers(self) -> t.Iterator[Offer]:
        """The wheels to try, source by source: those that fit, or of which nobody tells for which torch they are, the newest
        version first.

        :raises TorchExtensionError: if the only source cannot be asked, or a guess fails
        """
        for source in self._sources:
            try:
                with explain_unforeseen(f"What {source.text} has"):
                    offers = self._ask(source)
                yield from offers
            except UnavailableError as exc:
                self._unasked[f"{source.text}: {exc}"] = None
            except TorchExtensionError as exc:
                if len(self._asked) == 1:
                    raise
                told = self._refusals if source.kind in (GUESS, BUNDLE) else self._unasked
                told[f"{source.text}: {exc}"] = None

    def _ask(self, source: Source) -> t.Iterable[Offer]:
        """What a source has."""
        if source.kind == GUESS:
            return [self._guess()]
        if source.kind == BUNDLE:
            return [Offer(self._find_in_bundle(source), needs_proof=False)]
        answer = ask_source(source, self._requirement, self._environment, self._catalogue)
        self._answers[source] = answer
        return map(self._to_offer, answer.wheels)

    def offers_for_another_torch(self) -> list[Offer]:
        """The wheels for another minor version of torch that the sources have, which have been asked before; in the order in which
        to try them.
        """
        # with packaging come its parsers
        from packaging.version import Version

        best: dict[tuple[Version, bool, int], dict[str, t.Any]] = {}
        for wheel in (wheel for answer in self._answers.values() for wheel in answer.provable):
            key = (Version(wheel["version"]), wheel["distance"] >= 0, -abs(wheel["distance"]))
            if key not in best or wheel["rank"] < best[key]["rank"]:
                best[key] = wheel
        return [
            self._to_offer({**best[key], "needs_proof": True}) for key in sorted(best, reverse=True)[:_MAX_PROVABLE]
        ]

    def offers_to_build(self) -> t.Iterator[Offer]:
        """The wheels that were built for nodes like this one; else one that has to be built, which has no URL yet.

        Nothing, if ``build`` is not among the sources. Why it cannot be built is kept for a refusal.
        """
        if not self._builds:
            return
        # most runs build nothing
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.building import find_or_build

        try:
            wheels = find_or_build(self._requirement, self._environment, self._asked, self._access)
        except UnavailableError as exc:
            self._unasked[f"{BUILD}: {exc}"] = None
        except TorchExtensionError as exc:
            self._refusals[f"{BUILD}: {exc}"] = None
        else:
            yield from (self._to_offer({**wheel, "needs_proof": False}) for wheel in wheels)

    def explain_nothing_fits(self) -> str:
        """Why no source has a wheel, and what comes nearest."""
        requirement, summaries = self._requirement, [answer.nearest for answer in self._answers.values()]
        names = ", ".join(dict.fromkeys(source.text for source in self._answers or self._asked))
        allowed, others = sum(each.allowed for each in summaries), sum(each.others for each in summaries)
        node = nearest.describe_node(self._environment)
        wanted = f"{requirement} with the label +{requirement.label}" if requirement.label else str(requirement)
        if not self._answers and not self._refusals and self._unasked:
            return " ".join(
                [
                    f"Whether there is a wheel of {wanted} for this node is not known: {node}. Nobody could be asked.",
                    *self._unasked,
                    *self._suggest(),
                    "Run again once they answer, or name places that you can reach in torch_extension_sources, such as an index or a"
                    f" folder.{self._advise_guess()}",
                ]
            )
        if not self._sources and not self._builds:
            looked_at = f"Nobody was asked, for none of these publishes {requirement.name}: {names}."
        elif allowed or others:
            looked_at = f"Looked at in {names}: {allowed} of {requirement} and {others} of other versions."
        elif self._answers:
            looked_at = f"Looked at in {names}: none of this package."
        else:
            looked_at = ""
        unknown = (
            ["What is in these is not known, for they could not be asked:", *self._unasked] if self._unasked else []
        )
        return " ".join(
            [
                f"No wheel of {wanted} fits this node: {node}.",
                *([looked_at] if looked_at else []),
                *self._explain_missing_pages(),
                *nearest.describe_nearest(summaries),
                *self._explain_label(),
                *self._refusals,
                *unknown,
                *self._suggest(),
                "Knobs: torch_extension_packages (another version), torch_extension_sources (more places), or another torch"
                " on the node.",
            ]
        )

    def _advise_guess(self) -> str:
        """For a version whose wheel can be named without asking anybody."""
        if RELEASE not in (source.kind for source in self._sources):
            return ""
        try:
            guess_wheel(self._requirement, self._environment, self._access.github_url)
        except TorchExtensionError:
            return ""
        return (
            " Behind release, guess takes the file name that setup.py of this version would use, whether such a wheel exists or not:"
            " torch_extension_sources: [release, guess]."
        )

    def _suggest(self) -> list[str]:
        if not self._access.suggest:
            return []
        return suggestion.suggest_places(self._requirement, self._environment, self._asked, self._access)

    def _explain_missing_pages(self) -> list[str]:
        """The known places of which no page is there, which may be the fault of a mirror; a sentence each."""
        pages: dict[str, list[Source]] = {}
        for source in self._answers:
            pages.setdefault(source.text, []).append(source)
        return [
            f"{name} has no page of it: there is none at {' and '.join(source.location for source in parts[:2])} (404)"
            f"{f', nor at {len(parts) - 2} more' if parts[2:] else ''}."
            for name, parts in pages.items()
            if all(self._answers[source].is_missing for source in parts)
        ]

    def _explain_label(self) -> list[str]:
        if self._requirement.label is None:
            return []
        return [
            f"'{self._requirement}' in torch_extension_packages, without the label, takes the wheel for this node, if there is one."
        ]

    def _to_offer(self, wheel: t.Mapping[str, t.Any]) -> Offer:
        described = {key: value for key, value in wheel.items() if key not in ("needs_proof", "distance", "rank")}
        return Offer(
            {
                **described,
                "warnings": [*self._unasked, *self._refusals, *self._catalogue.warnings, *wheel.get("warnings", ())],
            },
            needs_proof=wheel["needs_proof"],
        )

    def _guess(self) -> Offer:
        """The guess, with a warning if the sources before it could not be asked: they might have had another wheel."""
        try:
            wheel = guess_wheel(self._requirement, self._environment, self._access.github_url)
        except setup_py.NoGuessError as exc:
            if not exc.is_unknown:
                raise
            raise TorchExtensionError(
                f"{exc} Take release into torch_extension_sources, which knows what there is without a table; or ask for another"
                " version in torch_extension_packages. A newer version of this collection may know this one."
            ) from exc
        guessed = (
            f"The file name of {self._requirement} is a guess, the one that its setup.py would use; it may not exist."
        )
        return Offer({**wheel, "warnings": [*self._unasked, guessed] if self._unasked else []}, needs_proof=False)

    def _find_in_bundle(self, source: Source) -> dict[str, t.Any]:
        # only bundles need archives and pip's answers
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import open_bundle

        wheel = open_bundle(source.location).find(str(self._requirement), self._environment)
        return {**wheel, "source": source.text}


def guess_wheel(requirement: WheelRequirement, environment: Environment, github_url: str) -> dict[str, t.Any]:
    """The wheel whose URL the version's own setup.py would guess, whether it exists or not.

    :raises TorchExtensionError: if the version guesses nothing on such a node, or the requirement pins none
    """
    if requirement.version is None:
        newest = setup_py.find_package(requirement.name)[1].versions[-1:]
        example = f"'{requirement.name}=={newest[0]}', the newest that this collection knows" if newest else "a pin"
        raise TorchExtensionError(
            f"{str(requirement)!r} does not pin one version, which source=guess needs. Write for example {example}."
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

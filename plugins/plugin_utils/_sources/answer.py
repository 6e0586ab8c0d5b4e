# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What one source has for a requirement on a node.

A listing has thousands of names, and nodes of one kind get the same answer, each in a process of its own. So what a source on the
network has for a kind is kept in the cache of the control node as long as its listing is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    judging,
    labels,
    nearest,
    selection,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.signed_links import SignedLinks
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import kind_of_node
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import DIRECTORY, Source

_FORMAT = 3  # of what is kept

Environment = t.Mapping[str, t.Any]
Wheel = dict[str, t.Any]


class SourceAnswer(t.NamedTuple):
    """What a source has, the best first. All of it goes through JSON."""

    #: the wheels that fit, and (with ``needs_proof``) those of which nobody tells for which torch they are: as the lookup
    #: describes them, as far as the source knows it
    wheels: list[Wheel]
    provable: list[Wheel]  # for another minor version of torch, with ``distance`` and ``rank``; they fit in all else
    nearest: nearest.Nearest  # for a refusal
    is_missing: bool = False  # it is a page of a known place, and there is none (404)


def ask_source(
    source: Source,
    requirement: WheelRequirement,
    environment: Environment,
    catalogue: WheelCatalogue,
) -> SourceAnswer:
    """What a source has for a requirement on a node: from the cache, or judged anew.

    :raises TorchExtensionError: if the source cannot be asked
    """
    if source.kind == DIRECTORY:  # it changes when the operator changes it
        return _from_json(_to_json(_judge_source(source, requirement, environment, catalogue), 0))[0]
    access = catalogue.access
    path = os.path.join(access.cache, "answers", _key(source, requirement, environment, access) + ".json")
    kept = _load(path, access.max_age)
    if kept is None:
        known = len(catalogue.warnings)
        answer = _judge_source(source, requirement, environment, catalogue)
        text = _to_json(answer, catalogue.oldest_answer())
        # an old listing has a warning, and is asked for again by the next node
        if access.max_age and len(catalogue.warnings) == known:
            _store(path, text)
        kept, _time = _from_json(text)
    return kept


def _judge_source(
    source: Source, requirement: WheelRequirement, environment: Environment, catalogue: WheelCatalogue
) -> SourceAnswer:
    judgement, selected = judging.Judgement([], []), selection.Selection([], [], [])
    unavailable: UnavailableError | None = None
    for list_wheels in (
        lambda: catalogue.list_release(source, requirement.name, requirement.version),
        # a release need not bear the version's name, and a refusal mentions the other versions
        lambda: catalogue.list_all(source, requirement.name),
    ):
        try:
            assets = list_wheels()
        except UnavailableError as exc:  # a list that was kept may have this version, too
            unavailable = unavailable or exc
            continue
        except TorchExtensionError as exc:
            raise unavailable or exc from None
        if assets is None:
            continue
        judgement = judging.judge_wheels(requirement.name, assets, environment, source.grammar)
        judgement = _hold_against_label(_merge_links(judgement), requirement)
        selected = selection.select_wheels(judgement.candidates, requirement.specifier, environment)
        if selected.fitting or selected.untold:
            break
    if unavailable and not (selected.fitting or selected.untold or selected.provable):
        raise unavailable
    judgement, selected = _read_metadata(judgement, selected, environment, catalogue)
    links = SignedLinks(catalogue.access.cache)
    cuda = environment["torch"]["cuda"]
    return SourceAnswer(
        _describe_all(source, requirement, judgement, selected, environment, links),
        [
            {
                **_describe(each, source, selection.describe_label(each), links),
                "distance": _distance(each, environment),
                "rank": selection.rank_of(each, cuda),
            }
            for each in selected.provable
        ],
        nearest.summarise(judgement, requirement.specifier),
        source.location in catalogue.missing,
    )


def _merge_links(judgement: judging.Judgement) -> judging.Judgement:
    """Take the links to one file together: the first that gives it will do. A page may link to a view of it for people, too."""
    merged: list[judging.Candidate] = []
    places: dict[str, list[int]] = {}
    for candidate in judgement.candidates:
        of_name = places.setdefault(candidate.asset.filename, [])
        place = next((each for each in of_name if _is_same_file(merged[each], candidate)), None)
        if place is None:
            of_name.append(len(merged))
            merged.append(candidate)
            continue
        first, asset = merged[place].asset, candidate.asset
        if asset.url not in (first.url, *first.other_urls):
            first = first._replace(other_urls=(*first.other_urls, asset.url))
        merged[place] = merged[place]._replace(
            asset=first._replace(sha256=first.sha256 or asset.sha256, size=first.size or asset.size)
        )
    return judgement._replace(candidates=merged)


def _is_same_file(one: judging.Candidate, other: judging.Candidate) -> bool:
    """Whether two candidates of one name are one file, as far as anybody tells."""
    known = [(getattr(one.asset, fact), getattr(other.asset, fact)) for fact in ("sha256", "size", "metadata_sha256")]
    if any(None not in pair and pair[0] != pair[1] for pair in known):
        return False
    if one.asset.sha256 and one.asset.sha256 == other.asset.sha256:
        return True
    return (one.asset.release, one.label, one.mismatches) == (other.asset.release, other.label, other.mismatches)


def _hold_against_label(judgement: judging.Judgement, requirement: WheelRequirement) -> judging.Judgement:
    """Refuse the wheels that bear another label than the one that is asked for, if one is."""
    if requirement.label is None:
        return judgement
    candidates = []
    for candidate in judgement.candidates:
        mismatch = requirement.label_mismatch(candidate.asset.filename)
        if mismatch and candidate.version in requirement.specifier:
            fits = f"{candidate.asset.filename} fits by its name, but it " if not candidate.mismatches else "it "
            refusal = judging.Mismatch("label", "", "", f"{fits}{mismatch}")
            candidate = candidate._replace(mismatches=(*candidate.mismatches, refusal))
        candidates.append(candidate)
    return judgement._replace(candidates=candidates)


def _read_metadata(
    judgement: judging.Judgement,
    selected: selection.Selection,
    environment: Environment,
    catalogue: WheelCatalogue,
) -> tuple[judging.Judgement, selection.Selection]:
    """Hold wheels against what their METADATA says of torch, where that is to be had without the wheel.

    It is for those that tell no torch. Of those that do, the METADATA of the best is read if the source offers it as a file.
    """
    if not selected.untold and not any(candidate.asset.has_metadata for candidate in selected.fitting):
        return judgement, selected
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.metadata import MetadataReader

    reader = MetadataReader(catalogue.access, environment)
    refused: dict[str, judging.Candidate] = {}  # by URL
    fitting: list[judging.Candidate] = []
    for candidate in selected.fitting:
        if not fitting and candidate.asset.has_metadata:
            candidate = reader.hold_against(candidate)
        if candidate.mismatches:
            refused[candidate.asset.url] = candidate
        else:
            fitting.append(candidate)
    pinned: list[judging.Candidate] = []
    untold: list[judging.Candidate] = []
    for candidate in selected.untold:
        held = reader.hold_against(candidate)
        if held.mismatches:
            refused[candidate.asset.url] = held
        else:
            (pinned if held.tells_torch else untold).append(held)
    candidates = [refused.get(candidate.asset.url, candidate) for candidate in judgement.candidates]
    fitting = sorted([*fitting, *pinned], key=lambda candidate: candidate.version, reverse=True)
    return judgement._replace(candidates=candidates), selected._replace(fitting=fitting, untold=untold)


def _describe_all(
    source: Source,
    requirement: WheelRequirement,
    judgement: judging.Judgement,
    selected: selection.Selection,
    environment: Environment,
    links: SignedLinks,
) -> list[Wheel]:
    """The newest version first; of one version those that fit before those of which nobody tells for which torch they are."""
    candidates = sorted([*selected.fitting, *selected.untold], key=lambda candidate: candidate.version, reverse=True)
    wheels: list[Wheel] = []
    for candidate in candidates:
        if candidate.tells_torch:
            ground = selection.explain_choice(candidate, judgement.candidates)
            ground += _explain_early_torch(candidate, environment)
        else:
            ground = f"{selection.describe_label(candidate)}, and nothing tells for which torch it is"
        wheel = {**_describe(candidate, source, ground, links), "needs_proof": not candidate.tells_torch}
        if not wheels:
            wheel["refused"] = selection.group_refusals(judgement.candidates, candidate, judgement.misnamed)
            wheel["newer"] = nearest.explain_newer(judgement, requirement.specifier, candidate)
        wheels.append(wheel)
    return wheels


def _explain_early_torch(candidate: judging.Candidate, environment: Environment) -> str:
    """What the name of a wheel is worth where torch is a build between two versions, such as NVIDIA's or a nightly one."""
    version, built_for = judging.parse_torch_version(environment["torch"]["version"]), candidate.label.built_for
    if not version.is_prerelease or not isinstance(built_for, labels.Torch):
        return ""
    if judging.parse_torch_version(built_for.version).is_prerelease:
        return ""
    return (
        f"; this torch is a build before {version.base_version}, and a wheel for torch {built_for.version} may have been made for a"
        " later one, so that alone promises nothing"
    )


def _describe(candidate: judging.Candidate, source: Source, ground: str, links: SignedLinks) -> Wheel:
    asset = candidate.asset
    return {
        "version": str(candidate.version),
        "filename": asset.filename,
        "url": links.keep(asset.url),
        "other_urls": [links.keep(url) for url in asset.other_urls],
        "source": source.text,
        "size": asset.size,
        "sha256": asset.sha256,
        "release": asset.release,
        "ground": ground,
    }


def _distance(candidate: judging.Candidate, environment: Environment) -> int:
    """How many minor versions older the torch is that a wheel was built for; negative for a newer one."""
    built_for = judging.parse_torch_version(candidate.label.built_for.version)  # type: ignore[union-attr]
    return int(judging.parse_torch_version(environment["torch"]["version"]).minor - built_for.minor)


def _key(source: Source, requirement: WheelRequirement, environment: Environment, access: SourceAccess) -> str:
    """All that an answer depends on, but the listing."""
    facts = [
        _FORMAT,
        source,
        requirement.name,
        str(requirement.specifier),
        requirement.label,
        kind_of_node(environment),
        access.github_url,
        access.github_api_url,
        bool(access.github_token),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _to_json(answer: SourceAnswer, begun: float) -> str:
    return json.dumps({**answer._asdict(), "time": begun})


def _from_json(text: str) -> tuple[SourceAnswer, float]:
    """An answer, and when it was asked for, in seconds since the epoch."""
    fields = parse_json(text)
    begun = fields.pop("time")
    return SourceAnswer(**{**fields, "nearest": nearest.Nearest(*fields["nearest"])}), begun


def _load(path: str, max_age: float) -> SourceAnswer | None:
    try:
        with open(path, encoding="utf-8") as file:
            answer, begun = _from_json(file.read())
        return answer if 0 <= time.time() - begun < max_age else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _store(path: str, text: str) -> None:
    with explain_write_errors(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic.write_bytes(path, text.encode())

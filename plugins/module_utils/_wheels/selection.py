# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which of the wheels that a source has serve a node, the best one first.

First the newest version that the requirement allows; of that, in this order:

1. built for torch's own CUDA minor, then for an older one (the nearer the better), then for one that is not told, then for a
   newer one;
2. the name tells the C++ ABI;
3. the name tells more of torch's version, or NVIDIA's image that the node runs;
4. the more specific tag of Python, as pip ranks them;
5. the tag promises the system that it needs (``manylinux``, not ``linux``), and then the more specific one, as pip ranks them;
6. the higher build number (PEP 427);
7. the newer release, as its source lists them; and at last the file name, so that there is always the same answer.

A wheel of which neither its name nor its address tells the torch may fit, too: its METADATA may tell, and its binaries do. And so
may one for another minor version of torch, that fits in all else. No table tells: wheels for torch 2.10 load on 2.11 and 2.12, and
not on 2.13.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels

if t.TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.version import Version

EXACT, PROVEN = "exact", "proven"
MATCHES = [EXACT, PROVEN]

_IMAGE_TELLS_ALL = -6  # an image stands for one build of torch: no version has so many parts
_MAX_FITTING = 4  # of one source, that are tried one after the other
_MAX_UNTOLD = 4  # of one source, whose METADATA is worth a request
_MAX_PROVABLE = 4  # wheels for another torch that are worth a download each
_MAX_REASONS = 12  # in one answer


class Rank(t.NamedTuple):
    """How good a wheel is among those of its version that fit, by the rule above; the lower, the better."""

    cuda_distance: tuple[int, int]
    is_abi_untold: bool
    untold_torch: int  # minus the number of parts of torch's version that are told
    tag: judging.TagRank
    build: tuple[int, ...]  # descending
    place: int  # in its source
    filename: str


class Selection(t.NamedTuple):
    """The wheels of a source that may serve a node, each list with the best first."""

    fitting: list[judging.Candidate]
    untold: list[judging.Candidate]  # nobody has told for which torch they are; they fit in all else
    provable: list[judging.Candidate]  # for another minor version of torch; they fit in all else


def select_wheels(
    candidates: t.Sequence[judging.Candidate], specifier: SpecifierSet, environment: t.Mapping[str, t.Any]
) -> Selection:
    """Select and sort the wheels that may serve a node; of each kind not more than are worth a try.

    :param specifier: the versions that the requirement allows (PEP 440); pre-releases count where nothing else fits
    """
    may_serve = [candidate for candidate in candidates if not candidate.mismatches]
    fitting = [candidate for candidate in may_serve if candidate.tells_torch]
    untold = [candidate for candidate in may_serve if not candidate.tells_torch]
    return Selection(
        _best_first(fitting, specifier, environment)[:_MAX_FITTING],
        _best_first(untold, specifier, environment)[:_MAX_UNTOLD],
        _select_provable(candidates, specifier, environment),
    )


def _best_first(
    candidates: t.Sequence[judging.Candidate], specifier: SpecifierSet, environment: t.Mapping[str, t.Any]
) -> list[judging.Candidate]:
    allowed = set(specifier.filter({candidate.version for candidate in candidates}))
    cuda = environment["torch"]["cuda"]
    ranked = sorted(
        (candidate for candidate in candidates if candidate.version in allowed),
        key=lambda candidate: rank_of(candidate, cuda),
    )
    return sorted(ranked, key=lambda candidate: candidate.version, reverse=True)  # it keeps the order of equals


def rank_of(candidate: judging.Candidate, cuda: str | None) -> Rank:
    """
    :param candidate: one whose tags serve the node
    :param cuda: version of CUDA that the node's torch is built for
    """
    label, built_for = candidate.label, candidate.label.built_for
    if isinstance(built_for, labels.NvidiaImage):
        untold_torch = _IMAGE_TELLS_ALL
    else:
        untold_torch = -len(version_parts(built_for.version)) if built_for else 0
    number, *rest = candidate.name.build or (0, "")
    return Rank(
        _cuda_distance(label.gpu_version if label.gpu_platform == labels.CUDA else None, cuda),
        label.cxx11_abi is None,
        untold_torch,
        candidate.tag_rank or judging.TagRank(0, False, 0),
        (-int(number), *(-ord(letter) for letter in str(rest[0])), 1),
        candidate.place,
        candidate.asset.filename,
    )


def _cuda_distance(wheel: str | None, torch: str | None) -> tuple[int, int]:
    if not wheel or not torch or "." not in wheel or "." not in torch:
        return (2, 0)
    distance = int(torch.split(".")[1]) - int(wheel.split(".")[1])
    if distance < 0:
        return (3, -distance)
    return (1 if distance else 0, distance)


def _select_provable(
    candidates: t.Iterable[judging.Candidate], specifier: SpecifierSet, environment: t.Mapping[str, t.Any]
) -> list[judging.Candidate]:
    """Wheels that were built for another minor version of torch, and fit in all else: what to try, in this order.

    That is the newest version first; of that first those for older versions of torch, the nearest first, since a newer torch
    mostly still exports what an older one did; and of those for one torch the best by the rule above.
    """
    node, cuda = judging.parse_torch_version(environment["torch"]["version"]), environment["torch"]["cuda"]
    best: dict[tuple[Version, bool, int], judging.Candidate] = {}
    others = [candidate for candidate in candidates if [each.part for each in candidate.mismatches] == ["torch"]]
    allowed = set(specifier.filter({candidate.version for candidate in others}))
    for candidate in others:
        if candidate.version not in allowed or not isinstance(candidate.label.built_for, labels.Torch):
            continue
        built_for = Version(candidate.label.built_for.version)
        distance = node.minor - built_for.minor
        if built_for.major == node.major:
            key = (candidate.version, distance >= 0, -abs(distance))
            best[key] = min(best.get(key, candidate), candidate, key=lambda one: rank_of(one, cuda))
    return [best[key] for key in sorted(best, reverse=True)[:_MAX_PROVABLE]]


def group_refusals(
    candidates: t.Sequence[judging.Candidate], best: judging.Candidate, misnamed: t.Sequence[judging.Misnamed]
) -> list[dict[str, t.Any]]:
    """Why the other wheels of a version are not taken: each reason once, with their number and one of them; most frequent first.

    A wheel with several reasons counts for the first one.

    :returns: ``reason``, ``count`` and ``filename`` of each
    """
    groups: dict[str, dict[str, t.Any]] = {}
    for candidate in candidates:
        if candidate.version == best.version and candidate.asset is not best.asset:
            if candidate.mismatches:
                reason = str(candidate.mismatches[0])
            elif candidate.tells_torch:
                is_namesake = candidate.asset.filename == best.asset.filename
                where = f" of {best.asset.url}" if is_namesake else ""
                reason = f"it fits, but {best.asset.filename}{where} is nearer"
            else:
                reason = "nothing tells for which torch it is"
            _count(groups, reason, candidate.asset.filename)
    for file in misnamed:
        _count(groups, file.reason, file.filename)
    listed = sorted(groups.values(), key=lambda group: -group["count"])
    rest = listed[_MAX_REASONS:]
    if rest:
        count, reason = sum(group["count"] for group in rest), f"{len(rest)} more reasons"
        listed = [*listed[:_MAX_REASONS], {"reason": reason, "count": count, "filename": rest[0]["filename"]}]
    return listed


def _count(groups: dict[str, dict[str, t.Any]], reason: str, filename: str) -> None:
    group = groups.setdefault(reason, {"reason": reason, "count": 0, "filename": filename})
    group["count"] += 1


def explain_choice(best: judging.Candidate, candidates: t.Sequence[judging.Candidate]) -> str:
    """Why a wheel is the best of its version, in a sentence."""
    same = [candidate for candidate in candidates if candidate.version == best.version]
    fit = sum(not candidate.mismatches and candidate.tells_torch for candidate in same)
    if len(same) == 1:
        return f"{describe_label(best)}; the only wheel of {best.version}"
    return f"{describe_label(best)}; {fit} of {len(same)} wheels of {best.version} fit"


def describe_label(candidate: judging.Candidate) -> str:
    """What the name of a wheel says, and what its address and its METADATA say beyond that, in words."""
    sentences, known = [], labels.NOTHING_TOLD
    for origin, label in candidate.claims:
        news = label._replace(**{fact: None for fact in label._fields if getattr(known, fact) is not None})
        known = known._replace(**{fact: value for fact, value in news._asdict().items() if value is not None})
        told = _describe_facts(news, is_name=origin == judging.NAME)
        if origin == judging.NAME:
            tags = (candidate.name.pythons, candidate.name.abis, candidate.name.platforms)
            told.append("-".join(".".join(sorted(part)) for part in tags))
        if told:
            sentences.append(f"{origin} says {', '.join(told)}")
    if candidate.required_torch:
        sentences.append(f"its METADATA requires {candidate.required_torch}")
    if candidate.unread:
        sentences.append(f"its METADATA could not be read ({candidate.unread.rstrip('.')})")
    return "; ".join(sentences)


def _describe_facts(label: labels.Label, is_name: bool) -> list[str]:
    told = [labels.describe_built_for(label.built_for)] if label.built_for else []
    if label.gpu_version or label.gpu_platform == labels.CPU:
        told.append(f"{label.gpu_platform or ''} {label.gpu_version or ''}".strip())
    if label.cxx11_abi is not None:
        told.append(f"C++11 ABI {judging.format_abi(label.cxx11_abi)}")
    elif is_name and label.built_for:
        told.append("an untold C++11 ABI")
    return told


def version_parts(text: str) -> list[str]:
    return [piece for piece in text.replace("+", ".").replace(" ", ".").split(".") if piece]

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What comes nearest where no wheel fits a node: what the node would need, or which other version would do."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import version_parts

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.specifiers import SpecifierSet

_MAX_VALUES = 6  # of a kind in one message


class Nearest(t.NamedTuple):
    """What a source has of a package, in so far as a refusal tells it. It is small, and goes through JSON."""

    allowed: int = 0  # wheels of versions that the requirement allows
    others: int = 0  # of other versions
    fewest: int = 0  # mismatches of those that are allowed, at least
    values: t.Sequence[
        tuple[str, ...]
    ] = ()  # of those with the fewest: the parts that do not fit; behind them, what is wanted
    other_versions: t.Sequence[str] = ()  # that the requirement does not allow, and that have a wheel that fits
    misnamed: t.Sequence[tuple[str, str]] = ()  # files that look like wheels: name, what is wrong with it


def summarise(judgement: judging.Judgement, specifier: SpecifierSet) -> Nearest:
    """What a refusal has to tell of the wheels of one source."""
    allowed = [candidate for candidate in judgement.candidates if candidate.version in specifier]
    counts = [len(candidate.mismatches) for candidate in allowed if candidate.mismatches]
    fewest = min(counts, default=0)
    values: dict[tuple[str, ...], None] = {}
    for candidate in allowed:
        if candidate.mismatches and len(candidate.mismatches) == fewest:
            sentence = next((str(mismatch) for mismatch in candidate.mismatches if mismatch.sentence), None)
            if sentence:
                values.setdefault((sentence,))
                continue
            first, *others = candidate.mismatches
            wanted = " and ".join([first.wanted, *(f"{other.part} {other.wanted}" for other in others)])
            values.setdefault((first.part, *(other.part for other in others), wanted))
    other_versions = {
        item.version
        for item in judgement.candidates
        if not item.mismatches and item.tells_torch and item.version not in specifier
    }
    return Nearest(
        len(allowed),
        len(judgement.candidates) - len(allowed),
        fewest,
        list(values),
        [str(version) for version in sorted(other_versions, reverse=True)],
        [(file.filename, file.reason) for file in judgement.misnamed],
    )


def describe_nearest(summaries: t.Sequence[Nearest]) -> list[str]:
    """What comes nearest in several sources, a sentence each."""
    sentences = []
    fewest = min((each.fewest for each in summaries if each.values), default=0)
    wanted_by_parts: dict[tuple[str, ...], set[str]] = {}
    for value in (value for each in summaries if each.fewest == fewest for value in each.values):
        wanted_by_parts.setdefault(tuple(value[:-1]), set()).add(value[-1])
    for parts, values in wanted_by_parts.items():
        listed = _join(sorted(values, key=_natural_sort_key, reverse=True), "or")
        sentences.append(f"There is one for {parts[0]} {listed}." if parts else f"Of what there is, {listed}.")
    versions = list(dict.fromkeys(version for each in summaries for version in each.other_versions))
    if versions:
        sentences.append(f"For this node as it is there is a wheel of version {_join(versions, 'and')}.")
    misnamed = [file for each in summaries for file in each.misnamed]
    for filename, reason in misnamed[:1]:
        more = f" Neither were {len(misnamed) - 1} more." if misnamed[1:] else ""
        sentences.append(f"{filename!r} was not looked at: {reason}.{more}")
    return sentences


def describe_node(environment: t.Mapping[str, t.Any]) -> str:
    """The facts of a node that a wheel has to fit, in a line."""
    python, platform, torch = environment["python"], environment["platform"], environment["torch"]
    libc = platform["libc"] or {}
    gpu = f"ROCm {torch['hip']}" if torch["hip"] else f"CUDA {torch['cuda']}"
    return ", ".join(
        [
            f"Python {python['abi']}",
            f"torch {torch['version']} ({gpu}, C++11 ABI {judging.format_abi(torch['cxx11_abi'])})",
            f"{platform['system']} {platform['machine']}",
            f"{libc.get('name') or 'libc'} {libc.get('version') or 'unknown'}",
        ]
    )


def explain_newer(
    judgement: judging.Judgement, specifier: SpecifierSet, best: judging.Candidate
) -> list[dict[str, str]]:
    """Newer versions than the chosen one that the requirement allows and that have no wheel for the node, with the reason."""
    counts: dict[t.Any, list[judging.Candidate]] = {}
    for candidate in judgement.candidates:
        if candidate.version > best.version:
            counts.setdefault(candidate.version, []).append(candidate)
    newer = []
    for version in sorted(counts, reverse=True):
        if version in specifier:
            of_version = judging.Judgement(counts[version], [])
            nearest = describe_nearest([summarise(of_version, SpecifierSet(f"=={version}"))])
            reason = f"none of its {len(counts[version])} wheels fits. " + " ".join(nearest)
            newer.append({"version": str(version), "reason": reason})
    return newer[:_MAX_VALUES]


def _join(values: t.Sequence[str], conjunction: str) -> str:
    shown = list(values[:_MAX_VALUES])
    if len(values) > len(shown):
        return f"{', '.join(shown)} and {len(values) - len(shown)} more"
    return f" {conjunction} ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _natural_sort_key(text: str) -> list[t.Any]:
    """Sorts 2.9 before 2.10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in version_parts(text)]

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The outcome of a proof: findings for and against a wheel, and the verdict that follows from them."""

from __future__ import annotations

import typing as t

FITS = "fits"
DOES_NOT_FIT = "does not fit"
UNKNOWN = "cannot be told"

#: what the facts of a wheel call the part of torch that it keeps for two years at least
STABLE_ABI = "stable"


class Finding(t.NamedTuple):
    """One finding about a wheel."""

    verdict: str  # what it speaks for: DOES_NOT_FIT, UNKNOWN, or FITS with a remark
    reason: str  # in words that follow the name of the wheel


class Verdict(t.NamedTuple):
    """The conclusion from all findings."""

    verdict: str
    reasons: list[str]


def conclude(findings: t.Iterable[Finding]) -> Verdict:
    """One definite fault outweighs all doubts, and one doubt all else. The reasons are those of what outweighs."""
    reasons: dict[str, dict[str, None]] = {DOES_NOT_FIT: {}, UNKNOWN: {}, FITS: {}}
    for finding in findings:
        reasons[finding.verdict][finding.reason] = None
    verdict = next((verdict for verdict in (DOES_NOT_FIT, UNKNOWN) if reasons[verdict]), FITS)
    return Verdict(verdict, list(reasons[verdict]))

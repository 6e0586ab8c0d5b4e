# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Choose a wheel for another torch if a node has all that its binaries need, and only then."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import FITS
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    KEEP,
    decide_from_environment,
)


class ProofResult(t.NamedTuple):
    """The outcome of the proof of one wheel."""

    verdict: str
    reasons: t.Sequence[str]
    sha256: str | None  # hexadecimal
    size: int | None  # bytes


Wheel = t.Mapping[str, t.Any]

#: Proves a wheel on the node. None where it would have to be downloaded first, and may not be.
Prove = t.Callable[[Wheel], "ProofResult | None"]


def choose_proven(wheel: Wheel, environment: t.Mapping[str, t.Any], prove: Prove) -> dict[str, t.Any]:
    """Choose from the wheels for another torch, where an answer has no others.

    The installed one is tried first, so that it stays as long as it works; then the others in the order of the answer.

    :param wheel: an answer of ``decision.choose_wheel``, with ``provable``
    :param environment: of the node
    :returns: the first wheel that is proven; or the same answer, with what stands in the way of each
    """
    refused = []
    for candidate in sorted(wheel["provable"], key=lambda each: each["action"] != KEEP):
        try:
            result = prove(candidate)
        except TorchExtensionError as exc:
            refused.append({"filename": candidate["filename"], "reasons": [str(exc)]})
            continue
        if result is None:
            warning = (
                f"{candidate['filename']} is for another torch, and whether it serves this one shows when its binaries are"
                " there, which check mode does not download. It is planned as if it did."
            )
            return {**candidate, "warnings": [*candidate["warnings"], warning]}
        if result.verdict == FITS:
            proven = {
                **candidate,
                "sha256": result.sha256 or candidate["sha256"],
                "size": result.size or candidate["size"],
            }
            ground = f"{candidate['ground']}; this node has all that its binaries need, as was proven"
            action = {} if candidate["pip_cache_path"] else decide_from_environment(proven, environment)._asdict()
            return {**proven, **action, "ground": ground, "refused": refused}
        refused.append(
            {"filename": candidate["filename"], "reasons": [f"{result.verdict}: it {'; it '.join(result.reasons)}"]}
        )
    refusals = [f"{each['filename']} was tried, and does not serve: {'; '.join(each['reasons'])}." for each in refused]
    return {**wheel, "conflicts": [" ".join([*wheel["conflicts"], *refusals])], "refused": refused, "provable": []}

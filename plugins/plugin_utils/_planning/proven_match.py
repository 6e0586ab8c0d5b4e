# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Take a wheel for another torch where, and only where, a node has all that its binaries need."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import FITS
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    KEEP,
    decide_from_environment,
)


class Shown(t.NamedTuple):
    """What became of the proof of one wheel."""

    verdict: str
    reasons: t.Sequence[str]
    sha256: str | None  # hexadecimal
    size: int | None  # bytes


Wheel = t.Mapping[str, t.Any]

#: Proves a wheel on the node. None where it would have to be downloaded first, and may not be.
Prove = t.Callable[[Wheel], "Shown | None"]


def settle(wheel: Wheel, environment: t.Mapping[str, t.Any], prove: Prove) -> dict[str, t.Any]:
    """What takes the place of an answer that has only wheels for another torch.

    What is installed comes first, so that it stays as long as it works; then as the answer has them.

    :param wheel: as ``decision.decide`` has it, with ``provable``
    :param environment: of the node
    :returns: the wheel that was proven; or the same answer, with what stands in the way of each
    """
    refused = []
    for candidate in sorted(wheel["provable"], key=lambda each: each["action"] != KEEP):
        try:
            shown = prove(candidate)
        except TorchExtensionError as exc:
            refused.append({"filename": candidate["filename"], "reasons": [str(exc)]})
            continue
        if shown is None:
            warning = (
                f"{candidate['filename']} is for another torch, and whether it serves this one shows when its binaries are"
                " there, which check mode does not download. It is planned as if it did."
            )
            return {**candidate, "warnings": [*candidate["warnings"], warning]}
        if shown.verdict == FITS:
            proven = {
                **candidate,
                "sha256": shown.sha256 or candidate["sha256"],
                "size": shown.size or candidate["size"],
            }
            ground = f"{candidate['ground']}; this node has all that its binaries need, as was proven"
            action = {} if candidate["pip_cache_path"] else decide_from_environment(proven, environment)._asdict()
            return {**proven, **action, "ground": ground, "refused": refused}
        refused.append(
            {"filename": candidate["filename"], "reasons": [f"{shown.verdict}: it {'; it '.join(shown.reasons)}"]}
        )
    tried = [f"{each['filename']} was tried, and does not serve: {'; '.join(each['reasons'])}." for each in refused]
    return {**wheel, "conflicts": [" ".join([*wheel["conflicts"], *tried])], "refused": refused, "provable": []}

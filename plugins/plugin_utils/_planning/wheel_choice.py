# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Choose the wheel of a node: the first answer that serves it, as far as the node has to show that itself."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import FITS, UNKNOWN
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import decide_from_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import INSTALLED, Decision

_NOT_KNOWN = "whether it serves is not known"
_MAX_TRIED = 8  # wheels that are proven for one requirement: each costs a download


class ProofResult(t.NamedTuple):
    """The outcome of the proof of one wheel."""

    verdict: str
    reasons: t.Sequence[str]
    sha256: str | None  # hexadecimal
    size: int | None  # bytes
    has_stable_abi: bool = False  # its binaries need only what torch keeps stable


class Unfit(t.NamedTuple):
    """A wheel that has been tried on a node, and does not serve it."""

    url: str
    filename: str
    reason: str
    is_known: bool = True  # that it does not serve; if not, it could not be found out

    def __str__(self) -> str:
        outcome = "does not serve" if self.is_known else _NOT_KNOWN
        return f"{self.filename} was tried, and {outcome}: {self.reason.rstrip('.')}."


Wheel = t.Mapping[str, t.Any]

#: Proves a wheel on the node. None where it would have to be downloaded first, and may not be.
Prove = t.Callable[[Wheel], "ProofResult | None"]


def choose_serving(
    decision: Decision, environment: t.Mapping[str, t.Any], prove: Prove | None, unfit: t.Collection[Unfit] = ()
) -> dict[str, t.Any]:
    """Choose the first wheel that serves a node; or explain why none does, with what was tried.

    :param prove: None where there is no node to ask; what needs a proof is passed over then
    :param unfit: wheels that the node has refused before
    :returns: as the lookup ``wheel`` returns it
    """
    tried = {each.url: each for each in unfit}
    refused = list(unfit)
    unproven = 0
    try:
        for wheel, needs_proof, _error in decision.answers():
            if wheel["url"] in tried:
                continue
            if not needs_proof:
                return _with_refused(wheel, refused)
            if prove is None or len(refused) >= _MAX_TRIED:
                unproven += 1
                continue
            try:
                with explain_unforeseen(wheel["filename"] or wheel["name"]):
                    result = prove(wheel)
            except TorchExtensionError as exc:
                refused.append(Unfit(wheel["url"], wheel["filename"] or wheel["name"], str(exc), is_known=False))
                continue
            if result is None:
                return _with_refused({**wheel, "warnings": [*wheel["warnings"], _unproven_warning(wheel)]}, refused)
            if result.verdict == FITS:
                return _with_refused(_proven(wheel, result, environment, decision.reinstall), refused)
            is_known = result.verdict != UNKNOWN
            reason = f"{f'{result.verdict}: ' if is_known else ''}it {'; it '.join(result.reasons)}"
            refused.append(Unfit(wheel["url"], wheel["filename"] or wheel["name"], reason, is_known))
        message = decision.explain_nothing_fits()
    except TorchExtensionError as exc:
        message = str(exc)
    if unproven:
        were = "was" if unproven == 1 else "were"
        reason = "for only the node can tell" if prove is None else f"for {_MAX_TRIED} others were"
        message += f" {unproven} that may serve {were} not tried, {reason}."
    return {**decision.refusal(" ".join([message, *map(str, refused)])), "refused": _as_groups(refused)}


def _proven(wheel: Wheel, result: ProofResult, environment: t.Mapping[str, t.Any], reinstall: bool) -> dict[str, t.Any]:
    proven = {**wheel, "sha256": result.sha256 or wheel["sha256"], "size": result.size or wheel["size"]}
    by = (
        "its binaries need only the part of torch that stays stable, which this torch has"
        if result.has_stable_abi
        else "this node has all that its binaries need"
    )
    is_fixed = wheel["pip_cache_path"] or wheel["source"] == INSTALLED
    action = {} if is_fixed else decide_from_environment(proven, environment, reinstall)._asdict()
    return {**proven, **action, "ground": f"{wheel['ground']}; {by}, as was proven"}


def _unproven_warning(wheel: Wheel) -> str:
    return (
        f"Nothing tells that {wheel['filename']} is for this torch. Whether it serves shows when its binaries are there, which"
        " check mode does not download. It is planned as if it did."
    )


def _with_refused(wheel: Wheel, refused: t.Sequence[Unfit]) -> dict[str, t.Any]:
    return {**wheel, "refused": [*_as_groups(refused), *wheel["refused"]]}


def _as_groups(refused: t.Iterable[Unfit]) -> list[dict[str, t.Any]]:
    return [
        {
            "reason": each.reason if each.is_known else f"{_NOT_KNOWN}: {each.reason}",
            "count": 1,
            "filename": each.filename,
        }
        for each in refused
    ]

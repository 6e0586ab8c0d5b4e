# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Whether the name of a wheel, its METADATA and its binaries say the same, once the wheel is on the control node."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import STABLE_ABI
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels, metadata


def find_disagreements(facts: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> list[str]:
    """Where a wheel contradicts itself, or its METADATA does not allow the torch of a node.

    :param facts: what was read from the wheel
    :returns: in words that follow "it"
    """
    label = labels.parse_filename(facts["filename"]).label
    if isinstance(
        label, labels.Unreadable
    ):  # a place's own grammar has read it, and the binaries are held against the node
        label = labels.NOTHING_TOLD
    reasons = []
    requirement = metadata.torch_requirement(facts["requires_torch"], metadata.marker_environment(environment))
    if requirement is not None:
        torch = environment["torch"]["version"]
        if metadata.contradicts(requirement, label):
            told = labels.describe_built_for(label.built_for)
            reasons.append(f"is for {told} by its name, and requires {requirement} by its METADATA")
        elif not requirement.allows(torch):
            reasons.append(f"requires {requirement} by its METADATA, and this node has torch {torch}")
    binary = labels.Label(gpu_platform=labels.CUDA, gpu_version=facts["cuda"]) if facts["cuda"] else labels.NOTHING_TOLD
    _label, contradictions = judging.combine((judging.NAME, label), ("its binaries", binary))
    reasons += [f"contradicts itself: {each}" for each in contradictions]
    return reasons


def has_stable_abi(facts: t.Mapping[str, t.Any]) -> bool:
    """Whether the binaries of a wheel need no C++ symbol of torch, only its stable C interface."""
    return bool(facts["torch_abi"] == STABLE_ABI)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Whether the packages of a node use each other. It compares versions, so it runs where packaging is: on the control node."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.couplings import (
    COUPLINGS,
    Coupling,
    Gate,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import KEEP
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import public_version

with contextlib.suppress(ImportError):  # the actions say so, before anything comes here
    from packaging.version import InvalidVersion, Version


class Unused(t.NamedTuple):
    """A package that another one of the same environment does not use."""

    name: str
    version: str
    user: str  # the other one, as people call it
    user_version: str
    accepted: str  # the versions that the other one uses, in words
    consequence: str  # for a version that it does not use
    newest_accepted: str | None  # of the versions that are known
    first_user: str | None  # the first version of the other one that uses this version

    @property
    def reason(self) -> str:
        """The fact, what follows, and what to set."""
        remedies = []
        if self.newest_accepted == public_version(self.version):
            remedies.append("set torch_extension_sources to release, whose wheels are installed without such a label")
        elif self.newest_accepted:
            remedies.append(f"set torch_extension_packages to {self.name}=={self.newest_accepted}")
        if self.first_user:
            remedies.append(f"upgrade {self.user} to {self.first_user}")
        advice = ", or ".join(remedies)
        return (
            f"{self.user} {self.user_version} on this node uses {self.name} {self.accepted} and {self.consequence} this"
            f" one.{f' {advice[0].upper()}{advice[1:]}.' if advice else ''}"
        )


def find_unused(environment: t.Mapping[str, t.Any], plan: t.Collection[t.Mapping[str, t.Any]] = ()) -> list[Unused]:
    """The packages of a node that another package there does not use, once a plan is carried out.

    :param environment: as torch_info returns it, with all its distributions
    :param plan: the node's wheels. What none of them has to do with is left out; without any, nothing is
    """
    planned = {
        wheel["name"]: wheel["version"]
        for wheel in plan
        if wheel["version"] and wheel["action"] != KEEP and not wheel["conflicts"]
    }
    versions = {**environment["distributions"], **planned}
    concerned = {wheel["name"] for wheel in plan}
    capabilities = [gpu["compute_capability"] for gpu in environment.get("gpus") or []]
    capability = min((_number(each) for each in capabilities if each), default=None)
    found = []
    for coupling in COUPLINGS:
        # one that is planned tells it rather than one that is there: all distributions of a package have one version
        user_versions = [
            each[name] for each in (planned, versions) for name in coupling.distributions if each.get(name)
        ]
        version = versions.get(coupling.accepts)
        if not user_versions or not version:
            continue
        if concerned and not concerned & {coupling.accepts, *coupling.distributions}:
            continue
        unused = _judge(coupling, public_version(user_versions[0]), version, capability)
        if unused:
            found.append(unused)
    return found


def explain_unused(environment: t.Mapping[str, t.Any], plan: t.Collection[t.Mapping[str, t.Any]]) -> list[str]:
    """Warnings of what would not be used on a node, once a plan is carried out."""
    return [f"{each.name} {each.version}: {each.reason}" for each in find_unused(environment, plan)]


def _judge(coupling: Coupling, user_version: str, version: str, capability: tuple[int, ...] | None) -> Unused | None:
    try:
        gate = _gate_of(coupling, Version(user_version))
        is_used = gate is None or _accepts(gate, Version(version), capability)
    except InvalidVersion:  # nothing can be told of it
        return None
    if gate is None or is_used:
        return None
    known = [known for known in PACKAGES[coupling.accepts].versions if _accepts(gate, Version(known), capability)]
    later = [first for first, gate in coupling.gates if _accepts(gate, Version(version), capability)]
    return Unused(
        coupling.accepts,
        version,
        coupling.title,
        user_version,
        _describe(gate, version, capability),
        gate.consequence,
        max(known, key=Version, default=None),
        next((first for first in later if Version(first) > Version(user_version)), None),
    )


def _gate_of(coupling: Coupling, version: Version) -> Gate | None:
    """None for a version before the first row, or one that nobody has read."""
    if version > Version(coupling.newest_read):
        return None
    return next((gate for first, gate in reversed(coupling.gates) if version >= Version(first)), None)


def _accepts(gate: Gate, version: Version, capability: tuple[int, ...] | None) -> bool:
    compared = version if gate.counts_label else Version(version.public)
    maximum = Version(gate.maximum)
    is_old_enough = compared < maximum if gate.excludes_maximum else compared <= maximum
    return Version(_minimum(gate, capability)) <= compared and is_old_enough


def _minimum(gate: Gate, capability: tuple[int, ...] | None) -> str:
    minima = [minimum for first, minimum in gate.minimum_by_capability if capability and capability >= _number(first)]
    return minima[-1] if minima else gate.minimum


def _describe(gate: Gate, version: str, capability: tuple[int, ...] | None) -> str:
    if Version(version) < Version(_minimum(gate, capability)):
        return f"from {_minimum(gate, capability)} on" + (" on these GPUs" if gate.minimum_by_capability else "")
    if gate.excludes_maximum:
        return f"below {gate.maximum}"
    is_newer_by_label = Version(version).public == gate.maximum
    return f"up to {gate.maximum}{f' (with a label, {gate.maximum} counts as newer)' if is_newer_by_label else ''}"


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What the METADATA of a wheel says of the torch that it needs, held against a node and against the wheel's label."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

#: a pin to one minor version of torch, at least, has so many parts: ==2.11.*, ~=2.11.0
_PINNED_PARTS = 2


class TorchRequirement(t.NamedTuple):
    """What a wheel requires of torch."""

    specifier: SpecifierSet

    def __str__(self) -> str:
        return f"torch{self.specifier}"

    def allows(self, torch: str) -> bool:
        """Whether a version of torch, as a node reports it, will do."""
        version = judging.parse_torch_version(torch)
        return self.specifier.contains(Version(version.public), prereleases=True)

    @property
    def pins(self) -> bool:
        """Whether it names one minor version of torch, which is the one that the wheel was built for."""
        for item in self.specifier:
            parts = len(item.version.replace(".*", "").split("."))
            if item.operator in ("==", "===") and parts >= _PINNED_PARTS:
                return True
            if item.operator == "~=" and parts > _PINNED_PARTS:
                return True
        return False


def marker_environment(environment: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The variables of environment markers (PEP 508) for a node, of which packaging knows only its own machine's."""
    python, platform = environment["python"], environment["platform"]
    implementation = python["implementation"]
    return {
        "extra": "",
        "implementation_name": implementation,
        "implementation_version": python["version"],
        "os_name": "posix",
        "platform_machine": platform["machine"],
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(implementation, implementation),
        "platform_release": "",
        "platform_system": platform["system"].capitalize(),
        "platform_version": "",
        "python_full_version": python["version"],
        "python_version": ".".join(python["version"].split(".")[:2]),
        "sys_platform": platform["system"],
    }


def read_requirement(line: str) -> Requirement:
    """Read a line Requires-Dist (PEP 508).

    :raises ValueError: if it cannot be read, whatever packaging says of it
    """
    try:
        return Requirement(line)
    except RecursionError as exc:  # of packaging before 25
        raise ValueError("its marker has too many brackets") from exc


def applies(requirement: Requirement, markers: t.Mapping[str, str]) -> bool:
    """Whether a requirement counts on a node.

    :raises ValueError: if its marker compares what cannot be compared
    """
    return requirement.marker is None or requirement.marker.evaluate(dict(markers))


def torch_requirement(requires: t.Iterable[str], markers: t.Mapping[str, str]) -> TorchRequirement | None:
    """What a wheel requires of torch, or None if it does not say more than torch.

    :param requires: the lines Requires-Dist of its METADATA
    :param markers: the values of environment markers (PEP 508) of the node; a requirement whose marker cannot be evaluated counts
    """
    specifier = SpecifierSet()
    for line in requires:
        try:
            requirement = read_requirement(line)
        except ValueError:
            continue
        try:
            counts = applies(requirement, {**markers, "extra": ""})
        except ValueError:
            counts = True
        if counts and canonical(requirement.name) == "torch":
            specifier &= requirement.specifier
    return TorchRequirement(specifier) if specifier else None


def contradicts(requirement: TorchRequirement, label: labels.Label) -> bool:
    """Whether a wheel requires another torch than the one that its label says it was built for."""
    if not isinstance(label.built_for, labels.Torch):
        return False
    release = Version(label.built_for.version).release
    patches = [release] if len(release) > 2 else [(*release, patch) for patch in range(10)]
    versions = (".".join(map(str, patch)) for patch in patches)
    return not any(requirement.specifier.contains(version, prereleases=True) for version in versions)

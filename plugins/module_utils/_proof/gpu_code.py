# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether the GPU code of a wheel runs on a node's GPUs with their driver.

Sources: NVIDIA, CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility", with the architecture-specific
(``90a``) and family-specific (``100f``) features; NVIDIA, CUDA Compatibility, "Minor Version Compatibility".
"""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import (
    DOES_NOT_FIT,
    FITS,
    UNKNOWN,
    Finding,
)


class Target(t.NamedTuple):
    """What nvcc made code for: ``90a`` is compute capability 9.0 with features that no other has."""

    major: int
    minor: int
    feature: str  # "a": for exactly that one; "f": for its family; "" for all that is plain

    @classmethod
    def parse(cls, name: str) -> Target:
        """The target of a name such as "80", "90a" or "103f".

        :raises ValueError: if it is none
        """
        digits = name.rstrip("af")
        return cls(int(digits[:-1]), int(digits[-1]), name[len(digits) :])

    def serves_as_binary(self, capability: tuple[int, int]) -> bool:
        """Whether SASS for this runs on a GPU: on one of the same major version that is not older (f: the family is that)."""
        if self.feature == "a":
            return capability == (self.major, self.minor)
        return capability[0] == self.major and capability[1] >= self.minor

    def serves_as_ptx(self, capability: tuple[int, int]) -> bool:
        """Whether the driver can translate PTX for this to a GPU: to any later one, unless it has special features."""
        if self.feature:
            return self.serves_as_binary(capability)
        return capability >= (self.major, self.minor)


def judge_gpu_code(
    facts: t.Mapping[str, t.Any], gpus: t.Sequence[t.Mapping[str, t.Any]] | None, driver: t.Mapping[str, t.Any] | None
) -> t.Iterator[Finding]:
    """What speaks against a wheel on these GPUs. Where no GPU is known, or not its compute capability, nothing does.

    One GPU that is served is enough, for a node may have another one for its screen; what is not served is a remark then.

    :param facts: the wheel's ``cuda`` and ``architectures``
    :param gpus: as torch_info describes them
    :param driver: likewise
    """
    serves = (driver or {}).get("cuda")
    if facts["cuda"] and serves and int(serves.split(".")[0]) < int(facts["cuda"].split(".")[0]):
        yield Finding(DOES_NOT_FIT, f"needs CUDA {facts['cuda']}, and the driver supports CUDA {serves}")
    known = [
        (f"sm_{gpu['compute_capability'].replace('.', '')} (GPU {number}, {gpu['name']})", _capability(gpu))
        for number, gpu in enumerate(gpus or [])
        if gpu["compute_capability"]
    ]
    if not facts["architectures"] or not known:
        return
    sass, ptx = ([Target.parse(name) for name in facts["architectures"][kind]] for kind in ("sass", "ptx"))
    binary = [text for text, capability in known if any(target.serves_as_binary(capability) for target in sass)]
    translated = [
        text
        for text, capability in known
        if text not in binary and any(target.serves_as_ptx(capability) for target in ptx)
    ]
    served = [*binary, *translated]
    code = " and ".join(
        [f"sm_{name}" for name in facts["architectures"]["sass"]]
        + [f"PTX for compute_{name}" for name in facts["architectures"]["ptx"]]
    )
    others = ", ".join(text for text, _capability_of in known if text not in served)
    if not served:
        yield Finding(DOES_NOT_FIT, f"has code for {code or 'no GPU'}; this node has {others}")
    elif others:
        yield Finding(FITS, f"has code for {code}, none for {others}")
    if translated and not binary:
        yield from _judge_translation(facts["cuda"], serves, ", ".join(translated))


def _judge_translation(cuda: str | None, serves: str | None, gpus: str) -> t.Iterator[Finding]:
    """A driver translates PTX of its own CUDA and of older ones, down to the minor version."""
    if cuda and serves:
        built, driver = (tuple(map(int, version.split("."))) for version in (cuda, serves))
        if driver[0] > built[0] or (len(built) > 1 and driver >= built):
            return
    yield Finding(
        UNKNOWN,
        f"has only PTX for {gpus}, which the driver (CUDA {serves or 'unknown'}) can translate if the wheel was built with"
        f" no newer CUDA than that (built with CUDA {cuda or 'unknown'})",
    )


def _capability(gpu: t.Mapping[str, t.Any]) -> tuple[int, int]:
    major, minor = gpu["compute_capability"].split(".")
    return int(major), int(minor)

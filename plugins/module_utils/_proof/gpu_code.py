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
    """Why a wheel does not work on these GPUs. Where no GPU is known, or not its compute capability, there is no finding.

    One GPU that the wheel supports is enough, for a node may have another one for its screen; the others are a remark then.

    :param facts: the wheel's ``cuda`` and ``architectures``
    :param gpus: as torch_info describes them
    :param driver: likewise
    """
    driver_cuda = (driver or {}).get("cuda")
    if facts["cuda"] and driver_cuda and int(driver_cuda.split(".")[0]) < int(facts["cuda"].split(".")[0]):
        yield Finding(DOES_NOT_FIT, f"needs CUDA {facts['cuda']}, and the driver supports CUDA {driver_cuda}")
    capabilities = [
        (f"sm_{gpu['compute_capability'].replace('.', '')} (GPU {number}, {gpu['name']})", _capability(gpu))
        for number, gpu in enumerate(gpus or [])
        if gpu["compute_capability"]
    ]
    if not facts["architectures"] or not capabilities:
        return
    sass, ptx = ([Target.parse(name) for name in facts["architectures"][kind]] for kind in ("sass", "ptx"))
    with_binary = [
        gpu for gpu, capability in capabilities if any(target.serves_as_binary(capability) for target in sass)
    ]
    with_ptx = [
        gpu
        for gpu, capability in capabilities
        if gpu not in with_binary and any(target.serves_as_ptx(capability) for target in ptx)
    ]
    supported = [*with_binary, *with_ptx]
    code = " and ".join(
        [f"sm_{name}" for name in facts["architectures"]["sass"]]
        + [f"PTX for compute_{name}" for name in facts["architectures"]["ptx"]]
    )
    others = ", ".join(gpu for gpu, _capability_of in capabilities if gpu not in supported)
    if not supported:
        yield Finding(DOES_NOT_FIT, f"has code for {code or 'no GPU'}; this node has {others}")
    elif others:
        yield Finding(FITS, f"has code for {code}, none for {others}")
    if with_ptx and not with_binary:
        yield from _judge_translation(facts["cuda"], driver_cuda, ", ".join(with_ptx))


def _judge_translation(cuda: str | None, driver_cuda: str | None, gpus: str) -> t.Iterator[Finding]:
    """A driver translates PTX of its own CUDA and of older ones, down to the minor version."""
    if cuda and driver_cuda:
        built, supported = (tuple(map(int, version.split("."))) for version in (cuda, driver_cuda))
        if supported[0] > built[0] or (len(built) > 1 and supported >= built):
            return
    yield Finding(
        UNKNOWN,
        f"has only PTX for {gpus}, which the driver (CUDA {driver_cuda or 'unknown'}) can translate if the wheel was built with"
        f" no newer CUDA than that (built with CUDA {cuda or 'unknown'})",
    )


def _capability(gpu: t.Mapping[str, t.Any]) -> tuple[int, int]:
    major, minor = gpu["compute_capability"].split(".")
    return int(major), int(minor)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which builds of torch and which wheels are held against each other. All versions of this suite stand here."""

from __future__ import annotations

from typing import NamedTuple

PYTHON = "3.11"


class Build(NamedTuple):
    """A build of torch, as the index has it, and what else is in its environment."""

    version: str
    beside: tuple[str, ...] = ()  # requirements

    @property
    def name(self) -> str:
        return "+".join((self.version, *(requirement.replace("==", "-") for requirement in self.beside)))


class Wheel(NamedTuple):
    """A wheel that links torch, and the module that is imported of it."""

    distribution: str
    version: str

    @property
    def name(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")


#: Newer builds for CUDA 12 are not on the index. With its runtime in their environment, wheels for CUDA 12 load there, too.
CUDA_12 = ("nvidia-cuda-runtime-cu12==12.8.90",)

BUILDS = (
    Build("2.4.1"),
    Build("2.5.1"),
    Build("2.6.0"),
    Build("2.8.0"),
    Build("2.10.0"),
    Build("2.11.0"),
    Build("2.12.0"),
    Build("2.13.0"),
    Build("2.11.0", CUDA_12),
    Build("2.12.0", CUDA_12),
    Build("2.13.0", CUDA_12),
)

WHEELS = (
    Wheel("torchvision", "0.19.1"),
    Wheel("torchvision", "0.20.1"),
    Wheel("torchvision", "0.21.0"),
    Wheel("torchvision", "0.23.0"),
    Wheel("torchvision", "0.25.0"),
    Wheel("torchvision", "0.26.0"),
    Wheel("torchvision", "0.27.0"),
    Wheel("torchvision", "0.28.0"),
    Wheel("torchaudio", "2.4.1"),
    Wheel("torchaudio", "2.6.0"),
    Wheel("torchaudio", "2.8.0"),
    Wheel("torchaudio", "2.10.0"),
    Wheel("torchaudio", "2.11.0"),
    Wheel("xformers", "0.0.28.post1"),
    Wheel("xformers", "0.0.29.post3"),
    Wheel("xformers", "0.0.32.post2"),
    Wheel("xformers", "0.0.34"),
    Wheel("xformers", "0.0.35"),
    Wheel("vllm-flash-attn", "2.6.1"),
    Wheel("vllm-flash-attn", "2.6.2"),
    Wheel("tensordict", "0.6.2"),
    Wheel("tensordict", "0.10.0"),
    Wheel("torchrl", "0.11.1"),
    Wheel("torchao", "0.9.0"),
    Wheel("torchao", "0.16.0"),
    Wheel("torchcodec", "0.10.0"),
)

#: what the packages import besides torch; it has no part in the question
COMPANIONS = (
    "cloudpickle==3.1.3",
    "importlib-metadata==10.2.0",
    "numpy==2.4.6",
    "orjson==3.13.0",
    "packaging==26.3",
    "pillow==13.0.0",
    "pyvers==0.2.3",
    "setuptools==80.10.2",
    "tensordict==0.11.0",
)

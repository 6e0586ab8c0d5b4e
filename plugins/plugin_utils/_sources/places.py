# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The known places of wheels, as data: a new place is a new row.

The order is that in which they are asked: the projects themselves first, then those that publish hashes and test on GPUs, then the
others.
"""

from __future__ import annotations

import re
import typing as t


class Place(t.NamedTuple):
    """Where somebody publishes wheels."""

    publisher: str  # who builds them, in words
    packages: frozenset[str]  # normalised names
    repository: str | None = None  # OWNER/NAME on GitHub
    release: str | None = None  # the tag of the only release that has wheels
    url: str = ""  # in front of the paths
    #: the pages to ask, in this order: {project} is the package's name; {cuda} is "cu130"; {torch} is "2.12.0", the first patch
    paths: tuple[str, ...] = ()
    #: the versions of CUDA that {cuda} may stand for; where there are none, it stands for torch's own
    cuda_versions: tuple[str, ...] = ()
    grammar: str | None = None  # a key of grammars.OF_PLACES
    hashes: bool = False  # whether it publishes the hash of each file
    signatures: bool = False  # whether it signs them (which nobody checks here)
    gpu_tests: bool = False  # whether its builds are tried on GPUs
    is_trusted: bool = True  # whether the word "known" means it, too

    def locations(self, project: str, torch: str, cuda: str | None) -> list[str]:
        """The pages for a node, behind ``url``: the one for the nearest CUDA first, of the same major version.

        :param torch: the version of torch
        :param cuda: the version of CUDA that torch is built for, or None
        """
        minor = re.match(r"\d+\.\d+", torch)
        values = {"project": project, "torch": f"{minor[0]}.0" if minor else ""}
        versions: list[str] = []
        if cuda and "." in cuda:
            same_major = [one for one in self.cuda_versions or (cuda,) if one.split(".")[0] == cuda.split(".")[0]]
            versions = sorted(same_major, key=lambda version: _distance(version, cuda))
        return [
            path.format(cuda="cu" + "".join(version.split(".")[:2]), **values)
            for path in self.paths
            for version in (versions if "{cuda}" in path else [""])
        ]

    def describe(self) -> str:
        """Who publishes there, and what vouches for the files, in words."""
        vouchers = [
            words
            for is_there, words in (
                (self.hashes, "hashes published"),
                (self.signatures, "signed"),
                (self.gpu_tests, "tested on GPUs"),
            )
            if is_there
        ]
        return f"{self.publisher}; {', '.join(vouchers) or 'no hashes, signatures or tests known'}"


def _distance(version: str, cuda: str) -> tuple[int, bool]:
    difference = int(version.split(".")[1]) - int(cuda.split(".")[1])
    return abs(difference), difference > 0


_PACKAGES = ("flash-attn", "causal-conv1d", "mamba-ssm", "fast-hadamard-transform", "transformer-engine-torch")

PLACES: dict[str, Place] = {
    # what upstream itself builds; GitHub gives hashes of files since June 2025
    "release": Place("the projects themselves", frozenset(_PACKAGES), hashes=True),
    # astral-sh-build/_build-index: config/index.toml, docs/CHANNELS.md (June 2026)
    "astral": Place(
        "Astral, who make uv",
        frozenset(
            (
                "flash-attn",
                "flash-attn-3",
                "causal-conv1d",
                "mamba-ssm",
                "transformer-engine-torch",
                "torch-scatter",
                "pyg-lib",
            )
        ),
        url="https://wheels.astral.sh",
        paths=("simple/{cuda}/{project}/",),
        cuda_versions=("11.8", "12.1", "12.4", "12.6", "12.8", "12.9", "13.0", "13.2"),
        hashes=True,
        gpu_tests=True,
    ),
    # the channel tells the CUDA, and the names tell nothing
    "pytorch": Place(
        "PyTorch",
        frozenset(("flash-attn-3", "xformers")),
        url="https://download.pytorch.org",
        paths=("whl/{cuda}/{project}/",),
        cuda_versions=("12.6", "12.8", "12.9", "13.0", "13.2"),
        hashes=True,
        gpu_tests=True,
    ),
    # nvidia-cosmos/cosmos-dependencies
    "cosmos": Place(
        "NVIDIA, for its Cosmos models",
        frozenset(("flash-attn", "flash-attn-3", "natten")),
        url="https://nvidia-cosmos.github.io/cosmos-dependencies",
        # each release has pages of its own, with what is new in it
        paths=(
            "v1.5.0/{project}/",
            *(f"{release}simple/{{project}}/" for release in ("v1.4.0/", "v1.2.0/", "v1.1.0/", "")),
        ),
        grammar="cosmos",
    ),
    # studio/backend/utils/wheel_utils.py of unslothai/unsloth
    "unsloth": Place(
        "Unsloth AI",
        frozenset(("flash-attn", "causal-conv1d", "mamba-ssm")),
        repository="unslothai/unsloth",
        release="prebuilt-wheels-cu13",
        hashes=True,
        signatures=True,
    ),
    "mjun0812": Place(
        "mjun0812, one person, by public workflows on GitHub",
        frozenset(("flash-attn", "flash-attn-3")),
        repository="mjun0812/flash-attention-prebuild-wheels",
        hashes=True,
    ),
    "pyg": Place(
        "the PyG team",
        frozenset(("torch-scatter", "torch-sparse", "torch-cluster", "pyg-lib")),
        url="https://data.pyg.org",
        paths=("whl/torch-{torch}%2B{cuda}.html",),
        grammar="pyg",
    ),
    "natten": Place(
        "SHI Labs",
        frozenset(("natten",)),
        url="https://whl.natten.org",
        paths=("",),
        grammar="natten",
    ),
    # a single person's fork of flash-attention, whose tags tell torch and CUDA
    "lesj0610": Place(
        "lesj0610, one person",
        frozenset(("flash-attn",)),
        repository="lesj0610/flash-attention",
        hashes=True,
        is_trusted=False,
    ),
}

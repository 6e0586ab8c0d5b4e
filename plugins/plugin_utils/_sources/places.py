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
    hashes: str = ""  # of which files it publishes the hashes, in words
    signatures: bool = False  # whether it signs them (which nobody checks here)
    gpu_tests: bool = False  # whether it is known to try its builds on GPUs
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

    @property
    def vouchers(self) -> str:
        """What vouches for the files, in words."""
        facts = [f"hashes of {self.hashes}" if self.hashes else "no hashes"]
        if self.signatures:
            facts.append("signed")
        if self.gpu_tests:
            facts.append("tested on GPUs")
        return ", ".join(facts)

    def describe(self) -> str:
        """Who publishes there, and what vouches for the files, in words."""
        return f"{self.publisher}; {self.vouchers}"


def _distance(version: str, cuda: str) -> tuple[int, bool]:
    difference = int(version.split(".")[1]) - int(cuda.split(".")[1])
    return abs(difference), difference > 0


_ALL_FILES = "all files"
#: GitHub tells the hash of a file that was uploaded since
_FILES_SINCE_JUNE_2025 = "files since June 2025"

_PACKAGES = ("flash-attn", "causal-conv1d", "mamba-ssm", "fast-hadamard-transform", "transformer-engine-torch")

PLACES: dict[str, Place] = {
    # what upstream itself builds
    "release": Place("the projects themselves", frozenset(_PACKAGES), hashes=_FILES_SINCE_JUNE_2025),
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
        hashes=_ALL_FILES,
        gpu_tests=True,
    ),
    # pytorch/test-infra: s3_management/manage_v2.py (August 2026). The channel tells the CUDA, and the names tell nothing. Channels
    # are there as far back as xformers goes
    "pytorch": Place(
        "the PyTorch project, on its own index",
        frozenset(("flash-attn-3", "xformers")),
        url="https://download.pytorch.org",
        paths=("whl/{cuda}/{project}/",),
        cuda_versions=("11.8", "12.1", "12.4", "12.6", "12.8", "12.9", "13.0", "13.2"),
        hashes="most files",
    ),
    # nvidia-cosmos/cosmos-dependencies. Its pages of xformers are copies of PyTorch's, but for one
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
        hashes="files since its v1.2.0",
    ),
    # unslothai/unsloth: studio/backend/utils/wheel_utils.py. Beside the wheels are SHA256SUMS and Sigstore's signatures
    "unsloth": Place(
        "Unsloth AI",
        frozenset(("flash-attn", "causal-conv1d", "mamba-ssm")),
        repository="unslothai/unsloth",
        release="prebuilt-wheels-cu13",
        hashes=_ALL_FILES,
        signatures=True,
    ),
    "mjun0812": Place(
        "mjun0812, one person, by public workflows on GitHub",
        frozenset(("flash-attn", "flash-attn-3")),
        repository="mjun0812/flash-attention-prebuild-wheels",
        hashes=_FILES_SINCE_JUNE_2025,
    ),
    # pyg-team/pyg-lib: .github/workflows/aws/upload_final_index.py (July 2026). A page for each first patch of torch and each CUDA
    "pyg": Place(
        "the PyG team",
        frozenset(("torch-scatter", "torch-sparse", "torch-cluster", "pyg-lib")),
        url="https://data.pyg.org",
        paths=("whl/torch-{torch}%2B{cuda}.html",),
        cuda_versions=("11.8", "12.1", "12.4", "12.6", "12.8", "12.9", "13.0", "13.2"),
        grammar="pyg",
    ),
    # SHI-Labs/NATTEN: scripts/wheel_index/gen_wheel_index.sh (July 2026)
    "natten": Place(
        "SHI Labs, who make natten",
        frozenset(("natten",)),
        url="https://whl.natten.org",
        paths=("", "old/"),
        grammar="natten",
    ),
    # a single person's fork of flash-attention, whose tags tell torch and CUDA
    "lesj0610": Place(
        "lesj0610, one person",
        frozenset(("flash-attn",)),
        repository="lesj0610/flash-attention",
        hashes=_ALL_FILES,
        is_trusted=False,
    ),
}

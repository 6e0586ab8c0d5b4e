# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""How those who publish wheels write down for what they were built, as data.

A wheel says it in its local label (the part of its version behind the ``+``), in the address of the page or folder that it is
listed on, or both. A form of labels is a :class:`Grammar`. The same digits mean two things (``torch210`` is 2.10 in one place and
2.1.0 in another), so a place names the one grammar that it uses beyond the common ones (``places``, on the control node).

Each pattern may have the groups ``gpu`` (``cu``, ``rocm``, ``hip`` or ``cpu``), ``gpu_version``, ``torch`` (with dots), ``digits``
(of torch, without dots), ``image`` (of NVIDIA) and ``abi``.
"""

from __future__ import annotations

import enum
import re
import typing as t


class Digits(enum.Enum):
    """How a version of torch is written without dots."""

    ANY = "as the digits tell"  # 29, 280, 2100; 210 may be 2.1.0 or 2.10, and does not tell
    MINOR = "major and minor"  # 28, 212, 113
    PATCH = "major, minor and patch"  # 280, 210 for 2.1.0, 2100
    RECENT = "with or without a patch, of torch 2.5 or later"  # 27, 271, 210 for 2.10


class Grammar(t.NamedTuple):
    """A form of labels."""

    pattern: re.Pattern[str]
    digits: Digits = Digits.ANY


_GPU = r"(?P<gpu>cu|rocm|hip)(?P<gpu_version>\d+(?:\.\d+)*)"
_TORCH = r"(?P<torch>[1-9]\.\d+(?:\.\d+)*(?:(?:a|b|rc|\.dev)\d+)?(?:[+.][a-z]+[\d.]+)?)"
#: Image releases are named after year and month.
_IMAGE = r"(?P<image>[2-9]\d\.\d\d)"
_COMMIT = r"(?:git[0-9a-f]{7,40})?"
_ABI = r"(?:cxx11abi(?P<abi>TRUE|FALSE))?"


def _grammar(pattern: str, digits: Digits = Digits.ANY) -> Grammar:
    return Grammar(re.compile(pattern, re.IGNORECASE), digits)


#: What means the same wherever it stands. The first that matches the whole label counts.
COMMON = (
    # the projects' own releases, "cu12torch2.8cxx11abiTRUE", transformer-engine-torch's "cu12torch2.8.0+cu129cxx11abiTRUE" with the
    # whole version of torch, and "cu13torch25.09cxx11abiTRUE" with that of an image; mjun0812's "cu130torch2.9" and
    # "rocm7.2torch2.14git4a948e9"; turboderp-org/exllamav3's "cu128.torch2.10.0"; with a commit in front, the first ones of Astral
    _grammar(rf"(?:[0-9a-f]{{7,40}}\.)?{_GPU}\.?torch(?:{_IMAGE}|{_TORCH}){_COMMIT}{_ABI}"),
    # Astral: "cu.13.0.torch.2.12", once with torch's patch, and "cu.13.0" of what binds to CUDA alone
    _grammar(r"(?P<gpu>cu)\.(?P<gpu_version>\d+\.\d+)(?:\.torch\.(?P<torch>\d+\.\d+(?:\.\d+)?))?"),
    # exllamav2's "cu130torch29", "cu128torch280": only as far as the digits leave no doubt
    _grammar(rf"{_GPU}\.?torch(?P<digits>\d{{2,4}})"),
    # vllm, flashinfer, sglang-kernel: "cu130", "rocm700"; Astral's and PyTorch's "cpu"
    _grammar(_GPU),
    _grammar(r"(?P<gpu>cpu)"),
)

#: What only some places use, by the name that their rows bear.
OF_PLACES = {
    # nvidia-cosmos/cosmos-dependencies begins with torch 2.6: "cu128.torch27", "cu128.torch271", "cu130.torch210"
    "cosmos": _grammar(rf"{_GPU}\.torch(?P<digits>\d{{2,4}})", Digits.RECENT),
    # SHI-Labs/NATTEN, torch before CUDA, always with its patch: "torch2100cu128", "torch210cu121"
    "natten": _grammar(r"torch(?P<digits>\d{3,4})(?:(?P<gpu>cu)(?P<gpu_version>\d+)|(?P<cpu>cpu))", Digits.PATCH),
    # PyG and gsplat, never a patch: "pt212cu130", "pt28cpu"
    "pyg": _grammar(r"pt(?P<digits>\d{2,3})(?:(?P<gpu>cu)(?P<gpu_version>\d+)|(?P<cpu>cpu))", Digits.MINOR),
}

#: A commit alone says nothing of what a wheel was built for ("1408756", "35c4bc8"), and neither does the number of a rebuild.
MEANINGLESS = re.compile(r"(?:git)?[0-9a-f]{7,40}(?:\.d\d{8})?|\d{1,3}", re.IGNORECASE)

#: What addresses tell, each looked for in every segment of a path and in the tag of a release; what stands first counts.
ADDRESSES = (
    # PyTorch's index and many like it, ".../whl/cu130/"; Astral's channels
    _grammar(r"(?P<gpu>cu)(?P<gpu_version>\d{3})"),
    # PyG's and kaolin's pages: "torch-2.12.0+cu130.html", "torch-2.8.0_cu128.html"
    _grammar(r"torch-(?P<torch>\d+\.\d+\.\d+)[+_](?:(?P<gpu>cu)(?P<gpu_version>\d{3})|(?P<cpu>cpu))(?:\.html)?"),
    # OpenMMLab: ".../cu121/torch2.4/", ".../torch2.4.0/"
    _grammar(r"torch(?P<torch>\d+\.\d+(?:\.\d+)?)"),
    # cosmos' "cu130_torch29", lmdeploy's "cu128_torch280"
    _grammar(r"(?P<gpu>cu)(?P<gpu_version>\d{3})_torch(?P<digits>\d{2,4})", Digits.RECENT),
    # pytorch3d: "py310_cu121_pyt241"
    _grammar(r"py3\d+_(?P<gpu>cu)(?P<gpu_version>\d{3})_pyt(?P<digits>\d{3,4})", Digits.PATCH),
    # gsplat: ".../whl/pt24cu124"
    _grammar(r"pt(?P<digits>\d{2,3})(?P<gpu>cu)(?P<gpu_version>\d{3})", Digits.MINOR),
    # lesj0610/flash-attention's releases: "v2.8.3-cu12-torch2.11"
    _grammar(r"v\d[\w.]*-(?P<gpu>cu)(?P<gpu_version>\d{2,3})-torch(?P<torch>\d+\.\d+)"),
)


class Fork(t.NamedTuple):
    """A vendor's fork of torch: it may report a version of CUDA, and runs no code for it."""

    vendor: str
    part: re.Pattern[str]  # of a local label between two dots, of torch's version or of a wheel's


#: Labels as the vendors' own wheels bear them. MetaX' torch 2.8.0+metax3.7.1.3 says CUDA 11.6, and the label of T-Head's
#: 2.9.0+ali.10.ppu2.0.0.cu129 says 12.9.
FORKS = (
    Fork("Iluvatar CoreX", re.compile(r"corex", re.IGNORECASE)),
    Fork("MetaX", re.compile(r"metax|maca", re.IGNORECASE)),
    Fork("Hygon (DCU)", re.compile(r"das$|dtk", re.IGNORECASE)),
    Fork("Moore Threads (MUSA)", re.compile(r"musa", re.IGNORECASE)),
    Fork("Cambricon (MLU)", re.compile(r"mlu", re.IGNORECASE)),
    Fork("Huawei (Ascend NPU)", re.compile(r"npu|cann", re.IGNORECASE)),
    Fork("T-Head (PPU)", re.compile(r"ppu", re.IGNORECASE)),
    Fork("Intel (XPU)", re.compile(r"xpu", re.IGNORECASE)),
)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What the file name of a published wheel says: for which torch, CUDA or ROCm, and C++ ABI it was built.

The forms, with where they are seen:

- ``2.8.3+cu12torch2.8cxx11abiTRUE``: the projects' own releases (``FILENAME`` of ``packages``);
- ``2.11.0+cu12torch2.8.0+cu129cxx11abiTRUE``: transformer-engine-torch, the whole version of torch;
- ``1.7.0+cu13torch25.09cxx11abiTRUE``: the release of an NVIDIA image takes the place of torch's version;
- ``2.8.3+cu130torch2.9``, ``2.8.4+rocm7.2torch2.14git4a948e9``: mjun0812/flash-attention-prebuild-wheels, no ABI,
  and the commit that was built.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import WheelName, parse_name

_LABEL = re.compile(
    r"(?P<gpu>cu|rocm|hip)(?P<digits>\d+(?:\.\d+)*)"
    r"torch(?P<torch>\d+(?:\.\d+)*(?:(?:a|b|rc|\.dev)\d+)?(?:[+.][a-z]+[\d.]+)?)"
    r"(?:git[0-9a-f]{7,40})?"
    r"(?:cxx11abi(?P<abi>TRUE|FALSE))?",
    re.IGNORECASE,
)

#: as :func:`pip_filename` writes torch's own local label
_LOCAL_DOT = re.compile(r"\.(?=[a-z]+[\d.]+$)(?!dev)")

#: A "torch version" from here on is a release of NVIDIA's images, named after the year.
_FIRST_IMAGE = 20

#: Of torch's builds on the package index (read off their ``libc10.so``): whether they have the C++11 ABI.
_NEW_ABI_FROM = (2, 7)
_BOTH_ABIS_IN = (2, 6)
_NEW_ABI_OF_BOTH = "12.6"


CUDA, ROCM = "CUDA", "ROCm"


@dataclasses.dataclass(frozen=True)
class Torch:
    """The torch that a wheel was built for."""

    version: str  # "2.8", or "2.8.0+cu129"


@dataclasses.dataclass(frozen=True)
class NvidiaImage:
    """The image of NVIDIA that a wheel was built for, with the torch in it."""

    release: str  # "25.09"


class Label(t.NamedTuple):
    """For what a wheel was built."""

    gpu_platform: str  # CUDA or ROCM
    gpu_version: str  # of CUDA "12" or "12.6", as far as the name tells; of ROCm "6.2"
    built_for: Torch | NvidiaImage
    cxx11_abi: bool | None  # None: the name does not tell


class ParsedFilename(t.NamedTuple):
    """The parts of a wheel's file name."""

    name: WheelName
    version: str  # public, PEP 440
    label: Label | None  # None: the name has none


def parse_filename(filename: str) -> ParsedFilename:
    """Parse a wheel's file name, its label included.

    :raises TorchExtensionError: if it is no name of a wheel
    """
    name = parse_name(filename)
    version, plus, local = name.version.partition("+")
    match = _LABEL.fullmatch(local) if plus else None
    return ParsedFilename(name, version, _parse_label(match) if match else None)


def pip_torch_abi(torch: str, cuda: str) -> bool | None:
    """Whether torch from the package index has the C++11 ABI, which is what wheels without that word were built with.

    :param torch: ``major.minor`` of torch
    :param cuda: "12.6", or "12", which does not tell for torch 2.6
    """
    version = tuple(int(part) for part in torch.split(".")[:2])
    if version != _BOTH_ABIS_IN:
        return version >= _NEW_ABI_FROM
    return cuda == _NEW_ABI_OF_BOTH if "." in cuda else None


def pip_filename(filename: str) -> str:
    """The name under which pip takes a wheel: two ``+`` in a version, as transformer-engine-torch has it, are one too many.

    PEP 440 knows one local label. pip 24.1 and later refuse such a name, and so does uv; tried with pip 24.0 to 26.3.
    """
    name, dash, rest = filename.partition("-")
    version, dash2, tags = rest.partition("-")
    public, plus, local = version.partition("+")
    return f"{name}{dash}{public}{plus}{local.replace('+', '.')}{dash2}{tags}"


def _parse_label(match: re.Match[str]) -> Label:
    torch, digits = match["torch"], match["digits"]
    is_image = int(torch.partition(".")[0]) >= _FIRST_IMAGE
    is_cuda = match["gpu"].lower() == "cu"
    return Label(
        gpu_platform=CUDA if is_cuda else ROCM,
        gpu_version=_cuda_version(digits) if is_cuda else _rocm_version(digits),
        built_for=NvidiaImage(torch) if is_image else Torch(_LOCAL_DOT.sub("+", torch)),
        cxx11_abi=match["abi"].upper() == "TRUE" if match["abi"] else None,
    )


def _cuda_version(digits: str) -> str:
    """12 for 12, 12.6 for 126 and for 12.6: CUDA's major has two digits since version 10."""
    if "." in digits or len(digits) <= 2:
        return digits
    return f"{digits[:2]}.{digits[2:]}"


def _rocm_version(digits: str) -> str:
    """6.2 for 62, 6.2 and 6.2.4: all projects write major and minor, each of one digit, at the front."""
    parts = digits.split(".") if "." in digits else list(digits)
    return ".".join(parts[:2])

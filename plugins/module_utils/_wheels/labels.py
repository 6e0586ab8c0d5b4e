# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""For which torch, CUDA or ROCm, and C++ ABI a wheel was built, as its name and its address tell; the forms are in ``grammars``."""

from __future__ import annotations

import functools
import re
import typing as t
from urllib.parse import unquote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import grammars
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import WheelName, parse_name

CUDA, ROCM, CPU = "CUDA", "ROCm", "CPU"

#: as :func:`pip_filename` writes torch's own local label
_LOCAL_DOT = re.compile(r"\.(?=[a-z]+[\d.]+$)(?!dev)")

#: No minor version of torch is beyond it, so that 280 is 2.8.0 and not 2.80.
_MAX_TORCH_MINOR = 40
#: With Digits.RECENT: nothing older is meant.
_RECENT_TORCH = (2, 5)

#: Of torch's builds on the package index (read off their ``libc10.so``): whether they have the C++11 ABI.
_NEW_ABI_FROM = (2, 7)
_BOTH_ABIS_IN = (2, 6)
_NEW_ABI_OF_BOTH = "12.6"


class Torch(t.NamedTuple):
    """The torch that a wheel was built for."""

    version: str  # "2.8", or "2.8.0+cu129"


class NvidiaImage(t.NamedTuple):
    """The image of NVIDIA that a wheel was built for, with the torch in it."""

    release: str  # "25.09"


class Label(t.NamedTuple):
    """For what a wheel was built; None stands for what is not told."""

    gpu_platform: str | None = None  # CUDA, ROCM or CPU
    gpu_version: str | None = None  # of CUDA "12" or "12.6", as far as it is told; of ROCm "6.2"
    built_for: Torch | NvidiaImage | None = None
    cxx11_abi: bool | None = None


class Unreadable(t.NamedTuple):
    """A label that does not tell for what a wheel was built, though it may mean to."""

    text: str
    reason: str  # in words that follow "its label … "


NOTHING_TOLD = Label()


class ParsedFilename(t.NamedTuple):
    """The parts of a wheel's file name."""

    name: WheelName
    version: str  # public, PEP 440
    label: Label | Unreadable


def parse_filename(filename: str, place: str | None = None) -> ParsedFilename:
    """Parse a wheel's file name, its label included.

    :param place: the key in ``grammars.OF_PLACES`` of the grammar that is used where the wheel is published
    :raises TorchExtensionError: if it is no name of a wheel
    """
    name = parse_name(filename)
    version, _plus, local = name.version.partition("+")
    return ParsedFilename(name, version, parse_label(local, place))


@functools.lru_cache(maxsize=4096)
def parse_label(local: str, place: str | None = None) -> Label | Unreadable:
    """Parse the local label of a wheel's version.

    :param local: what follows the ``+``; may be empty
    :param place: as for :func:`parse_filename`
    """
    if not local or grammars.MEANINGLESS.fullmatch(local):
        return NOTHING_TOLD
    vendor = fork_vendor(local)
    if vendor:
        return Unreadable(local, f"is of the fork of torch by {vendor}")
    own = [grammars.OF_PLACES[place]] if place else []
    for grammar in (*own, *grammars.COMMON):
        match = grammar.pattern.fullmatch(local)
        if match:
            return _to_label(match, grammar.digits)
    return Unreadable(local, "is of a form that this collection does not know")


@functools.lru_cache(maxsize=4096)
def parse_address(*addresses: str | None) -> Label:
    """What the addresses of a wheel tell: paths or URLs of its folder and of the page that lists it, the tag of its release.

    Where several segments tell something, the last one of the first address that does counts for each fact. The patch of torch
    does not count: a page for torch 2.12.0 is for all of 2.12.
    """
    told: dict[str, t.Any] = {}
    for address in addresses:
        for segment in reversed(unquote(address or "").split("/")):
            for grammar in grammars.ADDRESSES:
                match = grammar.pattern.fullmatch(segment)
                label = _to_label(match, grammar.digits) if match else None
                if isinstance(label, Label):
                    told = {**{fact: new for fact, new in label._asdict().items() if new is not None}, **told}
    label = Label(**told)
    return label._replace(built_for=_without_patch(label.built_for))


def describe_built_for(built_for: Torch | NvidiaImage | None) -> str:
    """The torch of a label, in words."""
    if isinstance(built_for, NvidiaImage):
        return f"NVIDIA's image {built_for.release}"
    return f"torch {built_for.version}" if built_for else "no torch"


def fork_vendor(local: str) -> str | None:
    """Who made the fork of torch that a local label, of torch's version or of a wheel's, stands for; None if it is none."""
    parts = local.split(".")
    return next((fork.vendor for fork in grammars.FORKS if any(map(fork.part.match, parts))), None)


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


def _without_patch(built_for: Torch | NvidiaImage | None) -> Torch | NvidiaImage | None:
    return Torch(".".join(built_for.version.split(".")[:2])) if isinstance(built_for, Torch) else built_for


def _to_label(match: re.Match[str], reading: grammars.Digits) -> Label | Unreadable:
    parts = match.groupdict()
    gpu = "cpu" if parts.get("cpu") else (parts.get("gpu") or "").lower()
    platform = {"cu": CUDA, "rocm": ROCM, "hip": ROCM, "cpu": CPU}.get(gpu)
    version = parts.get("gpu_version")
    built_for: Torch | NvidiaImage | None = None
    if parts.get("image"):
        built_for = NvidiaImage(parts["image"])
    elif parts.get("torch"):
        built_for = Torch(_LOCAL_DOT.sub("+", parts["torch"]))
    elif parts.get("digits"):
        readings = _read_digits(parts["digits"], reading)
        if len(readings) != 1:
            meanings = " or ".join(readings) or "no version of torch"
            return Unreadable(match.string, f"says torch {parts['digits']}, which may be {meanings}")
        built_for = Torch(readings[0])
    return Label(
        gpu_platform=platform,
        gpu_version=(_cuda_version(version) if platform == CUDA else _rocm_version(version)) if version else None,
        built_for=built_for,
        cxx11_abi=parts["abi"].upper() == "TRUE" if parts.get("abi") else None,
    )


def _read_digits(digits: str, reading: grammars.Digits) -> list[str]:
    """The versions of torch that digits without dots may mean: its major has one digit, and so has its patch."""
    major, rest = digits[0], digits[1:]
    candidates = []
    if reading != grammars.Digits.PATCH:
        candidates.append([rest])
    if reading != grammars.Digits.MINOR and len(rest) > 1:
        candidates.append([rest[:-1], rest[-1]])
    return [
        ".".join([major, *parts])
        for parts in candidates
        if parts[0] == str(int(parts[0]))
        and int(parts[0]) <= _MAX_TORCH_MINOR
        and (reading != grammars.Digits.RECENT or (int(major), int(parts[0])) >= _RECENT_TORCH)
    ]


def _cuda_version(digits: str) -> str:
    """12 for 12, 12.6 for 126, 12.6 and 12.6.3: CUDA's major has two digits since version 10."""
    if "." in digits or len(digits) <= 2:
        return ".".join(digits.split(".")[:2])
    return f"{digits[:2]}.{digits[2:]}"


def _rocm_version(digits: str) -> str:
    """6.2 for 62, 6.2 and 6.2.4: all projects write major and minor, each of one digit, at the front."""
    parts = digits.split(".") if "." in digits else list(digits)
    return ".".join(parts[:2])

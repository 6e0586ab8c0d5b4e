# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What keeps each wheel of a package from serving a node, as far as its name and its address tell.

A wheel fits when every part that is told fits the node: torch (``major.minor``, or as much of the version as the name has),
CUDA's major (a wheel serves every minor version of its major: NVIDIA's minor version compatibility), ROCm's ``major.minor``, C++11
ABI, and the tags of Python and platform (PEP 425, 600, 656). What the name and the address tell is held against each other.

Listings have thousands of names and a few hundred labels and tags, so each of these is judged once.
"""

from __future__ import annotations

import contextlib
import functools
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import (
    CONTAINER_PRODUCT,
    CONTAINER_RELEASE,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    compatibility_tags,
    labels,
    python_tags,
    wheel_file,
)

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.version import InvalidVersion, Version


_LONGEST_NAME = 255  # of a file; with no more digits than Python reads as a number

#: who tells something, in words
NAME, ADDRESS = "its name", "its address"


class Asset(t.NamedTuple):
    """A file that a source offers."""

    filename: str
    url: str
    size: int | None = None  # bytes
    sha256: str | None = None  # hexadecimal, lower case
    release: str | None = None  # the tag of the release that it stands in
    address: str | None = None  # of the page or folder that lists it
    has_metadata: bool = False  # whether its METADATA is at its URL with .metadata behind it (PEP 658, 714)
    metadata_sha256: str | None = None
    other_urls: tuple[str, ...] = ()  # further links to it
    requires_python: str | None = None  # a set of specifiers (PEP 440), as an index has it


class Mismatch(t.NamedTuple):
    """One part of a wheel that does not fit a node."""

    part: str  # "torch", "CUDA", …
    wanted: str  # what the wheel is for
    found: str  # what the node has
    sentence: str = (
        ""  # in place of the usual one; such a wheel is of no use to anybody who has only another torch, CUDA, …
    )

    def __str__(self) -> str:
        return self.sentence or f"it is for {self.part} {self.wanted}, this node has {self.found}"


class TagRank(t.NamedTuple):
    """How specific the best tag of a wheel is for a node; the lower, the better."""

    python: int
    promises_no_system: bool  # linux_x86_64 promises nothing about glibc, manylinux does
    platform: int


class Candidate(t.NamedTuple):
    """A wheel of the package, judged for a node."""

    asset: Asset
    name: wheel_file.WheelName
    version: Version
    claims: tuple[tuple[str, labels.Label], ...]  # what is told, by its name and by its address
    label: labels.Label  # all of it together
    mismatches: tuple[Mismatch, ...]
    tag_rank: TagRank | None  # None: no tag serves the node
    place: int  # in its source
    required_torch: str = ""  # what its METADATA requires of torch, where that was read
    unread: str = ""  # why its METADATA could not be read

    @property
    def tells_torch(self) -> bool:
        """Whether anybody says for which torch it was built."""
        return self.label.built_for is not None


class Misnamed(t.NamedTuple):
    """A file that looks like a wheel of the package, and is none by its name."""

    filename: str
    reason: str


class Judgement(t.NamedTuple):
    """All files of a package that a source has."""

    candidates: list[Candidate]
    misnamed: list[Misnamed]


def judge_wheels(
    name: str, assets: t.Iterable[Asset], environment: t.Mapping[str, t.Any], place: str | None = None
) -> Judgement:
    """Judge all wheels of a package for a node; files of other packages are left out.

    :param name: of the package, in any spelling
    :param assets: in the order of the source, newest release first
    :param environment: what torch_info returned, with a torch
    :param place: the key in ``grammars.OF_PLACES`` of the grammar that the source uses
    """
    judge = _Judge(environment)
    name = canonical(name)
    candidates, misnamed = [], []
    for position, asset in enumerate(assets):
        if not is_named_after(asset.filename, name):
            continue
        if len(asset.filename) > _LONGEST_NAME:
            misnamed.append(Misnamed(f"{asset.filename[:100]}…", f"its name has {len(asset.filename)} characters"))
            continue
        try:
            parsed = labels.parse_filename(asset.filename, place)
            version = _parse_version(parsed.version)
        except (TorchExtensionError, InvalidVersion) as exc:
            misnamed.append(_explain_misnamed(asset.filename, exc))
            continue
        told = labels.parse_address(asset.address, asset.url.rpartition("/")[0], asset.release)
        label, label_mismatches = judge.label(parsed.label, told)
        tag_rank, tag_mismatches = judge.tags(parsed.name.pythons, parsed.name.abis, parsed.name.platforms)
        claims = ((NAME, parsed.label), (ADDRESS, told)) if isinstance(parsed.label, labels.Label) else ()
        mismatches = (*label_mismatches, *tag_mismatches)
        candidates.append(Candidate(asset, parsed.name, version, claims, label, mismatches, tag_rank, position))
    return Judgement(candidates, misnamed)


def is_named_after(filename: str, name: str) -> bool:
    """Whether a file bears the name of a package, as its wheels do.

    :param name: normalised (PEP 503)
    """
    return filename.endswith(".whl") and _canonical(filename[: -len(".whl")].partition("-")[0]) == name


def parse_torch_version(text: str) -> Version:
    """The version of torch that a node reports, which need not be one of PEP 440: of what is none, the numbers in front count.

    :raises TorchExtensionError: if there are none
    """
    try:
        return Version(text)
    except InvalidVersion:
        release = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){1,4})", text)
        if not release:
            raise TorchExtensionError(
                f"torch of this node says that its version is {text!r}, which begins with no number, and wheels are made for"
                " numbered versions. Install a torch that has one, or name another environment in torch_extension_python."
            ) from None
        return Version(release[1])


class _Judge:
    """Judges the parts of names for a node, each distinct one once."""

    def __init__(self, environment: t.Mapping[str, t.Any]) -> None:
        self._environment = environment
        self._torch: t.Mapping[str, t.Any] = environment["torch"]
        self._torch_version = parse_torch_version(self._torch["version"])
        self._platforms = {
            tag: rank for rank, tag in enumerate(compatibility_tags.platform_tags(environment["platform"]))
        }
        self._platforms["any"] = len(self._platforms)
        python = environment["python"]
        self._pythons = python_tags.accepted_pairs(python["version"], python["tag"], python["abi"])
        self.label = functools.lru_cache(maxsize=None)(self._judge_label)
        self.tags = functools.lru_cache(maxsize=None)(self._judge_tags)

    def _judge_label(
        self, of_name: labels.Label | labels.Unreadable, of_address: labels.Label
    ) -> tuple[labels.Label, tuple[Mismatch, ...]]:
        if isinstance(of_name, labels.Unreadable):
            sentence = f"its label {of_name.text!r} {of_name.reason}"
            return labels.NOTHING_TOLD, (Mismatch("label", of_name.text, "", sentence),)
        label, contradictions = combine((NAME, of_name), (ADDRESS, of_address))
        if contradictions:
            return label, tuple(contradictions)
        return label, (*self._torch_mismatches(label), *self._gpu_mismatches(label), *self._abi_mismatches(label))

    def _torch_mismatches(self, label: labels.Label) -> t.Iterator[Mismatch]:
        torch, built_for = self._torch["version"], label.built_for
        if isinstance(built_for, labels.NvidiaImage):
            image = _nvidia_image(self._environment)
            if image != built_for.release:
                actual = f"image {image}" if image else f"torch {torch} and no such image"
                yield Mismatch("NVIDIA's image", built_for.release, actual)
        elif built_for is not None:
            version, required = self._torch_version, _parse_version(built_for.version)
            release = version.release[: len(required.release)]
            is_same = release == required.release and required.local in (None, version.local)
            # a part of the name such as a1 or .dev20250301 stands for this one build
            if not is_same or (required.is_prerelease and required.public != version.public):
                yield Mismatch("torch", built_for.version, f"torch {torch}")

    def _gpu_mismatches(self, label: labels.Label) -> t.Iterator[Mismatch]:
        cuda, hip = self._torch["cuda"], self._torch["hip"]
        actual = f"ROCm {hip}" if hip else f"CUDA {cuda or 'none'}"
        if label.gpu_platform == labels.CPU:
            yield Mismatch("a torch without GPU", "", "", "its label says that it has no GPU code")
        elif label.gpu_platform == labels.ROCM:
            if not hip or hip.split(".")[:2] != str(label.gpu_version).split("."):
                yield Mismatch("ROCm", str(label.gpu_version), actual)
        elif label.gpu_version is not None and (hip or major_of(cuda) != major_of(label.gpu_version)):
            yield Mismatch("CUDA", major_of(label.gpu_version), actual)

    def _abi_mismatches(self, label: labels.Label) -> t.Iterator[Mismatch]:
        abi, actual = label.cxx11_abi, self._torch["cxx11_abi"]
        if abi is None and isinstance(label.built_for, labels.Torch) and label.gpu_platform == labels.CUDA:
            abi = labels.pip_torch_abi(label.built_for.version, str(label.gpu_version))
        if None not in (abi, actual) and abi != actual:
            yield Mismatch("a torch with C++11 ABI", format_abi(abi), format_abi(actual))

    def _judge_tags(
        self, pythons: frozenset[str], abis: frozenset[str], platforms: frozenset[str]
    ) -> tuple[TagRank | None, tuple[Mismatch, ...]]:
        python_rank = min(
            (self._pythons[pair] for pair in ((tag, abi) for tag in pythons for abi in abis) if pair in self._pythons),
            default=None,
        )
        platform_rank = min(
            ((tag.startswith("linux_"), self._platforms[tag]) for tag in platforms if tag in self._platforms),
            default=None,
        )
        platform = self._environment["platform"]
        libc = platform["libc"] or {}
        mismatches = []
        if python_rank is None:
            actual = self._environment["python"]["abi"]
            mismatches.append(Mismatch("Python", python_tags.format_pairs(pythons, abis), actual))
        if platform_rank is None:
            machine = f"{platform['system']} {platform['machine']}"
            actual = f"{machine}, {libc.get('name')} {libc.get('version')}"
            mismatches.append(Mismatch("platform", "/".join(sorted(platforms)), actual))
        elif libc.get("name") == "musl" and any(tag.startswith("linux_") for tag in platforms):
            mismatches.append(Mismatch("glibc", "(all wheels so named are linked with it)", "musl"))
        if python_rank is None or platform_rank is None:
            return None, tuple(mismatches)
        return TagRank(python_rank, *platform_rank), tuple(mismatches)


def combine(*claims: tuple[str, labels.Label]) -> tuple[labels.Label, list[Mismatch]]:
    """What several places tell of a wheel, as one label, and where two of them disagree in what counts for a node.

    CUDA's minor version and torch's patch do not count so; there the first claim stands.

    :param claims: each with its place in words
    """
    known: dict[str, tuple[str, labels.Label]] = {}
    contradictions = []
    for origin, label in claims:
        for fact in labels.Label._fields:
            if getattr(label, fact) is None:
                continue
            first_origin, first = known.setdefault(fact, (origin, label))
            if not _agree(fact, getattr(first, fact), getattr(label, fact)):
                sentence = f"{first_origin} says {_FACTS[fact](first)}, and {origin} says {_FACTS[fact](label)}"
                contradictions.append(Mismatch("label", "", "", sentence))
            elif fact == "gpu_version" and str(label.gpu_version).startswith(f"{first.gpu_version}."):
                known[fact] = (origin, label)
    return labels.Label(**{fact: getattr(label, fact) for fact, (_origin, label) in known.items()}), contradictions


#: each fact in words
_FACTS: dict[str, t.Callable[[labels.Label], str]] = {
    "gpu_platform": lambda label: str(label.gpu_platform),
    "gpu_version": lambda label: f"{label.gpu_platform} {label.gpu_version}",
    "built_for": lambda label: labels.describe_built_for(label.built_for),
    "cxx11_abi": lambda label: f"C++11 ABI {format_abi(label.cxx11_abi)}",
}


def _agree(fact: str, first: t.Any, second: t.Any) -> bool:
    if fact == "gpu_version":
        return major_of(first) == major_of(second)
    if fact == "built_for":
        if not isinstance(first, labels.Torch) or not isinstance(second, labels.Torch):
            return True  # an image stands for a torch that its name does not tell
        return all(one == other for one, other in zip(_release(first), _release(second)))
    return bool(first == second)


def _release(built_for: labels.Torch) -> tuple[int, ...]:
    return _parse_version(built_for.version).release


def _explain_misnamed(filename: str, exc: Exception) -> Misnamed:
    decoded = re.sub("%2[bB]", "+", filename)
    undoubled = re.sub(r" ?\(\d+\)(?=\.whl$)", "", filename)
    if decoded != filename:
        return Misnamed(filename, f"its plus is written as in a URL; rename it to {decoded}")
    if undoubled != filename:
        return Misnamed(filename, f"a browser has numbered it; rename it to {undoubled}")
    if isinstance(exc, InvalidVersion):
        return Misnamed(filename, f"{filename.split('-')[1].partition('+')[0]!r} in it is no version")
    return Misnamed(filename, "it has not the form name-version-python-abi-platform.whl")


def _nvidia_image(environment: t.Mapping[str, t.Any]) -> str | None:
    variables = environment.get("variables") or {}
    return variables.get(CONTAINER_RELEASE) if variables.get(CONTAINER_PRODUCT) == "PyTorch" else None


def major_of(version: str | None) -> str:
    return str(version).partition(".")[0]


def format_abi(value: bool | None) -> str:
    return "unknown" if value is None else str(value).upper()


@functools.lru_cache(maxsize=4096)
def _parse_version(text: str) -> Version:
    return Version(text)


@functools.lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    return canonical(name)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which of the wheels that exist serves a node best, and what is nearest where none does.

A wheel fits when every part that its name states fits the node: torch (``major.minor``, or as much of the version as
the name has), CUDA's major (a wheel serves every minor version of its major: NVIDIA's minor version compatibility),
ROCm's ``major.minor``, C++11 ABI, and the tags of Python and platform (PEP 425, 600, 656).

Of several, first the newest version that the requirement allows; of that, in this order:

1. built for torch's own CUDA minor, then for an older one (the nearer the better), then for one that the name does not
   tell, then for a newer one;
2. the name tells the C++ ABI;
3. the name tells more of torch's version, or NVIDIA's image that the node runs;
4. the more specific tag, as pip ranks them;
5. the newer release, as its source lists them; and at last the file name, so that there is always the same answer.

A wheel for another minor version of torch, that fits in all else, may serve, too (:func:`provable_wheels`). No table tells: wheels
for torch 2.10 load on 2.11 and 2.12, and not on 2.13. Whether it does, its binaries tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    wheel_file,
)

with contextlib.suppress(ImportError):  # the control node says what it lacks before it comes here
    from packaging.specifiers import SpecifierSet
    from packaging.tags import Tag
    from packaging.version import InvalidVersion, Version

EXACT, PROVEN = "exact", "proven"
MATCHES = [EXACT, PROVEN]

_MAX_VALUES = 6  # of a kind in one message
_IMAGE_TELLS_ALL = -6  # an image stands for one build of torch: no version has so many parts
_MAX_PROVABLE = 4  # wheels for another torch that are worth a download each


class Asset(t.NamedTuple):
    """A file that a source offers."""

    filename: str
    url: str
    size: int | None = None  # bytes
    sha256: str | None = None  # hexadecimal, lower case
    release: str | None = None  # the tag of the release that it stands in


class Mismatch(t.NamedTuple):
    """One part of a wheel that does not fit a node."""

    part: str  # "torch", "CUDA", …
    wanted: str  # what the wheel is for
    found: str  # what the node has

    def __str__(self) -> str:
        return f"it is for {self.part} {self.wanted}, this node has {self.found}"


class Rank(t.NamedTuple):
    """How good a wheel is among those that fit, by the rule above; the lower, the better."""

    cuda_distance: tuple[int, int]
    is_abi_untold: bool
    untold_torch: int  # minus the number of parts of torch's version in the name
    tag: int | None  # None: no tag serves the node, and the wheel does not fit
    place: int  # in its source
    filename: str


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A wheel of the package, judged for a node."""

    asset: Asset
    version: Version
    mismatches: tuple[Mismatch, ...]


@dataclasses.dataclass(frozen=True)
class LabelledCandidate(Candidate):
    """A wheel whose name says for what it was built. No other fits."""

    label: labels.Label
    rank: Rank


class Choice(t.NamedTuple):
    """The best wheel, and why the others are not."""

    best: LabelledCandidate
    ground: str
    refused: list[dict[str, t.Any]]  # of the same version: filename, reasons
    newer: list[dict[str, str]]  # newer versions that the requirement allows: version, reason


def judge_wheels(name: str, assets: t.Iterable[Asset], environment: t.Mapping[str, t.Any]) -> list[Candidate]:
    """Judge all wheels of a package for a node; files that are none are left out.

    :param name: of the package, in any spelling
    :param assets: in the order of the source, newest release first
    :param environment: what torch_info returned, with a torch
    """
    candidates: list[Candidate] = []
    for place, asset in enumerate(assets):
        try:
            parsed = labels.parse_filename(asset.filename)
            version = Version(parsed.version)
        except (TorchExtensionError, InvalidVersion):
            continue
        if parsed.name.name != canonical(name):
            continue
        mismatches = tuple(_find_mismatches(parsed, environment))
        if parsed.label is None:
            candidates.append(Candidate(asset, version, mismatches))
        else:
            rank = _rank(parsed.label, parsed.name, environment, place, asset.filename)
            candidates.append(LabelledCandidate(asset, version, mismatches, parsed.label, rank))
    return candidates


def choose_best(
    candidates: t.Sequence[Candidate], specifier: SpecifierSet, environment: t.Mapping[str, t.Any]
) -> Choice | None:
    """The best of the wheels that fit, by the rule above; None if none does.

    :param specifier: the versions that the requirement allows (PEP 440); pre-releases count where nothing else fits
    """
    fitting: dict[Version, list[LabelledCandidate]] = {}
    for candidate in candidates:
        if isinstance(candidate, LabelledCandidate) and not candidate.mismatches:
            fitting.setdefault(candidate.version, []).append(candidate)
    allowed = list(specifier.filter(sorted(fitting)))
    if not allowed:
        return None
    version = max(allowed)
    best = min(fitting[version], key=lambda candidate: candidate.rank)
    same = [candidate for candidate in candidates if candidate.version == version]
    newer = sorted(
        {item.version for item in candidates if item.version > version and item.version in specifier} - set(fitting)
    )
    return Choice(
        best,
        _explain_choice(best, len(fitting[version]), len(same)),
        [_explain_refusal(candidate, best) for candidate in same if candidate is not best],
        [{"version": str(item), "reason": _explain_none_fits(candidates, item)} for item in reversed(newer)],
    )


def provable_wheels(
    candidates: t.Iterable[Candidate], specifier: SpecifierSet, environment: t.Mapping[str, t.Any]
) -> list[LabelledCandidate]:
    """Wheels that were built for another minor version of torch, and fit in all else: what to try, in this order.

    That is the newest version first; of that first those for older versions of torch, the nearest first, since a newer torch
    mostly still exports what an older one did; and of those for one torch the best by the rule above.

    :returns: not more than are worth a download each
    """
    node = Version(environment["torch"]["version"])
    best: dict[tuple[Version, bool, int], LabelledCandidate] = {}
    allowed = set(specifier.filter({candidate.version for candidate in candidates}))
    for candidate in candidates:
        if [mismatch.part for mismatch in candidate.mismatches] != ["torch"] or candidate.version not in allowed:
            continue
        if not isinstance(candidate, LabelledCandidate) or not isinstance(candidate.label.built_for, labels.Torch):
            continue
        built_for = Version(candidate.label.built_for.version)
        distance = node.minor - built_for.minor
        if built_for.major == node.major:
            key = (candidate.version, distance >= 0, -abs(distance))
            best[key] = min(best.get(key, candidate), candidate, key=lambda one: one.rank)
    return [best[key] for key in sorted(best, reverse=True)[:_MAX_PROVABLE]]


def describe_nearest(candidates: t.Sequence[Candidate], specifier: SpecifierSet) -> list[str]:
    """What comes nearest where nothing fits, a sentence each: what the node would need, or which other version would do."""
    sentences = []
    allowed = [candidate for candidate in candidates if candidate.version in specifier]
    if allowed:
        fewest = min(len(candidate.mismatches) for candidate in allowed)
        values_by_parts: dict[tuple[str, ...], set[str]] = {}
        for candidate in allowed:
            if len(candidate.mismatches) == fewest:
                first, *others = candidate.mismatches
                value = " and ".join([first.wanted, *(f"{other.part} {other.wanted}" for other in others)])
                values_by_parts.setdefault((first.part, *(other.part for other in others)), set()).add(value)
        for (part, *_others), values in values_by_parts.items():
            sentences.append(
                f"There is one for {part} {_join(sorted(values, key=_natural_sort_key, reverse=True), 'or')}."
            )
    other_versions = sorted(
        {item.version for item in candidates if not item.mismatches and item.version not in specifier}
    )
    if other_versions:
        listed = _join([str(version) for version in reversed(other_versions)], "and")
        sentences.append(f"For this node as it is there is a wheel of version {listed}.")
    return sentences


def describe_node(environment: t.Mapping[str, t.Any]) -> str:
    """The facts of a node that a wheel has to fit, in a line."""
    python, platform, torch = environment["python"], environment["platform"], environment["torch"]
    libc = platform["libc"] or {}
    gpu = f"ROCm {torch['hip']}" if torch["hip"] else f"CUDA {torch['cuda']}"
    return ", ".join(
        [
            f"Python {python['abi']}",
            f"torch {torch['version']} ({gpu}, C++11 ABI {_format_abi(torch['cxx11_abi'])})",
            f"{platform['system']} {platform['machine']}",
            f"{libc.get('name') or 'libc'} {libc.get('version') or 'unknown'}",
        ]
    )


def _find_mismatches(parsed: labels.ParsedFilename, environment: t.Mapping[str, t.Any]) -> t.Iterator[Mismatch]:
    if parsed.label is None:
        yield Mismatch("torch", "(its name does not tell)", environment["torch"]["version"])
    else:
        yield from _torch_mismatches(parsed.label.built_for, environment)
        yield from _gpu_mismatches(parsed.label, environment["torch"])
        yield from _abi_mismatches(parsed.label, environment["torch"])
    yield from _tag_mismatches(parsed.name, environment)


def _torch_mismatches(
    built_for: labels.Torch | labels.NvidiaImage, environment: t.Mapping[str, t.Any]
) -> t.Iterator[Mismatch]:
    torch = environment["torch"]["version"]
    if isinstance(built_for, labels.NvidiaImage):
        image = _nvidia_image(environment)
        if image != built_for.release:
            actual = f"image {image}" if image else f"torch {torch} and no such image"
            yield Mismatch("NVIDIA's image", built_for.release, actual)
        return
    version, required = Version(torch), Version(built_for.version)
    release = version.release[: len(required.release)]
    is_same = release == required.release and required.local in (None, version.local)
    # a part of the name such as a1 or .dev20250301 stands for this one build
    if not is_same or (required.is_prerelease and required.public != version.public):
        yield Mismatch("torch", built_for.version, f"torch {torch}")


def _gpu_mismatches(label: labels.Label, torch: t.Mapping[str, t.Any]) -> t.Iterator[Mismatch]:
    actual = f"ROCm {torch['hip']}" if torch["hip"] else f"CUDA {torch['cuda'] or 'none'}"
    if label.gpu_platform == labels.ROCM:
        if not torch["hip"] or torch["hip"].split(".")[:2] != label.gpu_version.split("."):
            yield Mismatch("ROCm", label.gpu_version, actual)
    elif torch["hip"] or _major(torch["cuda"]) != _major(label.gpu_version):
        yield Mismatch("CUDA", _major(label.gpu_version), actual)


def _abi_mismatches(label: labels.Label, torch: t.Mapping[str, t.Any]) -> t.Iterator[Mismatch]:
    abi = label.cxx11_abi
    if abi is None and isinstance(label.built_for, labels.Torch) and label.gpu_platform == labels.CUDA:
        abi = labels.pip_torch_abi(label.built_for.version, label.gpu_version)
    if None not in (abi, torch["cxx11_abi"]) and abi != torch["cxx11_abi"]:
        yield Mismatch("a torch with C++11 ABI", _format_abi(abi), _format_abi(torch["cxx11_abi"]))


def _tag_mismatches(name: wheel_file.WheelName, environment: t.Mapping[str, t.Any]) -> t.Iterator[Mismatch]:
    python, platform = environment["python"], environment["platform"]
    if _best_tag_rank(name, environment) is not None:
        if (platform["libc"] or {}).get("name") == "musl" and any(tag.startswith("linux_") for tag in name.platforms):
            yield Mismatch("glibc", "(all wheels so named are linked with it)", "musl")
        return
    all_tags = compatibility_tags.supported_tags(environment)
    if not any(tag.interpreter in name.pythons and tag.abi in name.abis for tag in all_tags):
        yield Mismatch("Python", _format_python_tags(name), python["abi"])
    if not any(tag.platform in name.platforms for tag in all_tags):
        libc = platform["libc"] or {}
        machine = f"{platform['system']} {platform['machine']}"
        yield Mismatch(
            "platform", "/".join(sorted(name.platforms)), f"{machine}, {libc.get('name')} {libc.get('version')}"
        )


def _format_python_tags(name: wheel_file.WheelName) -> str:
    pythons, abis = ("/".join(sorted(tags)) for tags in (name.pythons, name.abis))
    return pythons if pythons == abis else f"{pythons}-{abis}"


def _rank(
    label: labels.Label, name: wheel_file.WheelName, environment: t.Mapping[str, t.Any], place: int, filename: str
) -> Rank:
    built_for = label.built_for
    return Rank(
        _cuda_distance(label.gpu_version if label.gpu_platform == labels.CUDA else None, environment["torch"]["cuda"]),
        label.cxx11_abi is None,
        -len(_version_parts(built_for.version)) if isinstance(built_for, labels.Torch) else _IMAGE_TELLS_ALL,
        _best_tag_rank(name, environment),
        place,
        filename,
    )


def _cuda_distance(wheel: str | None, torch: str | None) -> tuple[int, int]:
    if not wheel or not torch or "." not in wheel:
        return (2, 0)
    distance = int(torch.split(".")[1]) - int(wheel.split(".")[1])
    if distance < 0:
        return (3, -distance)
    return (1 if distance else 0, distance)


def _best_tag_rank(name: wheel_file.WheelName, environment: t.Mapping[str, t.Any]) -> int | None:
    """The rank of a wheel's best tag among those of a node; None if no tag serves."""
    rank_of = compatibility_tags.supported_tags(environment)
    tags = (Tag(python, abi, platform) for python in name.pythons for abi in name.abis for platform in name.platforms)
    return min((rank_of[tag] for tag in tags if tag in rank_of), default=None)


def _nvidia_image(environment: t.Mapping[str, t.Any]) -> str | None:
    variables = environment.get("variables") or {}
    return variables.get(CONTAINER_RELEASE) if variables.get(CONTAINER_PRODUCT) == "PyTorch" else None


def _explain_choice(best: LabelledCandidate, fitting: int, same: int) -> str:
    counted = f"{fitting} of {same} wheels of {best.version} fit" if same > 1 else f"the only wheel of {best.version}"
    return f"{describe_label(best)}; {counted}"


def describe_label(candidate: LabelledCandidate) -> str:
    """What the name of a wheel says, in words."""
    label, built_for = candidate.label, candidate.label.built_for
    built = (
        f"torch {built_for.version}" if isinstance(built_for, labels.Torch) else f"NVIDIA's image {built_for.release}"
    )
    gpu = f"{label.gpu_platform} {label.gpu_version}"
    abi = "an untold C++11 ABI" if label.cxx11_abi is None else f"C++11 ABI {_format_abi(label.cxx11_abi)}"
    name = wheel_file.parse_name(candidate.asset.filename)
    tags = "-".join(".".join(sorted(part)) for part in (name.pythons, name.abis, name.platforms))
    return f"its name says {built}, {gpu}, {abi}, {tags}"


def _explain_refusal(candidate: Candidate, best: Candidate) -> dict[str, t.Any]:
    reasons = [str(mismatch) for mismatch in candidate.mismatches]
    return {
        "filename": candidate.asset.filename,
        "reasons": reasons or [f"it fits, but {best.asset.filename} is nearer"],
    }


def _explain_none_fits(candidates: t.Sequence[Candidate], version: Version) -> str:
    same = [candidate for candidate in candidates if candidate.version == version]
    return f"none of its {len(same)} wheels fits. " + " ".join(describe_nearest(same, SpecifierSet(f"=={version}")))


def _join(values: t.Sequence[str], conjunction: str) -> str:
    shown = list(values[:_MAX_VALUES])
    if len(values) > len(shown):
        return f"{', '.join(shown)} and {len(values) - len(shown)} more"
    return f" {conjunction} ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _natural_sort_key(text: str) -> list[t.Any]:
    """Sorts 2.9 before 2.10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in _version_parts(text)]


def _version_parts(text: str) -> list[str]:
    return [piece for piece in text.replace("+", ".").replace(" ", ".").split(".") if piece]


def _major(version: str | None) -> str:
    return str(version).partition(".")[0]


def _format_abi(value: bool | None) -> str:
    return "unknown" if value is None else str(value).upper()

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Wheel files: what their names say, what is in them, and whether they are the ones that were meant."""

from __future__ import annotations

import os
import re
import typing as t
from email.message import Message
from email.parser import HeaderParser

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import python_tags

_NAME = re.compile(r"[A-Za-z0-9][\w.+!-]{0,250}", re.ASCII)  # which is no option of a command
_BUILD = re.compile(r"(\d{1,18})(.*)")  # PEP 427

METADATA_NAME = re.compile(r"[^/]+\.dist-info/METADATA$")
METADATA_LIMIT = 4 << 20  # bytes; real ones are a few KiB, and a hostile one must not fill the memory
_MAX_REQUIREMENTS = 1000  # lines Requires-Dist; those of the largest packages have some hundred
_MAX_REQUIREMENT_LENGTH = 2000  # characters of one


#: folders that some wheels bring along
_NOT_IMPORTED = ("test", "tests", "example", "examples", "benchmark", "benchmarks", "docs", "setup")


class WheelName(t.NamedTuple):
    """The parts of a wheel's file name (PEP 427), each tag as the set of its alternatives."""

    name: str
    version: str
    pythons: frozenset[str]
    abis: frozenset[str]
    platforms: frozenset[str]
    build: tuple[int, str] | tuple[()] = ()  # of two wheels that differ in it alone, the higher one is the better


class WheelMetadata(t.NamedTuple):
    """The METADATA of a wheel."""

    name: str
    version: str
    requires: tuple[str, ...]  # Requires-Dist, PEP 508
    requires_python: str  # a set of specifiers, PEP 440; empty if any will do


def parse_name(filename: str) -> WheelName:
    """Take the file name of a wheel apart.

    :raises TorchExtensionError: if it is no name of a wheel, or holds a path
    """
    parts = filename[: -len(".whl")].split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6) or not _NAME.fullmatch(filename):
        raise TorchExtensionError(f"{filename!r} is not the name of a wheel (name-version-python-abi-platform.whl).")
    build = _BUILD.match(parts[2]) if len(parts) == 6 else None
    if len(parts) == 6 and not build:
        raise TorchExtensionError(
            f"{filename!r} is not the name of a wheel: of six parts the third is a build number, which begins with a digit,"
            f" and this is {parts[2]!r}."
        )
    pythons, abis, platforms = (frozenset(part.split(".")) for part in parts[-3:])
    return WheelName(
        canonical(parts[0]), parts[1], pythons, abis, platforms, (int(build[1]), build[2]) if build else ()
    )


def parse_name_or_none(filename: str) -> WheelName | None:
    """Take the file name of a wheel apart, or None if it is none."""
    try:
        return parse_name(filename)
    except TorchExtensionError:
        return None


def tag_mismatch(name: WheelName, environment: t.Mapping[str, t.Any]) -> str | None:
    """Why the tags of a wheel do not serve an interpreter, or None if they do.

    pip checks again when it installs; this is for a message before anything is unpacked.
    """
    python, platform = environment["python"], environment["platform"]
    accepted = python_tags.accepted_pairs(python["version"], python["tag"], python["abi"])
    if not any((tag, abi) in accepted for tag in name.pythons for abi in name.abis):
        return (
            f"it is for Python {python_tags.format_pairs(name.pythons, name.abis)}, this interpreter is"
            f" {python_tags.format_pairs([python['tag']], [python['abi']])}"
        )
    if not any(tag == "any" or tag.endswith("_" + platform["machine"]) for tag in name.platforms):
        return (
            f"it is for {'/'.join(sorted(name.platforms))}, this node is {platform['system']} on {platform['machine']}"
        )
    return None


def read_metadata(path: str, file: t.Any = None) -> WheelMetadata:
    """Read a wheel's METADATA. Nothing is unpacked and no path inside the archive is used as one.

    :param file: a binary file to read instead of the one at that path, which then stands for it in messages
    :raises TorchExtensionError: if the file is no wheel
    """
    name = os.path.basename(path)
    try:
        with archives.open_zip(path, archives.WHEEL, file) as archive:
            members = [member for member in archive.file_names() if METADATA_NAME.match(member)]
            if len(members) != 1:
                raise TorchExtensionError(
                    f"{name} is not a wheel: it has {len(members)} METADATA files, a wheel has one."
                )
            content = archive.open_file(members[0]).read_all(METADATA_LIMIT)
    except archives.UnsoundArchiveError as exc:
        raise TorchExtensionError(f"{name} is not a sound wheel: {exc}.") from exc
    except archives.ArchiveError as exc:
        raise TorchExtensionError(f"{name} is not a wheel: {exc}.") from exc
    return parse_metadata(content, name)


def find_modules(names: t.Iterable[str]) -> list[str]:
    """What can be imported of a wheel: its packages; or its modules, if it has none; or else its libraries.

    A library may want its package, or torch, to be imported first. Folders of tests and examples are left out.

    :param names: of its members
    """
    found: dict[str, set[str]] = {"package": set(), "module": set(), "library": set()}
    for name in names:
        top, _slash, rest = name.partition("/")
        stem, _dot, suffix = top.partition(".")
        if stem in _NOT_IMPORTED or not stem.isidentifier():
            continue
        if rest == "__init__.py":
            found["package"].add(top)
        elif not rest and suffix == "py":
            found["module"].add(stem)
        elif not rest and suffix.endswith("so"):
            found["library"].add(stem)
    return sorted(found["package"] or found["module"] or found["library"])


def parse_metadata(content: bytes, filename: str) -> WheelMetadata:
    """Read the METADATA of a wheel.

    :param filename: of the wheel, for messages
    :raises TorchExtensionError: if it names no distribution
    """
    headers = _parse_headers(content)
    if not headers["Name"] or not headers["Version"]:
        raise TorchExtensionError(f"{filename} is not a sound wheel: its METADATA has no Name or no Version.")
    if not all(map(str.isprintable, (headers["Name"], headers["Version"]))):
        raise TorchExtensionError(f"{filename} is not a sound wheel: its Name or its Version cannot be printed.")
    requires = read_requirements(content, filename)
    return WheelMetadata(
        canonical(headers["Name"]), headers["Version"].strip(), requires, headers["Requires-Python"] or ""
    )


def read_requirements(content: bytes, filename: str) -> tuple[str, ...]:
    """The lines Requires-Dist of METADATA.

    :param filename: of the wheel, for messages
    :raises TorchExtensionError: if there are more, or longer ones, than any package has
    """
    lines = tuple(_parse_headers(content).get_all("Requires-Dist") or ())
    longest = max(map(len, lines), default=0)
    if len(lines) > _MAX_REQUIREMENTS or longest > _MAX_REQUIREMENT_LENGTH:
        raise TorchExtensionError(
            f"{filename} is not a sound wheel: its METADATA has {len(lines)} lines Requires-Dist, the longest of {longest}"
            f" characters, wanted are no more than {_MAX_REQUIREMENTS} lines of {_MAX_REQUIREMENT_LENGTH} characters."
        )
    return lines


def _parse_headers(content: bytes) -> Message:
    return HeaderParser().parsestr(content.decode("utf-8", "replace"))


def check_metadata(path: str, filename: str) -> WheelMetadata:
    """Check that a file is the wheel that its name says.

    Official wheels of flash-attn are renamed after the build: the name carries a local label (``2.5.3+cu122torch2.2…``)
    that METADATA lacks. pip installs them by path all the same, so the public versions are what must agree.

    :returns: the wheel's METADATA
    :raises TorchExtensionError: if it is another one
    """
    metadata = read_metadata(path)
    check_same_wheel(metadata, filename)
    return metadata


def check_same_wheel(metadata: WheelMetadata, filename: str) -> None:
    """Check that METADATA is of the wheel that a file's name says; see :func:`check_metadata`.

    :raises TorchExtensionError: if it is of another one
    """
    name = parse_name(filename)
    if (metadata.name, public_version(metadata.version)) != (name.name, public_version(name.version)):
        raise TorchExtensionError(
            f"{filename} is not what its name says: its METADATA is of {metadata.name} {metadata.version}."
        )


def check_tags(filename: str, environment: t.Mapping[str, t.Any]) -> None:
    """Check that a file is named as a wheel whose tags serve an environment.

    :raises TorchExtensionError: if it is no name of a wheel, holds a path, or is for another interpreter
    """
    reason = tag_mismatch(parse_name(filename), environment)
    if reason:
        raise TorchExtensionError(f"{filename} does not fit {environment['python']['executable']}: {reason}.")


def delivered_path(wheel: t.Mapping[str, t.Any], folder: str) -> str:
    """Where a wheel lies that was delivered to a folder: in its ``subfolder`` there, if it has one."""
    return os.path.join(folder, wheel.get("subfolder") or "", wheel["filename"])


def check_delivered(wheel: t.Mapping[str, t.Any], folder: str, environment: t.Mapping[str, t.Any]) -> WheelMetadata:
    """Check that a file in a folder is the wheel that a plan names, and that its tags serve an environment.

    :param wheel: its ``filename``, and its ``sha256`` if that is known
    :returns: the wheel's METADATA
    :raises TorchExtensionError: if it is another one, or is for another interpreter
    """
    check_tags(wheel["filename"], environment)
    path = delivered_path(wheel, folder)
    check_sha256(path, wheel["sha256"])
    return check_metadata(path, wheel["filename"])


def public_version(version: str) -> str:
    """A version without its local label (PEP 440)."""
    return version.partition("+")[0]

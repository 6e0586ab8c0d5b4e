# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Wheel files: what their names say, what is in them, and whether they are the ones that were meant."""

from __future__ import annotations

import os
import re
import typing as t
import zipfile
import zlib
from email.parser import HeaderParser

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256

_METADATA_LIMIT = 4 << 20  # bytes; real ones are a few KiB, and a hostile one must not fill the memory


class WheelName(t.NamedTuple):
    """The parts of a wheel's file name (PEP 427), each tag as the set of its alternatives."""

    name: str
    version: str
    pythons: frozenset[str]
    abis: frozenset[str]
    platforms: frozenset[str]


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
    if not filename.endswith(".whl") or len(parts) not in (5, 6) or not re.match(r"[\w.+!-]+$", filename):
        raise TorchExtensionError(f"{filename!r} is not the name of a wheel (name-version-python-abi-platform.whl).")
    pythons, abis, platforms = (frozenset(part.split(".")) for part in parts[-3:])
    return WheelName(canonical(parts[0]), parts[1], pythons, abis, platforms)


def tag_mismatch(name: WheelName, environment: t.Mapping[str, t.Any]) -> str | None:
    """Why the tags of a wheel do not serve an interpreter, or None if they do.

    pip checks again when it installs; this is for a message before anything is unpacked.
    """
    python, platform = environment["python"], environment["platform"]
    major = "py" + python["version"].split(".")[0]
    abi3 = (
        {f"cp3{minor}" for minor in range(2, int(python["version"].split(".")[1]) + 1)}
        if "abi3" in name.abis
        else set()
    )
    if not name.pythons & ({python["tag"], major, python["tag"].replace("cp", "py")} | abi3):
        return f"it is for Python {'/'.join(sorted(name.pythons))}, this interpreter is {python['tag']}"
    if not name.abis & {python["abi"], "abi3", "none"}:
        return f"it is for the Python ABI {'/'.join(sorted(name.abis))}, this interpreter has {python['abi']}"
    if not any(tag == "any" or tag.endswith("_" + platform["machine"]) for tag in name.platforms):
        return (
            f"it is for {'/'.join(sorted(name.platforms))}, this node is {platform['system']} on {platform['machine']}"
        )
    return None


def read_metadata(path: str) -> WheelMetadata:
    """Read a wheel's METADATA. Nothing is unpacked and no path inside the archive is used as one.

    :raises TorchExtensionError: if the file is no wheel
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if re.match(r"[^/]+\.dist-info/METADATA$", info.filename)]
            if len(members) != 1:
                raise TorchExtensionError(
                    f"{os.path.basename(path)} is not a wheel: it has {len(members)} METADATA files, a wheel has one."
                )
            if members[0].file_size > _METADATA_LIMIT:
                raise TorchExtensionError(
                    f"{os.path.basename(path)} is not a sound wheel: its METADATA is larger than {_METADATA_LIMIT}"
                    " bytes."
                )
            with archive.open(members[0]) as file:
                headers = HeaderParser().parsestr(file.read(_METADATA_LIMIT).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as exc:
        raise TorchExtensionError(f"{os.path.basename(path)} is not a wheel: {exc}.") from exc
    if not headers["Name"] or not headers["Version"]:
        raise TorchExtensionError(
            f"{os.path.basename(path)} is not a sound wheel: its METADATA has no Name or no Version."
        )
    return WheelMetadata(
        canonical(headers["Name"]),
        headers["Version"].strip(),
        tuple(headers.get_all("Requires-Dist") or ()),
        headers["Requires-Python"] or "",
    )


def check_metadata(path: str, filename: str) -> WheelMetadata:
    """Check that a file is the wheel that its name says.

    Official wheels of flash-attn are renamed after the build: the name carries a local label (``2.5.3+cu122torch2.2…``)
    that METADATA lacks. pip installs them by path all the same, so the public versions are what must agree.

    :returns: the wheel's METADATA
    :raises TorchExtensionError: if it is another one
    """
    name, metadata = parse_name(filename), read_metadata(path)
    if (metadata.name, public_version(metadata.version)) != (name.name, public_version(name.version)):
        raise TorchExtensionError(
            f"{filename} is not what its name says: its METADATA is of {metadata.name} {metadata.version}."
        )
    return metadata


def check_tags(filename: str, environment: t.Mapping[str, t.Any]) -> None:
    """Check that a file is named as a wheel whose tags serve an environment.

    :raises TorchExtensionError: if it is no name of a wheel, holds a path, or is for another interpreter
    """
    reason = tag_mismatch(parse_name(filename), environment)
    if reason:
        raise TorchExtensionError(f"{filename} does not fit {environment['python']['executable']}: {reason}.")


def check_delivered(wheel: t.Mapping[str, t.Any], folder: str, environment: t.Mapping[str, t.Any]) -> WheelMetadata:
    """Check that a file in a folder is the wheel that a plan names, and that its tags serve an environment.

    :param wheel: its ``filename``, and its ``sha256`` if that is known
    :returns: the wheel's METADATA
    :raises TorchExtensionError: if it is another one, or is for another interpreter
    """
    check_tags(wheel["filename"], environment)
    path = os.path.join(folder, wheel["filename"])
    check_sha256(path, wheel["sha256"])
    return check_metadata(path, wheel["filename"])


def public_version(version: str) -> str:
    """A version without its local label (PEP 440)."""
    return version.partition("+")[0]

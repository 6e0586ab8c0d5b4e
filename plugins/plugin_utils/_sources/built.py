# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The wheels that were built for this control node: its store, and for which nodes each of them is.

A built wheel is bound to no more of a node than one that a project publishes: torch's ``major.minor``, CUDA's major, the C++ ABI,
Python, machine, a glibc that is not older than the builder's, and the architectures of its GPUs. How it was built stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from pathlib import Path

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import BUILT_FOLDER
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import covers

_RECORD = "build.json"
_FORMAT = 1


class BuildKind(t.NamedTuple):
    """What of a node the wheel of an extension is bound to when it is compiled."""

    python: str  # ABI tag: cp311
    machine: str
    torch: str  # major.minor
    cuda: str | None  # major
    hip: str | None  # major.minor
    cxx11_abi: bool | None

    @classmethod
    def of(cls, environment: t.Mapping[str, t.Any]) -> BuildKind:
        """That of a node with a torch.

        :param environment: what torch_info returned
        """
        torch = environment["torch"]
        return cls(
            environment["python"]["abi"],
            environment["platform"]["machine"],
            _minor(torch["version"]),
            (torch["cuda"] or "").partition(".")[0] or None,
            _minor(torch["hip"]) if torch["hip"] else None,
            torch["cxx11_abi"],
        )

    @property
    def label(self) -> str:
        """The local label for the file name of a wheel, in the form that the projects use in their releases."""
        gpu = f"cu{self.cuda}" if self.cuda else f"rocm{self.hip}" if self.hip else "cpu"
        abi = "" if self.cxx11_abi is None else f"cxx11abi{str(self.cxx11_abi).upper()}"
        return f"{gpu}torch{self.torch}{abi}"


class BuildRecord(t.NamedTuple):
    """How a wheel was built. All of it goes through JSON."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int  # bytes
    kind: BuildKind
    libc: str | None  # the builder's: "2.36"
    architectures: tuple[str, ...]  # empty where nothing of it is compiled for a GPU
    sdist: str  # file name
    sdist_sha256: str
    asked_sha256: str  # of the sdist that was asked for; another one where that is not complete
    torch: str  # that it was compiled against, with its label
    compilers: t.Mapping[str, str]  # versions by name
    builder: str  # the host's name in the inventory
    core_seconds: float  # of all compilers together
    built_at: float  # seconds since the epoch

    def provenance(self) -> dict[str, t.Any]:
        """Where the wheel comes from, as lock and bill of materials tell it: no more than its inputs and its builder."""
        return {
            "sdist": self.sdist,
            "sdist_sha256": self.sdist_sha256,
            "torch": self.torch,
            "architectures": list(self.architectures),
            "compilers": dict(self.compilers),
            "builder": self.builder,
        }


class BuiltWheel(t.NamedTuple):
    """A wheel in the store."""

    path: str
    record: BuildRecord

    @property
    def url(self) -> str:
        return Path(self.path).as_uri()


def glibc_numbers(version: str | None) -> list[int]:
    """A version of glibc, to compare it; one that is not known comes first."""
    return [int(part) for part in (version or "").split(".") if part.isdigit()]


def find_built(
    cache: str,
    name: str,
    kind: BuildKind,
    libc: str | None,
    sdist_sha256: str | None,
    architectures: t.Collection[str],
) -> list[BuiltWheel]:
    """The wheels in the store that serve a node, the one for most architectures first, and of these the newest.

    :param cache: the folder of the control node's cache
    :param libc: the node's version of glibc
    :param sdist_sha256: of what they have to be built from; None if any sdist will do
    :param architectures: of the node's GPUs
    """
    fitting = [
        built
        for built in list_built(cache)
        if (built.record.name, built.record.kind) == (name, kind)
        and sdist_sha256 in (None, built.record.asked_sha256)
        and _is_not_newer(built.record.libc, libc)
        and (not built.record.architectures or covers(built.record.architectures, architectures))
    ]
    return sorted(
        fitting, key=lambda built: (len(built.record.architectures), built.record.built_at, built.path), reverse=True
    )


def list_built(cache: str) -> list[BuiltWheel]:
    """All wheels in the store. What cannot be read does not count: it would be built again."""
    try:
        folders = sorted(os.scandir(os.path.join(cache, BUILT_FOLDER)), key=lambda entry: entry.name)
    except OSError:
        return []
    return [built for folder in folders if folder.is_dir() for built in [_read(folder.path)] if built]


def store_wheel(cache: str, wheel: str, record: BuildRecord) -> BuiltWheel:
    """Put a wheel into the store, with its record; what is found there is whole.

    :param wheel: its path on the control node, on the file system of the cache; it is moved
    :raises TorchExtensionError: if the cache cannot be used
    """
    facts = [record.sha256, record.kind, record.libc, record.architectures, record.asked_sha256]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = os.path.join(cache, BUILT_FOLDER, f"{record.name}-{record.version}-{key}")
    path = os.path.join(folder, record.filename)
    with explain_write_errors(path):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary.remove_leftovers(folder)
        atomic.put_in_place(wheel, path)  # a plan believes it by its size
        # the record comes last: a folder without it holds nothing
        atomic.write_bytes(os.path.join(folder, _RECORD), json.dumps({"format": _FORMAT, **_to_json(record)}).encode())
    return BuiltWheel(path, record)


def _read(folder: str) -> BuiltWheel | None:
    try:
        fields = read_json(os.path.join(folder, _RECORD))
        if fields.pop("format") != _FORMAT:
            return None
        record = BuildRecord(
            **{
                **fields,
                "kind": BuildKind(**fields["kind"]),
                "architectures": tuple(fields["architectures"]),
            }
        )
        path = os.path.join(folder, os.path.basename(record.filename))
        # whoever takes it compares its hash, and throws it away where that is another one
        return BuiltWheel(path, record) if os.path.getsize(path) == record.size else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _to_json(record: BuildRecord) -> dict[str, t.Any]:
    return {**record._asdict(), "kind": record.kind._asdict()}


def _minor(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])


def _is_not_newer(built: str | None, node: str | None) -> bool:
    """Whether a builder's glibc is not newer than a node's. Where one of them is not known, the proof decides."""
    if built is None or node is None:
        return True
    return glibc_numbers(built) <= glibc_numbers(node)

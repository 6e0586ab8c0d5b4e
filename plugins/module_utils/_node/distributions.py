# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Installed distributions, read from their metadata folders."""

from __future__ import annotations

import contextlib
import io
import os
import re
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import read_file, read_start

_MAX_RECORD, _MAX_ROWS = 32 << 20, 500_000  # bytes and files; torch's has 1.5 MiB and 13,000
_MAX_METADATA = 4 << 20  # bytes; real ones are a few KiB
_MAX_ORIGIN = 64 << 10  # bytes; likewise


class Distribution(t.NamedTuple):
    """An installed distribution.

    ``is_complete``: it has a RECORD. Installers write that last, so without one the installation broke off (or the
    operating system's packager, who keeps no RECORD, installed it).
    """

    name: str
    version: str
    path: str
    is_complete: bool

    @property
    def folder(self) -> str:
        """The folder of the search path that it is in."""
        return os.path.dirname(self.path)


class RecordEntry(t.NamedTuple):
    """A line of RECORD: a path relative to the folder of packages, and the file's hash and size when it was installed."""

    path: str
    hash: str  # "sha256=…" in base64 without padding, or empty
    size: str  # in bytes, or empty


def find_installed(folders: t.Iterable[str]) -> dict[str, Distribution]:
    """The distributions in folders given in the order of sys.path, by normalised name; the first folder that has one counts.

    :raises OSError: if a folder cannot be read
    """
    return {name: found[0] for name, found in find_all_records(folders).items()}


def find_all_records(folders: t.Iterable[str]) -> dict[str, list[Distribution]]:
    """All records of each distribution that :func:`find_installed` finds, in its folder; first the one whose files are there.

    An upgrade that was aborted leaves the record of the old version beside that of the new one, and Python takes one of the two
    (``importlib.metadata``: whichever the file system lists first).

    :raises OSError: if a folder cannot be read
    """
    found: dict[str, list[Distribution]] = {}
    for folder in folders:
        in_folder: dict[str, list[Distribution]] = {}
        for distribution in _list_folder(folder):
            in_folder.setdefault(distribution.name, []).append(distribution)
        for name, records in in_folder.items():
            if name not in found:
                found[name] = sorted(records, key=_doubtfulness) if len(records) > 1 else records
    return found


def read_record(distribution: Distribution) -> list[RecordEntry]:
    """The files of a distribution, as its installer wrote them down (PEP 376); of a RECORD that is damaged, what can be read."""
    import csv  # a node compiles what it imports each time, and one without extensions needs no RECORD

    entries: list[RecordEntry] = []
    text = read_start(os.path.join(distribution.path, "RECORD"), _MAX_RECORD).decode("utf-8", "replace")
    with contextlib.suppress(csv.Error):
        for row in csv.reader(io.StringIO(text.replace("\0", ""), newline="")):
            if len(entries) == _MAX_ROWS:
                break
            if row:
                entries.append(RecordEntry(*[*row, "", ""][:3]))
    return entries


def _list_folder(folder: str) -> t.Iterator[Distribution]:
    if os.path.isfile(folder):  # a zip file
        return
    entries = sorted(os.listdir(folder))
    if folder.endswith(".egg") and "EGG-INFO" in entries:  # of easy_install
        name, _dash, version = os.path.basename(folder)[: -len(".egg")].partition("-")
        yield Distribution(canonical(name), _egg_version(version), os.path.join(folder, "EGG-INFO"), False)
    for entry in entries:
        stem, extension = os.path.splitext(entry)
        name, _dash, version = stem.partition("-")
        # pip renames what it is about to remove to "~name": debris of a broken run, not a distribution.
        if extension not in (".dist-info", ".egg-info") or name.startswith("~"):
            continue
        path = os.path.join(folder, entry)
        if extension == ".egg-info":  # without a version where setup.py develop has left it beside the source
            version = _egg_version(version) or _read_version(os.path.join(path, "PKG-INFO"))
        elif not os.path.isfile(os.path.join(path, "METADATA")):
            continue  # left over from a removal that broke off
        if version:
            is_complete = os.path.isfile(os.path.join(path, "RECORD"))
            yield Distribution(canonical(name), version, path, is_complete)


def _egg_version(text: str) -> str:
    return text.partition("-py")[0]


def _read_version(path: str) -> str:
    try:
        text = read_start(path, 1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r"^Version:\s*(\S+)", text, re.MULTILINE)
    return match.group(1) if match else ""


def _doubtfulness(distribution: Distribution) -> tuple[int, float]:
    """How many of its files are not as recorded; of several that are alike, the one that was installed last is the least doubtful."""
    faults = 0
    if not distribution.is_complete:
        faults = 1 << 30
    else:
        for row in read_record(distribution):
            try:
                status = os.stat(os.path.join(distribution.folder, row.path))
            except OSError:
                faults += 1
                continue
            faults += bool(row.size) and row.size != str(status.st_size)
    return faults, -os.stat(distribution.path).st_mtime


def read_origin(distribution: Distribution) -> dict[str, str | None] | None:
    """From which file a distribution was installed: its ``filename`` and ``sha256``, or None where that is not recorded.

    Installers record it in direct_url.json (PEP 610) when they are given a file, as this collection does; uv leaves
    out the hash.
    """
    try:
        record = _read_direct_url(distribution)
        archive = record["archive_info"]
        filename = os.path.basename(unquote(urlsplit(record["url"]).path))
        hashes = dict([archive["hash"].split("=", 1)]) if archive.get("hash") else {}
        hashes.update(archive.get("hashes") or {})
        return {"filename": filename, "sha256": hashes.get("sha256")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def came_from_file(distribution: Distribution) -> bool:
    """Whether pip or uv has installed a distribution from a file on this machine, as for this collection."""
    try:
        record = _read_direct_url(distribution)
        installer = read_file(os.path.join(distribution.path, "INSTALLER"), _MAX_ORIGIN).decode("utf-8").strip()
        return "archive_info" in record and urlsplit(record["url"]).scheme == "file" and installer in ("pip", "uv")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_requirements(distribution: Distribution) -> set[str]:
    """The normalised names of the distributions that one requires, be it with an extra or on another machine.

    :raises OSError: if its metadata cannot be read
    """
    names: set[str] = set()
    for file, pattern in (
        ("METADATA", r"^Requires-Dist:\s*([\w.-]+)"),
        ("PKG-INFO", r"^Requires-Dist:\s*([\w.-]+)"),
        ("requires.txt", r"^([A-Za-z0-9][\w.-]*)"),  # of an egg
    ):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            text = read_start(os.path.join(distribution.path, file), _MAX_METADATA).decode("utf-8", "replace")
            names.update(canonical(name) for name in re.findall(pattern, text, re.MULTILINE))
    return names


def _read_direct_url(distribution: Distribution) -> t.Any:
    if not distribution.is_complete:
        return None
    return parse_json(read_file(os.path.join(distribution.path, "direct_url.json"), _MAX_ORIGIN))

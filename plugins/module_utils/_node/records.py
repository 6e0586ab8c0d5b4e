# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The files of installed distributions, as their installers wrote them down: whose files they are; amend, remove."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import typing as t
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import record_hash
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    RecordEntry,
    find_all_records,
    find_installed,
    read_origin,
    read_record,
)

_REQUESTED = "REQUESTED"


def find_owners(paths: t.Collection[str], folder: str, except_for: t.Container[str]) -> dict[str, list[str]]:
    """Which of some files, by their paths in a folder of packages, belong to which other distributions there.

    :param except_for: normalised names of distributions that do not count
    :returns: by the name and version of the distribution
    """
    owners = {}
    for distribution in find_installed([folder]).values():
        if distribution.name in except_for or not distribution.is_complete:
            continue
        recorded = {os.path.normpath(row.path) for row in read_record(distribution) if not row.path.endswith(".pyc")}
        shared = sorted(recorded.intersection(paths))
        if shared:
            owners[f"{distribution.name} {distribution.version}"] = shared
    return owners


def remove_record(record: Distribution) -> None:
    """Remove a distribution whose record was left over: what no other distribution of the folder has recorded, and then the record.

    Files outside of the folder stay.
    """
    paths = {os.path.normpath(row.path) for row in read_record(record)} if record.is_complete else set()
    paths = {path for path in paths if not os.path.isabs(path) and path.split(os.sep, 1)[0] != ".."}
    kept = {
        os.path.normpath(row.path)
        for other in _list_others(record)
        for row in (read_record(other) if other.is_complete else ())
    }
    for path in sorted(paths - kept):
        if path.split(os.sep, 1)[0] != os.path.basename(record.path):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(record.folder, path))
    shutil.rmtree(record.path, ignore_errors=True)


def _list_others(record: Distribution) -> t.Iterator[Distribution]:
    for records in find_all_records([record.folder]).values():
        yield from (other for other in records if other.path != record.path)


def record_origin(distribution: Distribution, filename: str, sha256: str) -> None:
    """Write down from which file a distribution was installed, where its installer has not, in the file that PEP 610 has for it.

    uv leaves out the hash, and pip before 20.1 writes no such file.
    """
    origin = read_origin(distribution) or {}
    if not distribution.is_complete or (origin.get("filename"), origin.get("sha256")) == (filename, sha256.lower()):
        return
    archive = {"hash": f"sha256={sha256.lower()}", "hashes": {"sha256": sha256.lower()}}
    text = json.dumps({"url": f"file:///{quote(filename)}", "archive_info": archive})
    path = os.path.join(distribution.path, "direct_url.json")
    atomic.write_bytes(path, text.encode(), folder=distribution.folder)  # where leftovers are looked for
    name = f"{os.path.basename(distribution.path)}/direct_url.json"
    rows = [row for row in read_record(distribution) if row.path != name]
    _write_record(distribution, [*rows, RecordEntry(name, record_hash(path), str(os.path.getsize(path)))])


def is_requested(distribution: Distribution) -> bool:
    """Whether somebody has asked for a distribution itself, by the mark that installers give it then (PEP 376)."""
    return os.path.exists(os.path.join(distribution.path, _REQUESTED))


def mark_as_requirement(distribution: Distribution) -> None:
    """Record that nobody has asked for a distribution itself: it has come because another one requires it.

    An installer that is handed the file of a requirement takes it for asked for.
    """
    if not distribution.is_complete or not is_requested(distribution):
        return
    name = f"{os.path.basename(distribution.path)}/{_REQUESTED}"
    _write_record(distribution, [row for row in read_record(distribution) if row.path != name])
    os.unlink(os.path.join(distribution.path, _REQUESTED))


def _write_record(distribution: Distribution, rows: t.Iterable[RecordEntry]) -> None:
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows(rows)
    path = os.path.join(distribution.path, "RECORD")
    atomic.write_bytes(path, lines.getvalue().encode(), folder=distribution.folder)

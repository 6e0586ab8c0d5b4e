# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether the files of an installed distribution are as its installer wrote them."""

from __future__ import annotations

import base64
import errno
import os
import stat
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import read_start
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    RecordEntry,
    read_record,
)

#: the last one by a path of a RECORD that is damaged itself
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Damage(t.NamedTuple):
    """The files of a distribution that are not as its RECORD has them, by their paths there."""

    missing: list[str]
    changed: list[str]  # as their size tells, or their time and then their hash
    hidden: list[str]  # as their hash alone tells: somebody has kept size and time

    def __bool__(self) -> bool:
        return any(self[:])


def find_damage(distribution: Distribution, reads_all: bool = False) -> Damage:
    """Compare the files of a distribution with its RECORD.

    All files are looked at, and only those read that are newer than RECORD, which pip, uv and :func:`records.record_origin` write last.
    What Python compiles does not count, nor does metadata that is missing. Nor does RECORD count where conda has installed the
    distribution: it edits files afterwards. Importing proves nothing: a package without its ``__init__.py`` can still be imported.

    :param reads_all: whether all files are read, by which ``hidden`` is found
    :raises OSError: if a file cannot be read
    """
    damage = Damage([], [], [])
    folder, metadata = os.path.split(distribution.path)
    record = f"{metadata}/RECORD"
    if not distribution.is_complete:
        return damage._replace(missing=[record])
    if _read_installer(distribution) == "conda":
        return damage
    rows = read_record(distribution)
    if not _lists(record, rows):
        damage.changed.append(record)
    installed = os.stat(os.path.join(distribution.path, "RECORD")).st_mtime_ns
    for row in rows:
        if row.path.endswith(".pyc"):
            continue
        path = os.path.join(folder, row.path)
        try:
            status = os.stat(path)
        except OSError as exc:
            if exc.errno not in _NO_FILE:
                raise
            if not row.path.startswith(f"{metadata}/"):
                damage.missing.append(row.path)
            continue
        if not stat.S_ISREG(status.st_mode) or (row.size and row.size != str(status.st_size)):
            damage.changed.append(row.path)
        elif row.hash.startswith("sha256="):
            is_newer = status.st_mtime_ns > installed
            if (is_newer or reads_all) and record_hash(path) != row.hash:
                (damage.changed if is_newer else damage.hidden).append(row.path)
    return damage


def has_sound_record(distribution: Distribution) -> bool:
    """Whether there is a RECORD that is whole as far as it tells itself."""
    record = f"{os.path.basename(distribution.path)}/RECORD"
    return distribution.is_complete and _lists(record, read_record(distribution))


def _lists(record: str, rows: t.Iterable[RecordEntry]) -> bool:
    """Whether RECORD lists itself, as it does unless a power cut has left it empty or cut."""
    return any(row.path == record for row in rows)


def _read_installer(distribution: Distribution) -> str:
    try:
        return read_start(os.path.join(distribution.path, "INSTALLER"), 100).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def record_hash(path: str) -> str:
    """The SHA-256 of a file as RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256_of(path))).rstrip(b"=").decode()

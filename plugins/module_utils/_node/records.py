# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The files of installed distributions, as their installers wrote them down."""

from __future__ import annotations

import base64
import csv
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import Distribution


class RecordEntry(t.NamedTuple):
    """A line of RECORD: a path relative to the folder of packages, and the file's hash and size when it was installed."""

    path: str
    hash: str  # "sha256=…" in base64 without padding, or empty
    size: str  # in bytes, or empty


def read_record(distribution: Distribution) -> list[RecordEntry]:
    """The files of a distribution, as its installer wrote them down (PEP 376)."""
    with open(os.path.join(distribution.path, "RECORD"), encoding="utf-8", newline="") as file:
        return [RecordEntry(*[*row, "", ""][:3]) for row in csv.reader(file) if row]


def missing_files(distribution: Distribution) -> list[str]:
    """The files that the RECORD of a distribution lists and that do not exist: after an installation that broke off, some.

    The distribution's own metadata does not count. Importing proves nothing: a package without its ``__init__.py`` can still
    be imported.
    """
    if not distribution.is_complete:
        return [os.path.join(os.path.basename(distribution.path), "RECORD")]
    folder, metadata = os.path.split(distribution.path)
    paths = [row.path for row in read_record(distribution)]
    return [path for path in paths if not path.startswith(metadata) and not os.path.exists(os.path.join(folder, path))]


def changed_files(distribution: Distribution) -> list[str]:
    """The files of a distribution that exist, but differ from its RECORD in size or SHA-256.

    Files without a hash (what Python compiles) do not count.
    """
    changed = []
    for row in read_record(distribution) if distribution.is_complete else []:
        path = os.path.join(os.path.dirname(distribution.path), row.path)
        if not row.hash.startswith("sha256=") or not os.path.exists(path):
            continue
        if (row.size and int(row.size) != os.path.getsize(path)) or _record_hash(path) != row.hash:
            changed.append(row.path)
    return changed


def _record_hash(path: str) -> str:
    """The SHA-256 of a file as RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256_of(path))).rstrip(b"=").decode()

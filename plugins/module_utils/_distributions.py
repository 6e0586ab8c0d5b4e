# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Installed distributions, read from their metadata folders."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import typing as t
from urllib.parse import unquote, urlsplit


class Distribution(t.NamedTuple):
    """An installed distribution.

    ``complete`` tells that it has a RECORD: installers write it last, so without one the installation broke off
    (or the operating system's packager, who keeps no RECORD, installed it).
    """

    name: str
    version: str
    path: str
    complete: bool


def canonical(name: str) -> str:
    """The normalised form of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(site_packages: t.Iterable[str]) -> dict[str, Distribution]:
    """The distributions in folders given in the order of sys.path, by normalised name; the first of a name counts.

    :raises OSError: if a folder cannot be read
    """
    found: dict[str, Distribution] = {}
    for folder in site_packages:
        for entry in sorted(os.listdir(folder)):
            stem, extension = os.path.splitext(entry)
            name, dash, version = stem.partition("-")
            # pip renames what it is about to remove to "~name": debris of a broken run, not a distribution.
            if extension not in (".dist-info", ".egg-info") or not dash or name.startswith("~"):
                continue
            path = os.path.join(folder, entry)
            if extension == ".dist-info" and not os.path.isfile(os.path.join(path, "METADATA")):
                continue  # left over from a removal that broke off
            complete = os.path.isfile(os.path.join(path, "RECORD"))
            if extension == ".egg-info":
                version = version.partition("-py")[0]
            found.setdefault(canonical(name), Distribution(canonical(name), version, path, complete))
    return found


class Recorded(t.NamedTuple):
    """A line of RECORD: a path relative to the folder of packages, and what was there when it was installed."""

    path: str
    hash: str  # "sha256=…" in base64 without padding, or empty
    size: str  # in bytes, or empty


def record(distribution: Distribution) -> list[Recorded]:
    """The files of a distribution, as its installer wrote them down (PEP 376)."""
    with open(os.path.join(distribution.path, "RECORD"), encoding="utf-8", newline="") as file:
        return [Recorded(*[*row, "", ""][:3]) for row in csv.reader(file) if row]


def missing_files(distribution: Distribution) -> list[str]:
    """The files of a distribution that its RECORD lists and that are not there: of an installation that broke off, some.

    What installers write about themselves does not count. A package without its ``__init__.py`` can still be imported, so importing it does not tell.
    """
    if not distribution.complete:
        return [os.path.join(os.path.basename(distribution.path), "RECORD")]
    folder, own = os.path.split(distribution.path)
    listed = [row.path for row in record(distribution)]
    return [path for path in listed if not path.startswith(own) and not os.path.exists(os.path.join(folder, path))]


def changed_files(distribution: Distribution) -> list[str]:
    """The files of a distribution that are there, but are not what its RECORD says: size and SHA-256.

    Files without a hash (what Python compiles) do not count.
    """
    changed = []
    for row in record(distribution) if distribution.complete else []:
        path = os.path.join(os.path.dirname(distribution.path), row.path)
        if not row.hash.startswith("sha256=") or not os.path.exists(path):
            continue
        if (row.size and int(row.size) != os.path.getsize(path)) or _sha256(path) != row.hash:
            changed.append(row.path)
    return changed


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def origin(distribution: Distribution) -> dict[str, str | None] | None:
    """From which file a distribution was installed: its ``filename`` and ``sha256``, or None where that is not recorded.

    Installers record it in direct_url.json (PEP 610) when they are given a file, as this collection does; uv leaves
    out the hash.
    """
    if not distribution.complete:
        return None
    try:
        with open(os.path.join(distribution.path, "direct_url.json"), encoding="utf-8") as file:
            record = json.load(file)
        archive = record["archive_info"]
        filename = os.path.basename(unquote(urlsplit(record["url"]).path))
        hashes = dict([archive["hash"].split("=", 1)]) if archive.get("hash") else {}
        hashes.update(archive.get("hashes") or {})
        return {"filename": filename, "sha256": hashes.get("sha256")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Installed distributions, read from their metadata folders."""

from __future__ import annotations

import json
import os
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical


class Distribution(t.NamedTuple):
    """An installed distribution.

    ``is_complete``: it has a RECORD. Installers write that last, so without one the installation broke off (or the
    operating system's packager, who keeps no RECORD, installed it).
    """

    name: str
    version: str
    path: str
    is_complete: bool


def find_installed(site_packages: t.Iterable[str]) -> dict[str, Distribution]:
    """The distributions in folders given in the order of sys.path, by normalised name; the first of a name counts.

    :raises OSError: if a folder cannot be read
    """
    installed: dict[str, Distribution] = {}
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
            is_complete = os.path.isfile(os.path.join(path, "RECORD"))
            if extension == ".egg-info":
                version = version.partition("-py")[0]
            installed.setdefault(canonical(name), Distribution(canonical(name), version, path, is_complete))
    return installed


def read_origin(distribution: Distribution) -> dict[str, str | None] | None:
    """From which file a distribution was installed: its ``filename`` and ``sha256``, or None where that is not recorded.

    Installers record it in direct_url.json (PEP 610) when they are given a file, as this collection does; uv leaves
    out the hash.
    """
    if not distribution.is_complete:
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

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real sdists, from the package index that pip is configured to use.

pip itself reads its configuration, the index pages and the credentials, so that a mirror works as it does for
``pip download``. Its internals are no API; this suite is no part of what users get.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from pip._internal.commands import create_command

SUFFIXES = (".tar.gz", ".zip")


class Sdist(NamedTuple):
    version: str
    filename: str
    sha256: str
    requires_python: str | None


class IndexUnreachableError(Exception):
    """The index says nothing about a package, and nothing is cached."""


def cache() -> Path:
    """Return the folder of the downloads, which survives from run to run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "airgap-torch-extensions" / "sdists"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def on_index(name: str) -> dict[str, Sdist]:
    """List a package's sdists by version, as the index has them now, or had them when it was last within reach.

    :raises IndexUnreachableError: if neither is known.
    """
    remembered = cache() / f"{name}.json"
    found = {version: sdist for version, (sdist, _link) in _links(name).items()}
    if found:
        write(remembered, json.dumps(found).encode())
        return found
    if remembered.exists():
        return {version: Sdist(*fields) for version, fields in json.loads(remembered.read_bytes()).items()}
    raise IndexUnreachableError(f"The index that pip uses has no sdist of {name} or is out of reach; see `pip config`.")


def fetch(name: str, version: str) -> Path:
    """Return the path of a version's sdist, downloaded and checked unless it already lies in the cache."""
    sdist = on_index(name)[version]
    path = cache() / sdist.filename
    if not path.exists() or _sha256(path.read_bytes()) != sdist.sha256:
        write(path, _download(name, version, sdist.sha256))
    return path


def _download(name: str, version: str, sha256: str) -> bytes:
    link = _links(name)[version][1]
    session = _pip()[0]
    # Without this the server may unpack the archive on the way.
    response = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"})
    response.raise_for_status()
    found = _sha256(response.content)
    if found != sha256:
        raise ValueError(f"{link.filename} has sha256 {found}, the index says {sha256}")
    return response.content


@functools.cache
def _links(name: str) -> dict[str, tuple[Sdist, object]]:
    finder = _pip()[1]
    links = [(str(candidate.version), candidate.link) for candidate in finder.find_all_candidates(name)]
    return {
        version: (Sdist(version, link.filename, link.hash, link.requires_python), link)
        for version, link in sorted(links)
        if link.filename.endswith(SUFFIXES) and link.hash_name == "sha256"
    }


@functools.cache
def _pip() -> tuple:
    command = create_command("download")
    options, _rest = command.parse_args(
        ["--no-binary=:all:", "--ignore-requires-python", "--no-cache-dir", "--no-input", "--retries=2", "nothing"]
    )
    session = command._build_session(options)
    return session, command._build_package_finder(options, session, ignore_requires_python=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> None:
    """Put a file into the cache."""
    # Two runs may share the cache: no one sees half a file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)

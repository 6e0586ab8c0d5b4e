# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The bundle: a folder or a tar with all that a lock names, to be carried over the gap."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import Lock

LOCK_NAME = "wheels.lock.yml"
BOM_NAME = "bom.cdx.json"
SUMS_NAME = "SHA256SUMS"
README_NAME = "README.txt"
FOLDERS = ("wheels", "requirements")


class Bundle(t.NamedTuple):
    """A bundle that was opened for reading."""

    path: str
    lock: Lock
    sizes: t.Mapping[str, int]  # of its files, in bytes, by their names in it

    def find(self, term: str, environment: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """As :meth:`Lock.find`, with the URLs of the files in the bundle.

        :raises TorchExtensionError: if the bundle has no wheel for it, or lacks a file of its own lock
        """
        wheel = self.lock.find(term, environment)
        names = name_files(self.lock)

        def file_url(folder: str, item: t.Mapping[str, t.Any]) -> str:
            return self._file_url(f"{folder}/{names[item['filename'], item['sha256']]}", item["size"])

        requirements = [{**item, "url": file_url("requirements", item)} for item in wheel["requirements"]]
        return {**wheel, "url": file_url("wheels", wheel), "source": "bundle", "requirements": requirements}

    def _file_url(self, name: str, wanted_size: int) -> str:
        size = self.sizes.get(name)
        if size != wanted_size:
            fact = "is not in it" if size is None else f"has {size} bytes there, wanted are {wanted_size}"
            raise TorchExtensionError(
                f"The bundle {self.path} is not whole: {name} {fact}. Carry it over again, or make it anew by the"
                " playbook bundle."
            )
        if os.path.isdir(self.path):
            return Path(self.path, name).as_uri()
        return f"{Path(self.path).as_uri()}#{quote(name)}"


def name_files(lock: Lock) -> dict[tuple[str, str], str]:
    """The names of the files of a lock in its bundle's folders (:data:`FOLDERS`), by their own names and SHA-256.

    They are their own names. Where two files have the same, each lies in a folder that is named after its hash.
    """
    hashes: dict[str, set[str]] = {}
    for item in lock.files():
        hashes.setdefault(item["filename"], set()).add(item["sha256"])
    return {
        (filename, sha256): filename if len(digests) == 1 else f"{shorten(sha256)}/{filename}"
        for filename, digests in hashes.items()
        for sha256 in digests
    }


def open_bundle(path: str) -> Bundle:
    """Open a folder or a tar.

    :raises TorchExtensionError: if it is no bundle, or not whole
    """
    path = os.path.abspath(os.path.expanduser(path))
    member_sizes: dict[str, int] | None = None
    if os.path.isdir(path):
        is_there = is_regular_file(path, LOCK_NAME)
        lock_text = lock_file.read_lock_text(os.path.join(path, LOCK_NAME)) if is_there else None
    else:
        lock_text, member_sizes = _read_tar(path)
    if lock_text is None:
        raise TorchExtensionError(
            f"{path} is no bundle, for there is no {LOCK_NAME} in it. Wanted is what the playbook bundle makes, as it is."
            " Knob: torch_extension_sources."
        )
    lock = lock_file.parse_lock(lock_text, os.path.join(path, LOCK_NAME))
    return Bundle(path, lock, _sizes_in_folder(path, lock) if member_sizes is None else member_sizes)


def _sizes_in_folder(path: str, lock: Lock) -> dict[str, int]:
    names = [f"{folder}/{name}" for folder in FOLDERS for name in name_files(lock).values()]
    return {name: os.path.getsize(os.path.join(path, name)) for name in names if is_regular_file(path, name)}


def is_regular_file(folder: str, name: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode)
    except OSError:
        return False


def _read_tar(path: str) -> tuple[str | None, dict[str, int]]:
    """The text of the lock in a tar, if there is one, and the sizes of its files."""
    sizes: dict[str, int] = {}
    lock_text = None
    try:
        with archives.open_tar(path, archives.BUNDLE, is_packed=False) as tar:
            for member in tar:
                if member.kind != archives.FILE:
                    continue
                if member.name in sizes:
                    raise archives.UnsoundArchiveError(f"it has {member.name!r} twice, wanted are every file once")
                sizes[member.name] = member.size
                if member.name == LOCK_NAME:
                    lock_text = tar.open(member).read_all(lock_file.MAX_SIZE).decode("utf-8")
    except (archives.ArchiveError, UnicodeDecodeError) as exc:
        raise TorchExtensionError(
            f"The bundle {path} cannot be read: {exc}. Wanted is a folder or an uncompressed tar as the playbook bundle makes"
            " it; if it was one, carry it over again. Knob: torch_extension_sources."
        ) from exc
    return lock_text, sizes

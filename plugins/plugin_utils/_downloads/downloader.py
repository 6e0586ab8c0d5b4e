# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Bring wheels into the control node's cache: whole, checked and once, or not at all."""

from __future__ import annotations

import os
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256, sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import writing
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.entry import Entry
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import local_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.running_digest import FollowingDigest
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http, settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Silence
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import (
    Part,
    Patience,
    Transfer,
    not_the_wheel,
)


class Download(t.NamedTuple):
    """A wheel on the control node, and whether it came there just now."""

    path: str
    sha256: str
    size: int  # bytes
    is_new: bool
    warning: str | None = None


class _Known(t.NamedTuple):
    """What a wheel's SHA-256 must be (None: it is to be recorded), and who says so."""

    sha256: str | None
    origin: str


class Downloader:
    """Downloads into a folder, or finds there what an earlier run has downloaded. Threads may share one."""

    def __init__(
        self,
        folder: str,
        ca_path: str | None = None,
        require_sha256: bool = False,
        progress: Silence | None = None,
        patience: Patience | None = None,
    ) -> None:
        """
        :param folder: made if it is not there, for its owner alone
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param require_sha256: whether to refuse a file whose hash nobody knows beforehand
        :param progress: is told what is under way
        :param patience: when a transfer is given up
        :raises TorchExtensionError: if a library is missing, or the folder cannot be used
        """
        http.check_library()
        settings.check_ca_path(ca_path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as exc:
            raise TorchExtensionError(
                f"The cache folder {folder} on the control node cannot be made ({exc.strerror}). Set"
                " torch_extension_cache_dir."
            ) from exc
        self._folder, self._ca_path, self._require_sha256 = folder, ca_path, require_sha256
        self._progress, self._patience = progress or Silence(), patience

    def cached(self, url: str, filename: str, sha256: str | None = None) -> Download | None:
        """The wheel at a URL if it is on the control node and whole; None, if it has to be downloaded. It uses no network.

        :param sha256: what it must be, as the release, the lock or the operator has it; without it, what it was when it
            was downloaded
        :raises TorchExtensionError: if it could not be had with the network either, as far as that can be told without
        """
        wheel_file.parse_name(filename)
        sha256 = sha256.lower() if sha256 else None
        self._check_is_known(url, filename, sha256)
        place = local_files.locate(url)
        if place and place.is_named(filename):
            return _in_place(place, filename, sha256)
        entry = Entry(self._folder, url, filename)
        return _found(entry, self._known(entry, url, sha256, place))

    def get(self, url: str, filename: str, sha256: str | None = None, size: int | None = None) -> Download:
        """The wheel at a URL, from the cache if it is there.

        :param url: ``https:``; ``http:``, if its hash is known; ``file:///FOLDER/WHEEL``, which is used where it is; or
            ``file:///ARCHIVE#MEMBER`` of a tar archive
        :param sha256: what it must be, as the release, the lock or the operator has it, if that is known
        :param size: in bytes, if that is known
        :returns: with a warning, if it was the first to tell what the file's hash is
        :raises TorchExtensionError: if it cannot be had, or is not the wheel of this name; what of it has come then lies
            beside the cached files, for the next run to go on with, under a name that is no wheel's
        """
        wheel_file.parse_name(filename)
        sha256 = sha256.lower() if sha256 else None
        self._check_is_known(url, filename, sha256)
        place = local_files.locate(url)
        if place:
            local_files.check_there(place, size)
            if place.is_named(filename):
                return _in_place(place, filename, sha256)
        entry = Entry(self._folder, url, filename)
        with entry.locked(lambda: self._progress.note(f"{filename}: waiting for somebody else's download of it.")):
            known = self._known(entry, url, sha256, place)
            found = _found(entry, known)
            if found:
                return found
            digest = self._bring_copy(entry, place, known, size) if place else self._bring(entry, url, known, size)
            entry.admit(digest)
            warning = None
            if known.sha256 is None:
                warning = (
                    f"{filename} has no published hash; its sha256 {digest} was recorded at its first download (file"
                    f" {entry.record_path}) and is held against from now on. Set torch_extension_sha256 to pin it."
                )
            return Download(entry.path, digest, os.path.getsize(entry.path), is_new=True, warning=warning)

    def _check_is_known(self, url: str, filename: str, sha256: str | None) -> None:
        if self._require_sha256 and not sha256:
            raise TorchExtensionError(
                f"{filename} has no published hash where it comes from ({url}), and torch_extension_require_sha256 wants"
                " one. Give it in torch_extension_sha256."
            )

    def _known(self, entry: Entry, url: str, sha256: str | None, place: local_files.Place | None) -> _Known:
        """
        :raises TorchExtensionError: if nobody could tell whether the right file came
        """
        if sha256:
            return _Known(sha256, "as the release, the lock or torch_extension_sha256 has it")
        if place:  # the archive is the operator's own, and may have changed since
            local_files.check_there(place, None)
            return _Known(local_files.sha256(place), f"as it is in {place.path}")
        if entry.recorded:
            return _Known(
                entry.recorded,
                f"as it was at its first download ({entry.record_path}). If the new one is right, set"
                " torch_extension_sha256, or delete that file",
            )
        if urlsplit(url).scheme != "https":
            raise TorchExtensionError(
                f"{url} is without TLS, and there is no sha256 to check the file by. Give its hash in"
                " torch_extension_sha256, or name its source (torch_extension_github_url, torch_extension_sources) by an"
                " https: URL."
            )
        return _Known(None, "")

    def _bring(self, entry: Entry, url: str, known: _Known, size: int | None) -> str:
        """Download to the part, and check what came. Returns its SHA-256."""
        part, filename = Part(entry.part_path), os.path.basename(entry.path)
        was_resumed, found = self._transfer(part, filename, url, known, size)
        try:
            _check(part, filename, url, found, known)
        except TorchExtensionError:
            if not was_resumed:
                raise
            # the pieces may not have been of one file; whether the whole is right shows when it comes in one
            _resumed_again, found = self._transfer(part, filename, url, known, size)
            _check(part, filename, url, found, known)
        part.forget()
        return found

    def _transfer(self, part: Part, filename: str, url: str, known: _Known, size: int | None) -> tuple[bool, str]:
        """Returns whether it came in more than one piece, and its SHA-256."""
        with FollowingDigest(part.path) as digest:
            transfer = Transfer(
                url,
                part,
                ca_path=self._ca_path,
                size=size,
                verified=known.sha256 is None,
                patience=self._patience,
                progress=self._progress,
                received=digest.follow,
            )
            was_resumed = transfer.run(filename)
            with writing(part.path):
                return was_resumed, digest.result()

    def _bring_copy(self, entry: Entry, place: local_files.Place, known: _Known, size: int | None) -> str:
        part = Part(entry.part_path)
        try:
            local_files.copy(place, part.path, size)
        except TorchExtensionError:
            part.discard()
            raise
        with writing(part.path):
            found = sha256_of(part.path)
        _check(part, os.path.basename(entry.path), str(place), found, known)
        part.forget()
        return found


def _found(entry: Entry, known: _Known) -> Download | None:
    if known.sha256 is None or not entry.holds(known.sha256):
        return None
    return Download(entry.path, known.sha256, os.path.getsize(entry.path), is_new=False)


def _in_place(place: local_files.Place, filename: str, sha256: str | None) -> Download:
    local_files.check_there(place, None)
    digest = check_sha256(place.path, sha256)
    wheel_file.check_metadata(place.path, filename)
    return Download(place.path, digest, os.path.getsize(place.path), is_new=False)


def _check(part: Part, filename: str, url: str, digest: str, known: _Known) -> None:
    """Throw away what is not the wheel that was wanted."""
    if known.sha256 not in (None, digest):
        part.discard()
        raise TorchExtensionError(
            f"{url} has sha256 {digest}, wanted is {known.sha256}, {known.origin}. It was thrown away: either the hash is"
            " of another file, or somebody changed this one."
        )
    try:
        wheel_file.check_metadata(part.path, filename)
    except TorchExtensionError as exc:
        with open(part.path, "rb") as file:
            start = file.read(60)
        part.discard()
        raise not_the_wheel(url, str(exc).replace(os.path.basename(part.path), "it"), start) from exc

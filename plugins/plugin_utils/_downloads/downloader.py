# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Download wheels, and other files, into the control node's cache: complete, checked and once, or not at all."""

from __future__ import annotations

import contextlib
import os
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256, sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.entry import CacheEntry
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import BUILT_FOLDER
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import local_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.running_digest import RunningDigest
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session, settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    MissingFileError,
    UnservedError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import (
    PartialFile,
    RetryPolicy,
    Transfer,
    Wording,
    another_file_error,
)

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import OriginSecret


class FileKind(t.NamedTuple):
    """Files of one kind: how they are told from others, and spoken of."""

    check_name: t.Callable[[str], object]  # raises a TorchExtensionError; the name becomes a path
    check_content: t.Callable[[str, str], object]  # of the file at a path, and the name that it should have; likewise
    wording: Wording


WHEELS = FileKind(wheel_file.parse_name, wheel_file.check_metadata, Wording())


class Download(t.NamedTuple):
    """A file on the control node."""

    path: str
    sha256: str
    size: int  # bytes
    is_new: bool  # whether it was downloaded just now
    warning: str | None = None
    other_url: str | None = None  # the further link that has given it, where the first one does not


_UNKNOWN = Provenance()


class _ExpectedHash(t.NamedTuple):
    """The SHA-256 that a wheel must have (None: it will be recorded), and who says so."""

    sha256: str | None
    origin: str


class Downloader:
    """Downloads into a folder, or finds there what an earlier run has downloaded. Threads may share one."""

    def __init__(
        self,
        folder: str,
        ca_path: str | None = None,
        require_sha256: bool = False,
        progress: Progress | None = None,
        retry_policy: RetryPolicy | None = None,
        kind: FileKind = WHEELS,
        secret_for: t.Callable[[str], OriginSecret | None] = lambda url: None,
        locate: t.Callable[[str], str] = lambda url: url,
    ) -> None:
        """
        :param folder: made if it is not there, for its owner alone
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param require_sha256: whether to refuse a file whose hash nobody knows beforehand
        :param progress: takes reports of how far downloads are
        :param retry_policy: when a transfer is given up
        :param kind: of all files in the folder
        :param secret_for: the credentials for a URL; None where there are none
        :param locate: tells the whole link for one that lacks its signature
        :raises TorchExtensionError: if a library is missing, or the folder cannot be used
        """
        http_session.check_requests()
        settings.check_ca_path(ca_path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as exc:
            raise TorchExtensionError(
                f"The cache folder {folder} on the control node cannot be made ({exc.strerror}). Set"
                " torch_extension_cache_dir."
            ) from exc
        self._folder, self._ca_path, self._require_sha256 = folder, ca_path, require_sha256
        self._progress, self._retry_policy = progress or Progress(), retry_policy
        self._kind, self._secret_for, self._locate = kind, secret_for, locate

    def find_cached(
        self, url: str, filename: str, sha256: str | None = None, provenance: Provenance = _UNKNOWN
    ) -> Download | None:
        """The wheel at a URL if it is on the control node and intact; None if it has to be downloaded. It uses no network.

        :param sha256: what it must be, as the release, the lock or the operator has it; without it, what it was when it
            was downloaded
        :param provenance: with further links to it, of which one may have been taken
        :raises TorchExtensionError: if it could not be had with the network either, as far as that can be told without
        """
        self._kind.check_name(filename)
        sha256 = sha256.lower() if sha256 else None
        self._check_hash_is_given(url, filename, sha256)
        local_file = local_files.parse_url(url)
        if local_file and local_file.is_named(filename):
            return self._use_in_place(local_file, filename, sha256)
        for number, each in enumerate((url, *provenance.other_urls)):
            entry = CacheEntry(self._folder, each, filename)
            if number and not (sha256 or entry.recorded_sha256):
                continue
            cached = _find_valid(entry, self._expected_hash(entry, each, sha256, local_file))
            if cached:
                return cached._replace(other_url=each if number else None)
        return None

    def get(
        self,
        url: str,
        filename: str,
        sha256: str | None = None,
        size: int | None = None,
        provenance: Provenance = _UNKNOWN,
    ) -> Download:
        """The wheel at a URL, from the cache if it is there.

        :param url: ``https:``; ``http:``, if its hash is known; ``file:///FOLDER/WHEEL``, which is used where it is; or
            ``file:///ARCHIVE#MEMBER`` of a tar archive
        :param sha256: what it must be, as the release, the lock or the operator has it, if that is known
        :param size: in bytes, if that is known
        :param provenance: who has told of it, for messages; and further links to it, which are tried where one does not give it
        :returns: with a warning, if the hash was unknown before, or a link does not give it
        :raises TorchExtensionError: if it cannot be had, or is not the wheel of this name; what has come stays beside the
            cached files, under a name that is no wheel's, for the next run to resume
        """
        self._kind.check_name(filename)
        sha256 = sha256.lower() if sha256 else None
        self._check_hash_is_given(url, filename, sha256)
        local_file = local_files.parse_url(url)
        if local_file:
            local_files.check_exists(local_file, size)
            if local_file.is_named(filename):
                return self._use_in_place(local_file, filename, sha256)
        if provenance.other_urls:
            cached = self.find_cached(url, filename, sha256, provenance)
            if cached:
                return cached
        failures: list[str] = []
        for each in (url, *provenance.other_urls):
            try:
                file = self._get(each, filename, sha256, size, local_file)
            except MissingFileError as exc:
                failures.append(f"{exc}{provenance.explain_missing(each)}")
                continue
            except UnservedError as exc:
                failures.append(str(exc))
                continue
            if not failures:
                return file
            warnings = [*failures, f"It was taken from {each} instead.", file.warning]
            return file._replace(other_url=each, warning=" ".join(filter(None, warnings)))
        raise UnservedError(" ".join(failures))

    def _get(
        self, url: str, filename: str, sha256: str | None, size: int | None, local_file: local_files.LocalFile | None
    ) -> Download:
        entry = CacheEntry(self._folder, url, filename)
        with entry.locked(self._progress.note):
            expected = self._expected_hash(entry, url, sha256, local_file)
            cached = _find_valid(entry, expected)
            if cached:
                return cached
            digest = (
                self._copy_to_part(entry, local_file, expected, size)
                if local_file
                else self._download_to_part(entry, url, expected, size)
            )
            entry.commit(digest)
            warning = None
            if expected.sha256 is None:
                warning = (
                    f"{filename} has no published hash; its sha256 {digest} was recorded at its first download (file"
                    f" {entry.record_path}) and is held against from now on. {self._kind.wording.pin}"
                )
            return Download(entry.path, digest, os.path.getsize(entry.path), is_new=True, warning=warning)

    def _check_hash_is_given(self, url: str, filename: str, sha256: str | None) -> None:
        if self._require_sha256 and not sha256:
            raise TorchExtensionError(
                f"{filename} has no published hash where it comes from ({url}), and torch_extension_require_sha256 wants"
                " one. Give it in torch_extension_sha256."
            )

    def _expected_hash(
        self, entry: CacheEntry, url: str, sha256: str | None, local_file: local_files.LocalFile | None
    ) -> _ExpectedHash:
        """
        :raises TorchExtensionError: if there would be nothing to check the file by
        """
        if sha256:
            return _ExpectedHash(sha256, self._kind.wording.hash_told_by)
        if local_file:  # the archive is the operator's own, and may have changed since
            local_files.check_exists(local_file, None)
            return _ExpectedHash(local_files.sha256_of(local_file), f"as it is in {local_file.path}")
        if entry.recorded_sha256:
            return _ExpectedHash(
                entry.recorded_sha256,
                f"as it was at its first download ({entry.record_path}). If the new one is right, {self._kind.wording.renew}",
            )
        if urlsplit(url).scheme != "https":
            raise UnservedError(
                f"{url} is without TLS, and there is no sha256 to check the file by. {self._kind.wording.without_hash}"
            )
        return _ExpectedHash(None, "")

    def _download_to_part(self, entry: CacheEntry, url: str, expected: _ExpectedHash, size: int | None) -> str:
        """Download to the partial file, and check it. Returns its SHA-256."""
        part, filename = PartialFile(entry.part_path), os.path.basename(entry.path)
        was_resumed, digest = self._transfer(part, filename, url, expected, size)
        try:
            self._discard_unless_valid(part, filename, url, digest, expected)
        except TorchExtensionError:
            if not was_resumed:
                raise
            # the pieces may be of different files; the next download is in one piece, and decides
            _resumed_again, digest = self._transfer(part, filename, url, expected, size)
            self._discard_unless_valid(part, filename, url, digest, expected)
        part.finish()
        return digest

    def _transfer(
        self, part: PartialFile, filename: str, url: str, expected: _ExpectedHash, size: int | None
    ) -> tuple[bool, str]:
        """Returns whether it was resumed, and its SHA-256."""
        with RunningDigest(part.path) as digest:
            transfer = Transfer(
                self._locate(url),
                part,
                ca_path=self._ca_path,
                size=size,
                verified=expected.sha256 is None,
                retry_policy=self._retry_policy,
                progress=self._progress,
                on_written=digest.advance_to,
                secret=self._secret_for(url),
                wording=self._kind.wording,
            )
            was_resumed = transfer.run(filename)
            with explain_write_errors(part.path):
                return was_resumed, digest.result()

    def _copy_to_part(
        self, entry: CacheEntry, local_file: local_files.LocalFile, expected: _ExpectedHash, size: int | None
    ) -> str:
        part = PartialFile(entry.part_path)
        try:
            local_files.copy(local_file, part.path, size)
        except TorchExtensionError:
            part.discard()
            raise
        with explain_write_errors(part.path):
            digest = sha256_of(part.path)
        self._discard_unless_valid(part, os.path.basename(entry.path), str(local_file), digest, expected)
        part.finish()
        return digest

    def _use_in_place(self, local_file: local_files.LocalFile, filename: str, sha256: str | None) -> Download:
        local_files.check_exists(local_file, None)
        try:
            digest = check_sha256(local_file.path, sha256)
        except TorchExtensionError as exc:
            if not self._was_built(local_file.path):
                raise
            with contextlib.suppress(OSError):
                os.unlink(local_file.path)
            raise TorchExtensionError(
                f"{exc} It was in the cache of the control node, and was thrown away: it is built again in the next run."
            ) from exc
        self._kind.check_content(local_file.path, filename)
        return Download(local_file.path, digest, os.path.getsize(local_file.path), is_new=False)

    def _was_built(self, path: str) -> bool:
        """Whether a file is among what was built for this control node, in the cache of which the folder is a part."""
        store = os.path.join(os.path.dirname(os.path.realpath(self._folder)), BUILT_FOLDER)
        return os.path.realpath(path).startswith(store + os.sep)

    def _discard_unless_valid(
        self, part: PartialFile, filename: str, url: str, digest: str, expected: _ExpectedHash
    ) -> None:
        """Remove the partial file, and raise, if it is not the expected one."""
        if expected.sha256 not in (None, digest):
            part.discard()
            raise UnservedError(
                f"{url} has sha256 {digest}, wanted is {expected.sha256}, {expected.origin}. It was thrown away: either the hash"
                " is of another file, or somebody changed this one."
            )
        try:
            self._kind.check_content(part.path, filename)
        except TorchExtensionError as exc:
            with open(part.path, "rb") as file:
                start = file.read(60)
            part.discard()
            reason = str(exc).replace(os.path.basename(part.path), "it")
            raise another_file_error(url, self._kind.wording.noun, reason, start) from exc


def _find_valid(entry: CacheEntry, expected: _ExpectedHash) -> Download | None:
    if expected.sha256 is None or not entry.has_file(expected.sha256):
        return None
    return Download(entry.path, expected.sha256, os.path.getsize(entry.path), is_new=False)

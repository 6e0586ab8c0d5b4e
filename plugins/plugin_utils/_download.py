# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Download wheels into the control node's cache: whole, checked and once, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils import _http

with contextlib.suppress(ImportError):  # _http says so
    import requests

_CHUNK = 1 << 20  # bytes


class Download(t.NamedTuple):
    """A file in the cache, and whether it came over the network just now."""

    path: str
    sha256: str
    size: int  # bytes
    is_new: bool


def default_cache() -> str:
    """The cache folder by the XDG base directory specification."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "airgap.torch_extensions")


class Downloader:
    """Downloads into a folder, or finds there what an earlier run has downloaded."""

    def __init__(self, folder: str, ca_path: str | None = None) -> None:
        """
        :param folder: made if it is not there, for its owner alone
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :raises TorchExtensionError: if a library is missing, or the folder cannot be used
        """
        _http.check_library()
        _http.check_ca_path(ca_path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as exc:
            raise TorchExtensionError(
                f"The cache folder {folder} on the control node cannot be made ({exc.strerror}). Set"
                " torch_extension_cache_dir."
            ) from exc
        self._folder = folder
        self._session = _http.with_retries(requests.Session())
        self._ca_path = ca_path

    def cached(self, filename: str, sha256: str | None = None) -> Download | None:
        """The file if it is in the cache and whole; None, if it has to be downloaded.

        :param sha256: what it must be; without it, what it was when it was downloaded
        """
        path = os.path.join(self._folder, filename)
        recorded = _recorded(path)
        if recorded is None or not os.path.isfile(path) or sha256 not in (None, recorded):
            return None
        if _wheel_file.sha256(path) != recorded:
            return None
        return Download(path, recorded, os.path.getsize(path), is_new=False)

    def get(self, url: str, filename: str, sha256: str | None = None) -> Download:
        """The wheel at a URL, from the cache if it is there.

        :param sha256: what it must be, if that is known
        :raises TorchExtensionError: if it cannot be had, or is not the wheel of this name; the cache is then as it was
        """
        _wheel_file.parse_name(filename)
        with self._locked(filename):
            found = self.cached(filename, sha256)
            if found:
                return found
            temporary = os.path.join(self._folder, f".{filename}.part")  # what a killed run left is written over
            try:
                with open(temporary, "wb") as file:
                    self._receive(url, file)
                digest = _wheel_file.check_sha256(temporary, None)
                if sha256 and digest != sha256:
                    raise TorchExtensionError(
                        f"{url} has sha256 {digest}, wanted is {sha256} (torch_extension_sha256). It was thrown away: "
                        "either the hash is of another file, or somebody changed this one."
                    )
                _check_wheel(temporary, filename, url)
                path = os.path.join(self._folder, filename)
                _record(path, digest)
                os.replace(temporary, path)
            except OSError as exc:
                raise TorchExtensionError(
                    f"{filename} cannot be written to {self._folder} ({exc.strerror}). Make room, or set"
                    " torch_extension_cache_dir."
                ) from exc
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            return Download(path, digest, os.path.getsize(path), is_new=True)

    @contextlib.contextmanager
    def _locked(self, filename: str) -> t.Iterator[None]:
        """One download of a file at a time, over all processes; the system frees the lock of a process that died."""
        with open(os.path.join(self._folder, f".{filename}.lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _receive(self, url: str, file: t.IO[bytes]) -> None:
        # verify is said with the request, for a session's own setting yields to REQUESTS_CA_BUNDLE
        with (
            _http.explained(url),
            self._session.get(url, stream=True, timeout=_http.SECONDS, verify=self._ca_path or True) as response,
        ):
            if response.status_code != requests.codes.ok:
                raise TorchExtensionError(_refusal(url, response.status_code))
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)


def _refusal(url: str, status: int) -> str:
    if status == 404:
        releases = re.sub(r"/releases/download/([^/]+)/.*", r"/releases/tag/\1", url)
        return (
            f"{url} does not exist (404): there is no wheel of this version for this torch, CUDA, Python and C++ ABI."
            f" What there is stands at {releases}. Choose another version in torch_extension_packages, or another torch"
            " on the node."
        )
    return (
        f"{url} was answered with HTTP status {status}. See whether the server or the proxy wants credentials"
        " (~/.netrc, torch_extension_proxy)."
    )


def _check_wheel(path: str, filename: str, url: str) -> None:
    try:
        _wheel_file.check(path, filename)
    except TorchExtensionError as exc:
        with open(path, "rb") as file:
            start = file.read(60).decode("ascii", "replace")
        reason = str(exc).replace(os.path.basename(path), "it")
        raise TorchExtensionError(
            f"What {url} gave is not the wheel: {reason} It begins with {start!r}. A login page of a proxy or firewall?"
        ) from exc


def _record(path: str, digest: str) -> None:
    with open(path + ".sha256", "w", encoding="ascii") as file:
        file.write(f"{digest}  {os.path.basename(path)}\n")  # as sha256sum writes it


def _recorded(path: str) -> str | None:
    try:
        with open(path + ".sha256", encoding="ascii") as file:
            return file.read().split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None

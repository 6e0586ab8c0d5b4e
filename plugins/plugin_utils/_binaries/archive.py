# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""Read the files of an untrusted wheel: one at a time, seekable."""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)

_MAX_SIZE = 4 << 30  # bytes of a library, and of all together


class Archive:
    """An open wheel. By what its directory says, all its members are harmless."""

    def __init__(self, path: str, folder: str, archive: archives.Zip) -> None:
        self._path, self._folder, self._archive = path, folder, archive
        self._size_left = _MAX_SIZE

    def file_names(self) -> list[str]:
        """The names of the files, in the order of the archive."""
        return self._archive.file_names()

    def read_start(self, name: str, size: int) -> bytes:
        """Read the first bytes of a file; fewer, if it has no more.

        :raises TorchExtensionError: if it cannot be read
        """
        with _explain_errors(self._path):
            return self._archive.open_file(name).read(size)

    def read_all(self, name: str, limit: int) -> bytes:
        """Read a file.

        :raises TorchExtensionError: if it cannot be read, or has more bytes
        """
        with _explain_errors(self._path):
            return self._archive.open_file(name).read_all(limit)

    @contextlib.contextmanager
    def unpack(self, name: str) -> t.Iterator[t.IO[bytes]]:
        """Unpack a file into one without a name, which the system removes whatever happens.

        :raises TorchExtensionError: if it is damaged or is too large, or the disk does not take it
        """
        size = self._archive.size_of(name)
        self._size_left -= size
        if self._size_left < 0:
            raise wheel_error(self._path, "its libraries have more", f"no more than {_MAX_SIZE} bytes in all")
        beside = os.path.join(self._folder, os.path.basename(self._path))
        with contextlib.ExitStack() as stack:
            with explain_write_errors(beside):
                check_free_space(beside, size)
                file = stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
            with _explain_errors(self._path):
                content = self._archive.open_file(name)
                while chunk := content.read():
                    with explain_write_errors(beside):
                        file.write(chunk)
            with explain_write_errors(beside):
                file.seek(0)
            yield file


@contextlib.contextmanager
def open_archive(path: str, folder: str) -> t.Iterator[Archive]:
    """Open a wheel, and check its whole directory before anything is read.

    :param folder: of the control node, for one unpacked file at a time
    :raises TorchExtensionError: if it is no zip archive, is damaged, or was made to do harm
    """
    with contextlib.ExitStack() as stack:
        with _explain_errors(path):
            archive = stack.enter_context(archives.open_zip(path, archives.WHEEL))
        yield Archive(path, folder, archive)


def wheel_error(path: str, fact: str, expectation: str) -> TorchExtensionError:
    """The error for a wheel that was made badly, or to do harm."""
    return _unsound(path, f"{fact}, wanted are {expectation}")


def _unsound(path: str, reason: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{os.path.basename(path)} is not a sound wheel: {reason}. Take it from another source (torch_extension_sources)."
    )


@contextlib.contextmanager
def _explain_errors(path: str) -> t.Iterator[None]:
    try:
        yield
    except archives.UnsoundArchiveError as exc:
        raise _unsound(path, str(exc)) from exc
    except archives.ArchiveError as exc:
        raise TorchExtensionError(
            f"{os.path.basename(path)} cannot be read as a wheel: {exc}. Download it anew, or take it from another source"
            " (torch_extension_sources)."
        ) from exc

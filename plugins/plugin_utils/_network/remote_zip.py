# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A file on a server of which only some bytes are read, by ranged requests (RFC 9110, 14): the directory at a zip's end, a member.

Why not remotezip: it takes what the server says of the size, and reads as much as the archive's directory asks for.
"""

from __future__ import annotations

import contextlib
import io
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import bodies, http_session, settings

with contextlib.suppress(ImportError):  # http_session.py says so
    import requests

_BLOCK = 128 << 10  # bytes; the directory of most wheels is in the last one
_MAX_BYTES = 16 << 20  # that are read of one file


class NoPartError(TorchExtensionError):
    """The file is there, and the server gives it as a whole or not at all."""


class RemoteFile(io.RawIOBase):
    """A file on a server, seekable; what was read once is kept."""

    def __init__(self, url: str, ca_path: str | None = None, mirror_setting: str = "torch_extension_sources") -> None:
        """
        :param ca_path: a file of CA certificates to trust instead of the usual ones
        :param mirror_setting: names the setting that leads to a mirror
        :raises TorchExtensionError: if the server cannot be asked, or gives no part of a file
        """
        super().__init__()
        settings.check_url(url, "The address of a wheel")
        settings.check_ca_path(ca_path)
        self._url, self._ca_path, self._mirror_setting = url, ca_path, mirror_setting
        self._session = http_session.open_session()
        self._blocks: dict[int, bytes] = {}
        self._position = 0
        try:
            #: size, in bytes
            self.size: int
            self._tail, self._tail_start, self.size = self._request(f"bytes=-{_BLOCK}")
            if self._tail_start + len(self._tail) != self.size:
                raise self._other_bytes_error(f"bytes=-{_BLOCK}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if hasattr(self, "_session"):  # which is not there where __init__ has failed before
            self._session.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: t.Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int | None = -1) -> bytes:
        """All bytes that are wanted, as far as there are any: zipfile takes fewer for the end of the file."""
        rest = max(self.size - self._position, 0)
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > _MAX_BYTES:
            raise self._too_large_error()
        pieces = []
        while wanted > 0:
            piece = self._piece(wanted)
            pieces.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _piece(self, wanted: int) -> bytes:
        """Bytes from here on; at least one, and not more than a request gives."""
        if self._position >= self._tail_start:
            start = self._position - self._tail_start
            return self._tail[start : start + wanted]
        number = self._position // _BLOCK
        start = self._position - number * _BLOCK
        return self._block(number)[start : start + min(wanted, self._tail_start - self._position)]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if (len(self._blocks) + 2) * _BLOCK > _MAX_BYTES:
                raise self._too_large_error()
            first = number * _BLOCK
            last = min(first + _BLOCK, self.size) - 1
            content, told_first, size = self._request(f"bytes={first}-{last}")
            if (told_first, len(content), size) != (first, last - first + 1, self.size):
                raise self._other_bytes_error(f"bytes={first}-{last}")
            self._blocks[number] = content
        return self._blocks[number]

    def _request(self, byte_range: str) -> tuple[bytes, int, int]:
        """The bytes that the server gives for a range, where they begin, and the size of the file."""
        headers = {"Range": byte_range, "User-Agent": "airgap.torch_extensions"}
        with (
            http_session.explain_http_errors(self._url, self._mirror_setting),
            self._session.get(
                self._url,
                headers=headers,
                stream=True,
                timeout=http_session.TIMEOUT_SECONDS,
                verify=self._ca_path or True,
            ) as response,
        ):
            if response.status_code == requests.codes.ok:
                raise NoPartError(f"{self._url} gives no part of a file, only the whole.")
            if response.status_code != requests.codes.partial_content:
                raise http_session.status_error(self._url, response)
            told = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", response.headers.get("Content-Range", ""))
            # one byte more than is wanted shows a server that gives too many
            content = bodies.read_start(response, _BLOCK + 1)
        if not told:
            raise self._other_bytes_error(byte_range)
        first, last, size = (int(number) for number in told.groups())
        if len(content) != last - first + 1 or not 0 < len(content) <= _BLOCK or last >= size:
            raise self._other_bytes_error(byte_range)
        return content, first, size

    def _other_bytes_error(self, byte_range: str) -> TorchExtensionError:
        return TorchExtensionError(f"{self._url} gave other bytes than were asked for ({byte_range}).")

    def _too_large_error(self) -> TorchExtensionError:
        return TorchExtensionError(f"The directory of {self._url} is larger than {_MAX_BYTES >> 20} MiB.")

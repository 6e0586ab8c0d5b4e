# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import compare_sha256, open_file

HALF_FILE_PREFIX = ".torch_extension-"  # of the name of a file until it is whole

_CHUNK = 1 << 20  # bytes


def write_bytes(path: str, content: bytes, mode: int = 0o644, like: os.stat_result | None = None) -> None:
    """Write a file whole or not at all.

    :param like: whose owner the file gets, where we are root and may choose
    """
    _write(path, lambda file: file.write(content), mode, like)


def copy_file(
    source: str, path: str, mode: int = 0o644, like: os.stat_result | None = None, sha256: str | None = None
) -> str:
    """Copy a file whole or not at all, in pieces; other parameters as of :func:`write_bytes`.

    :param sha256: that the copy must have, if it is known: who can change the source could do so after it was hashed
    :returns: the SHA-256 of the copy
    :raises TorchExtensionError: if it has another one
    """
    digest = hashlib.sha256()

    def copy_into(file: t.IO[bytes]) -> None:
        with open_file(source) as opened:
            for chunk in iter(lambda: opened.read(_CHUNK), b""):
                digest.update(chunk)
                file.write(chunk)
        compare_sha256(source, digest.hexdigest(), sha256)

    _write(path, copy_into, mode, like)
    return digest.hexdigest()


def _write(path: str, write_content: t.Callable[[t.IO[bytes]], object], mode: int, like: os.stat_result | None) -> None:
    handle, temporary = tempfile.mkstemp(prefix=HALF_FILE_PREFIX, dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            write_content(file)
            file.flush()
            os.fsync(file.fileno())
            # by the open file: in a folder of another user, something else may have taken the place of its name
            os.fchmod(file.fileno(), mode)
            _chown_like(file.fileno(), like)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def make_folder(path: str, mode: int, like: os.stat_result) -> None:
    """Make a folder, with the owner of another one where we are root and may."""
    os.mkdir(path)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(handle, mode)
        _chown_like(handle, like)
    finally:
        os.close(handle)


def _chown_like(handle: int, like: os.stat_result | None) -> None:
    if like is not None and os.geteuid() == 0:
        os.fchown(handle, like.st_uid, like.st_gid)

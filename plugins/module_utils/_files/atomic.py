# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Files that are written whole or not at all.

Where a later run believes what has a name without looking into it, it has to be on the disk before it gets the name, or a power cut
leaves the name with nothing behind it: that is what :func:`put_in_place` is for. What is compared with its hash each time it is used
may do without (``is_durable=False``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import compare_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import open_regular
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.temporary import temporary_file

_CHUNK = 1 << 20  # bytes


def write_bytes(
    path: str,
    content: bytes,
    mode: int = 0o644,
    like: os.stat_result | None = None,
    *,
    folder: str | None = None,
    is_durable: bool = True,
) -> None:
    """Write a file whole or not at all.

    :param like: whose owner the file gets, where we are root and may choose
    :param folder: where it is until it is whole, on the same file system; by default where it will be
    :param is_durable: whether it is on the disk before it has its name
    """
    with _written(path, mode, like, folder, is_durable) as file:
        file.write(content)


def copy_file(
    source: str, path: str, mode: int = 0o644, like: os.stat_result | None = None, sha256: str | None = None
) -> str:
    """Copy a file whole or not at all, in pieces; other parameters as of :func:`write_bytes`.

    :param sha256: that the copy must have, if it is known: who can change the source could do so after it was hashed
    :returns: the SHA-256 of the copy
    :raises TorchExtensionError: if it has another one; nothing is changed then
    """
    digest = hashlib.sha256()
    with open_regular(source) as opened, _written(path, mode, like) as file:
        for chunk in iter(lambda: opened.read(_CHUNK), b""):
            digest.update(chunk)
            file.write(chunk)
        compare_sha256(source, digest.hexdigest(), sha256)
    return digest.hexdigest()


@contextlib.contextmanager
def _written(
    path: str, mode: int, like: os.stat_result | None, folder: str | None = None, is_durable: bool = True
) -> t.Iterator[t.IO[bytes]]:
    """Yield a file to write to, which gets its name after that."""
    with temporary_file(os.path.dirname(path) if folder is None else folder) as (file, temporary):
        yield file
        file.flush()
        # by the open file: in a folder of another user, something else may have taken the place of its name
        os.fchmod(file.fileno(), mode)
        _chown_like(file.fileno(), like)
        if is_durable:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    if is_durable:
        sync(os.path.dirname(path))


def put_in_place(temporary: str, path: str) -> None:
    """Give a file, or a folder with all that is in it, its name once it is on the disk.

    :raises OSError: if it cannot be renamed, or the disk does not take it
    """
    sync_tree(temporary)
    os.replace(temporary, path)
    sync(os.path.dirname(path))


def sync_tree(path: str) -> None:
    """Write a file, or a folder with all that is in it, to the disk."""
    sync(path)
    for parent, folders, files in os.walk(path):
        for name in (*files, *folders):
            sync(os.path.join(parent, name))


def sync(path: str) -> None:
    """Write a file to the disk, or the names in a folder."""
    if os.path.islink(path):
        return
    handle = os.open(path or os.curdir, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems sync no folders
            os.fsync(handle)
    finally:
        os.close(handle)


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

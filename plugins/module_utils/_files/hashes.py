# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Hashes of files."""

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import open_regular

_CHUNK = 1 << 22  # bytes
_SHORT_DIGITS = 16


def shorten(sha256: str | None) -> str:
    """As much of a hash as tells files of one name apart, in the names of folders and of parts."""
    return (sha256 or "unknown")[:_SHORT_DIGITS].lower()


def sha256_of(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal, read in pieces.

    :raises OSError: if it is no regular file, or cannot be read
    """
    with open_regular(path) as file:
        return sha256_of_rest(file)


def sha256_of_rest(file: t.Any) -> str:
    """The SHA-256 of what is left to read in what is open.

    :param file: with the method ``read`` of binary files
    :raises OSError: if it cannot be read
    """
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: str, expected: str | None) -> str:
    """The SHA-256 of a file, which must be the expected one, if there is one.

    :raises TorchExtensionError: if it is another one or the file cannot be read
    """
    try:
        actual = sha256_of(path)
    except OSError as exc:
        raise TorchExtensionError(f"{path} cannot be read: {exc.strerror}.") from exc
    compare_sha256(path, actual, expected)
    return actual


def compare_sha256(path: str, actual: str, expected: str | None) -> None:
    """
    :param path: of the file, for the message
    :raises TorchExtensionError: if a hash is not the expected one, if there is one
    """
    if expected and actual != expected.lower():
        raise TorchExtensionError(
            f"{os.path.basename(path)} has sha256 {actual}, wanted is {expected}: it is another file or it is damaged."
        )

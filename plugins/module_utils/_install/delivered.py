# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Delivered wheels, where nobody else can exchange them between the look at their hashes and their use."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import find_stranger, trust
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import delivered_path

Files = t.Sequence[t.Mapping[str, t.Any]]


def are_exchangeable(files: Files, folder: str, trusted_owners: t.Iterable[str]) -> bool:
    """Whether others can change one of the files, or put another one in its place, so that only a copy stays what it is.

    :param files: each with ``filename`` and ``sha256``
    :param folder: where they lie (``wheel_file.delivered_path``)
    :param trusted_owners: who may, as of ``trust.trust``
    :raises TorchExtensionError: if they can, and no hash tells which file is meant
    """
    trusted, exchangeable = trust(trusted_owners), False
    for file in files:
        try:
            stranger = find_stranger(delivered_path(file, folder), trusted)
        except OSError:
            continue  # whoever opens it says so
        if stranger and not file["sha256"]:
            raise TorchExtensionError(
                f"{stranger}, and of {file['filename']} no sha256 is given: others could choose what is installed. Nothing was changed."
                f" Give its sha256; or put it into a folder that they cannot change, or name them in torch_extension_trusted_owners."
            )
        exchangeable = exchangeable or stranger is not None
    return exchangeable


def copy_files(files: Files, folder: str, place: str) -> str:
    """Copy files to where nobody else gets to, with their hashes checked on the way.

    :param place: a folder that is made, in one of this user's alone
    :returns: the place
    :raises TorchExtensionError: if one is not what it should be, or cannot be read
    """
    for file in files:
        target = delivered_path(file, place)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        source = delivered_path(file, folder)
        try:
            atomic.copy_file(source, target, 0o600, sha256=file["sha256"])
        except OSError as exc:
            raise TorchExtensionError(
                f"{source} cannot be copied to {place}: {exc.strerror}. Nothing was changed."
            ) from exc
    return place

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Remove from pip's cache the wheels that this collection has put there, wherever in it their sdists have put them."""

from __future__ import annotations

import contextlib
import glob
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import pip_cache
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.removal import (
    Removal,
    not_there,
    removed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import check_writable
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file

Environment = t.Mapping[str, t.Any]


class _Entry(t.NamedTuple):
    """A wheel in pip's cache."""

    path: str
    name: str
    version: str
    is_ours: bool


def plan_removal(names: t.Sequence[str], environment: Environment) -> Removal:
    """What a removal would do.

    :param names: normalised names of packages
    :raises TorchExtensionError: if this user cannot remove what there is
    """
    return _describe(names, _find_entries(names, environment), environment)


def remove(names: t.Sequence[str], environment: Environment, _run: Run | None = None) -> Removal:
    """Remove the entries of packages; parameters as of :func:`plan_removal`.

    :raises OSError: if something cannot be removed
    """
    foreseen = plan_removal(names, environment)
    if not foreseen.changes:
        return foreseen
    with locked_folder(environment["pip_cache"]["dir"]):
        leftovers = pip_cache.remove_leftovers([], environment)
        entries = _find_entries(names, environment)
        for entry in entries:
            if entry.is_ours:
                _remove(entry.path, pip_cache.wheels_folder(environment))
        removal = _describe(names, entries, environment)
        for path in leftovers:
            _remove_empty_folders(os.path.dirname(path), pip_cache.wheels_folder(environment))
    return removal._replace(leftovers=leftovers)


def _find_entries(names: t.Sequence[str], environment: Environment) -> list[_Entry]:
    entries = []
    for path in pip_cache.find_in_cache("*.whl", environment):
        wheel = wheel_file.parse_name_or_none(os.path.basename(path))
        if wheel is None or wheel.name not in names:
            continue
        entries.append(_Entry(path, wheel.name, wheel.version, pip_cache.is_ours(path)))
        if entries[-1].is_ours:
            check_writable(os.path.dirname(path), environment["pip_cache"]["dir"])
    return entries


def _describe(names: t.Sequence[str], entries: t.Iterable[_Entry], environment: Environment) -> Removal:
    ours = {entry.name: entry for entry in entries if entry.is_ours}
    folder = environment["pip_cache"]["dir"]
    packages = [
        removed(name, wheel_file.public_version(ours[name].version), "pip's cache holds it")
        if name in ours
        else not_there(name, f"among what was put into pip's cache ({folder})")
        for name in names
    ]
    stays = [f"{entry.path} (pip has built it itself)" for entry in entries if not entry.is_ours]
    return Removal(packages, [], stays, pip_cache.list_leftovers([], environment))


def _remove(path: str, top: str) -> None:
    """Remove a wheel, what is recorded of it, and the folders above it that are empty then."""
    folder = os.path.dirname(path)
    os.remove(path)
    if not glob.glob(os.path.join(glob.escape(folder), "*.whl")):
        for name in pip_cache.RECORDS:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))
    _remove_empty_folders(folder, top)


def _remove_empty_folders(folder: str, top: str) -> None:
    while len(folder) > len(top):
        with contextlib.suppress(OSError):  # something else is in it
            os.rmdir(folder)
        folder = os.path.dirname(folder)

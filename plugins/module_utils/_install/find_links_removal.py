# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Remove wheels from the folder of an environment, and with the last of them the folder and its mention in the environment's pip.conf."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import find_links
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.removal import (
    Removal,
    explain_need,
    not_there,
    removed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import check_ownership
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file

Environment = t.Mapping[str, t.Any]


class _Plan(t.NamedTuple):
    removal: Removal
    files: list[str]  # names in the folder, in the order in which they go
    is_last: bool  # whether nothing is in the folder then, if there is one
    settings: find_links.PipConfChange | None


def plan_removal(names: t.Sequence[str], environment: Environment) -> Removal:
    """What a removal would do.

    :param names: normalised names of packages
    :raises TorchExtensionError: if the environment is not the user's to change, and there is something to remove
    """
    return _plan(names, environment).removal


def remove(names: t.Sequence[str], environment: Environment, _run: Run | None = None) -> Removal:
    """Remove the wheels of packages, and of what they alone require; parameters and errors as of :func:`plan_removal`."""
    foreseen = _plan(names, environment).removal
    if not foreseen.changes:
        return foreseen
    with locked_folder(environment["python"]["prefix"]):
        return _remove(_plan(names, environment), environment)


def _remove(plan: _Plan, environment: Environment) -> Removal:
    folder = find_links.wheel_folder(environment)
    if plan.settings:  # first: pip complains of a folder that is not there
        find_links.write_pip_conf(plan.settings, environment)
    for path in find_links.list_leftovers([], environment):
        temporary.remove_leftover(path)
    for name in plan.files:
        os.remove(os.path.join(folder, name))
    if plan.is_last:
        for path in _folders(environment):
            with contextlib.suppress(OSError):  # somebody else has something there
                os.rmdir(path)
    return plan.removal


def _folders(environment: Environment) -> list[str]:
    """The folder of wheels, the one around it, which is ours, too, and the one around that, which may be anybody's."""
    folder = find_links.wheel_folder(environment)
    return [folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))]


def _plan(names: t.Sequence[str], environment: Environment) -> _Plan:
    folder = find_links.wheel_folder(environment)
    entries = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    wheels = {
        entry: found for entry, found in ((entry, wheel_file.parse_name_or_none(entry)) for entry in entries) if found
    }
    records = {name: find_links.read_record(folder, name) for name in map(_package_of_record, entries) if name}
    required = _list_requirements({name: record for name, record in records.items() if name in names})
    required_by_others = _list_requirements({name: record for name, record in records.items() if name not in names})
    own = {entry for entry, wheel in wheels.items() if wheel.name in names}
    own_records = {entry for entry in entries if _package_of_record(entry) in names}
    along = (set(required) & entries) - set(required_by_others) - own
    leftovers = find_links.list_leftovers([], environment)
    going = own | own_records | along
    rest = entries - going - set(map(os.path.basename, leftovers))
    settings = None if rest else find_links.plan_pip_conf_without(environment)
    if settings and settings.before == settings.after:
        settings = None
    empty = [path for path in _folders(environment)[:2] if not entries and os.path.isdir(path)]
    if going or leftovers or settings or empty:
        check_ownership(environment, find_links.written_folders(environment))
    versions = {wheel.name: wheel.version for wheel in wheels.values()}
    packages = [
        removed(name, versions.get(name), f"{folder} holds it")
        if name in versions or name in records
        else not_there(name, f"in {folder}")
        for name in names
    ]
    stays = [
        explain_need(entry, required_by_others[entry]) for entry in sorted(set(required) & set(required_by_others))
    ]
    if going and not set(records) - set(names):
        stays += [f"{os.path.join(folder, entry)} (it is of unknown origin)" for entry in sorted(rest)]
    removal = Removal(packages, sorted(along), stays, [*leftovers, *empty], settings.diff() if settings else None)
    # the records last: by them a run knows what one that was killed has left
    order = sorted(going, key=lambda entry: (entry in own_records, entry))
    return _Plan(removal, order, not rest, settings)


def _package_of_record(entry: str) -> str | None:
    suffix = find_links.RECORD_SUFFIX
    return entry[: -len(suffix)] if entry.endswith(suffix) and not entry.startswith(".") else None


def _list_requirements(records: t.Mapping[str, t.Mapping[str, t.Any] | None]) -> dict[str, list[str]]:
    """By the name of a required wheel, the packages that require it."""
    required: dict[str, list[str]] = {}
    for name, record in sorted(records.items()):
        for filename in (record or {}).get("requirements", ()):
            required.setdefault(filename, []).append(name)
    return required

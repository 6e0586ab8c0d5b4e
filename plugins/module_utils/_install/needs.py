# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which distributions have come with others, as their requirements, and are needed no longer once those go."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import records
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    came_from_file,
    find_all_records,
    find_installed,
    read_requirements,
)


class Requirements(t.NamedTuple):
    """What has come with distributions that leave."""

    unneeded: list[Distribution]
    needed: dict[str, list[str]]  # name and version of what needs it, by that of what is needed


def split_requirements(
    leaving: t.Sequence[Distribution], site_packages: str, search_path: t.Iterable[str]
) -> Requirements:
    """Split what this collection has brought along with distributions into what nothing else needs, and what stays for others.

    :param leaving: distributions of the folder of packages
    :param search_path: folders of the environment; what is in any of them may need something
    :raises OSError: if metadata cannot be read
    """
    candidates = _find_brought(leaving, find_installed([site_packages])) if leaving else {}
    if not candidates:
        return Requirements([], {})
    gone = {os.path.realpath(distribution.path) for distribution in (*leaving, *candidates.values())}
    everything = {
        os.path.realpath(record.path): record
        for folder in search_path
        for found in find_all_records([folder]).values()
        for record in found[:1]
    }
    users = {record: read_requirements(record) for path, record in everything.items() if path not in gone}
    unneeded = dict(candidates)
    needed: dict[str, list[str]] = {}
    while True:
        users.update((record, read_requirements(record)) for name, record in candidates.items() if name not in unneeded)
        staying = {name: [user for user in users if name in users[user]] for name in unneeded}
        staying = {name: found for name, found in staying.items() if found}
        if not staying:
            return Requirements([unneeded[name] for name in sorted(unneeded)], needed)
        for name, found in staying.items():
            needed[describe(unneeded.pop(name))] = sorted(map(describe, found))


def describe(distribution: Distribution) -> str:
    """Name and version of a distribution, for people."""
    return f"{distribution.name} {distribution.version}"


def _find_brought(
    leaving: t.Sequence[Distribution], installed: t.Mapping[str, Distribution]
) -> dict[str, Distribution]:
    """What this collection has brought because others require it, directly or through something else that it has brought."""
    names = {distribution.name for distribution in leaving}
    brought: dict[str, Distribution] = {}
    pending = list(leaving)
    while pending:
        for name in read_requirements(pending.pop()) - names - set(brought):
            found = installed.get(name)
            if found is not None and came_from_file(found) and not records.is_requested(found):
                brought[name] = found
                pending.append(found)
    return brought

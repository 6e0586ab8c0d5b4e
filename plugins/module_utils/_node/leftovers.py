# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What runs that were killed have left in a folder of packages, ours and those of pip and uv."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_all_records
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES


def find_leftovers(site_packages: str | None, names: t.Iterable[str] = ()) -> list[str]:
    """What killed runs have left in a folder of packages: our scratch folders, and those of our packages that pip had renamed.

    pip renames a folder that it is about to remove: "~", some of "-~.=%0123456789", and the end of the name, as long as
    it was; or all of the name (AdjacentTempDirectory in pip/_internal/utils/temp_dir.py, pip 19 to 26).
    An upgrade that broke off leaves the record of the old version beside that of the new one.

    :param names: of further packages or modules
    :returns: names in this folder
    """
    if not site_packages:
        return []
    module_names = {name for package in PACKAGES.values() for name in (package.distribution, *package.imports)}
    module_names.update(name.replace("-", "_") for name in names)
    leftovers = []
    records: dict[str, list[str]] = {}
    for entry in sorted(os.listdir(site_packages)):
        renamed = re.match(r"(~[-~.=%0-9]*(\w+?))(-[^-]*\.dist-info)?$", entry)
        if entry.startswith(temporary.PREFIX):
            if temporary.is_free(os.path.join(site_packages, entry)):
                leftovers.append(entry)
        elif renamed and any(_is_renamed_from(renamed[1], renamed[2], name) for name in module_names):
            leftovers.append(entry)
        elif entry.endswith(".dist-info") and entry.partition("-")[0].replace(".", "_").lower() in module_names:
            records.setdefault(canonical(entry.partition("-")[0]), []).append(entry)
    if any(len(entries) > 1 for entries in records.values()):
        leftovers += _find_stale_records(site_packages, records)
    return leftovers


def list_entries(site_packages: str) -> list[str]:
    """What there is in a folder of packages of those that this collection installs, and of what killed runs have left."""
    installed = find_all_records([site_packages])
    entries = find_leftovers(site_packages)
    for name, package in PACKAGES.items():
        entries += [os.path.basename(record.path) for record in installed.get(name, ())]
        entries += [module.partition(".")[0] for module in package.imports if name in installed]
    return list(dict.fromkeys(entries))


def _find_stale_records(site_packages: str, records: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    """The records beside that of the version whose files are there."""
    found = find_all_records([site_packages])
    return [os.path.basename(record.path) for name in sorted(records) for record in found.get(name, [])[1:]]


def _is_renamed_from(renamed: str, end: str, name: str) -> bool:
    return renamed.endswith(name) or (len(renamed) == len(name) and name.endswith(end))

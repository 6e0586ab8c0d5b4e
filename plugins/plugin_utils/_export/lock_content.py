# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The content of a lock, made of the plans of nodes."""

from __future__ import annotations

import json
import typing as t

import yaml

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import LOCK_VERSION
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_validation import (
    BUILT,
    REQUIREMENT_FIELDS,
    WHEEL_FIELDS,
    check_distinct_files,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    format_value,
    kind_of_node,
)

HEADER = """\
# Written by the playbook airgap.torch_extensions.lock: for each kind of node the exact files that it gets, and why.
# It is made for review in git, not for editing. To renew it, run the playbook again:
#   ansible-playbook airgap.torch_extensions.lock -i INVENTORY
---
"""


def build_lock(plans: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The content of a lock.

    :param plans: of each node its ``environment``, its ``wheels`` with their hashes and sizes, and the
        ``requirements`` of these
    :raises TorchExtensionError: if two nodes of a kind want different files of one name
    """
    entries: dict[str, dict[str, t.Any]] = {}
    for plan in plans.values():
        facts = kind_of_node(plan["environment"])
        # None sorts as an empty text
        sort_key = json.dumps([format_value(value) if value is not None else "" for value in facts.values()])
        entry = entries.setdefault(sort_key, {**facts, "wheels": {}, "requirements": {}})
        for wheel in plan["wheels"]:
            requirement = wheel.get("requirement") or f"{wheel['name']}=={wheel['version']}"
            item = {key: wheel.get(key) for key in WHEEL_FIELDS} | {"requirement": requirement}
            item |= {BUILT: wheel[BUILT]} if wheel.get(BUILT) else {}
            _add_item(entry["wheels"], (item["name"], requirement, item["filename"], item["sha256"]), item)
        for requirement in plan["requirements"]:
            item = {key: requirement[key] for key in REQUIREMENT_FIELDS}
            key = (item["name"], item["filename"], item["sha256"])
            earlier = entry["requirements"].get(key)
            if earlier:  # the wheels of two nodes of a kind may differ
                item["required_by"] = sorted({*item["required_by"], *earlier["required_by"]})
                entry["requirements"][key] = {**earlier, "required_by": item["required_by"]}
            _add_item(entry["requirements"], key, item)
    environments = [
        {**entry, "wheels": _sort_by_key(entry["wheels"]), "requirements": _sort_by_key(entry["requirements"])}
        for _sort_key, entry in sorted(entries.items())
    ]
    check_distinct_files(environments)
    return {"lock_version": LOCK_VERSION, "environments": environments}


def format_lock(data: t.Mapping[str, t.Any]) -> str:
    """The text of a lock: the same for the same data, whoever writes it and when."""
    return HEADER + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Lists stand under their key, as linters of YAML like it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: t.Any) -> bool:
        return True


def _add_item(items: dict[tuple[str, ...], dict[str, t.Any]], key: tuple[str, ...], item: dict[str, t.Any]) -> None:
    # The URLs of nodes of a kind may differ, as mirrors do; the lock is the same in whatever order the nodes come.
    items[key] = min(item, items.get(key, item), key=json.dumps)


def _sort_by_key(items: t.Mapping[tuple[str, ...], dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return [items[key] for key in sorted(items)]

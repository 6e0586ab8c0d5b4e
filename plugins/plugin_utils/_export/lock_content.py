# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The content of a lock, made of the plans of nodes."""

from __future__ import annotations

import json
import typing as t

import yaml

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import VERSION, Lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import kind, plain, word
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.validation import (
    REQUIREMENT,
    WHEEL,
    check_files,
)

HEADER = """\
# Written by the playbook airgap.torch_extensions.lock: for each kind of node the exact files that it gets, and why.
# It is made for review in git, not for editing. To renew it, run the playbook again:
#   ansible-playbook airgap.torch_extensions.lock -i INVENTORY
---
"""


def build(plans: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The content of a lock.

    :param plans: of each node its ``environment``, its ``wheels`` with their hashes and sizes, and the
        ``requirements`` that it lacked
    :raises TorchExtensionError: if two nodes want different files of one name
    """
    check_files(item for plan in plans.values() for item in [*plan["wheels"], *plan["requirements"]])
    entries: dict[str, dict[str, t.Any]] = {}
    for plan in plans.values():
        facts = kind(plan["environment"])
        # None sorts as an empty text
        place = json.dumps([word(value) if value is not None else "" for value in facts.values()])
        entry = entries.setdefault(place, {**facts, "wheels": {}, "requirements": {}})
        for wheel in plan["wheels"]:
            requirement = wheel.get("requirement") or f"{wheel['name']}=={wheel['version']}"
            item = plain({key: wheel.get(key) for key in WHEEL} | {"requirement": requirement})
            _put(entry["wheels"], (item["name"], requirement, item["filename"]), item)
        for requirement in plan["requirements"]:
            item = plain({key: requirement[key] for key in REQUIREMENT})
            there = entry["requirements"].get((item["name"], item["filename"]))
            if there:  # two nodes of a kind may lack it for different reasons
                item["required_by"] = sorted({*item["required_by"], *there["required_by"]})
                entry["requirements"][(item["name"], item["filename"])] = {**there, "required_by": item["required_by"]}
            _put(entry["requirements"], (item["name"], item["filename"]), item)
    environments = [
        {**entry, "wheels": _sorted(entry["wheels"]), "requirements": _sorted(entry["requirements"])}
        for _place, entry in sorted(entries.items())
    ]
    return {"lock_version": VERSION, "environments": environments}


def dump(data: t.Mapping[str, t.Any]) -> str:
    """The text of a lock: the same for the same data, whoever writes it and when."""
    return HEADER + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)


def with_lacking(environment: t.Mapping[str, t.Any], before: Lock | None) -> dict[str, t.Any]:
    """A node as it was before it got what an earlier lock brought.

    Else a lock that is renewed would lose the requirements of all nodes that it has served.
    """
    kind(environment)  # says what is wrong with it
    brought = {item["name"] for item in before.requirements(environment)} if before else set()
    distributions = {name: version for name, version in environment["distributions"].items() if name not in brought}
    return {**environment, "distributions": distributions}


class _Dumper(yaml.SafeDumper):
    """Lists stand under their key, as linters of YAML like it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: t.Any) -> bool:
        return True


def _put(items: dict[tuple[str, ...], dict[str, t.Any]], key: tuple[str, ...], item: dict[str, t.Any]) -> None:
    # Nodes of a kind may differ in the mirror that they were told of; the lock is the same in whatever order they come.
    items[key] = min(item, items.get(key, item), key=json.dumps)


def _sorted(items: t.Mapping[tuple[str, ...], dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return [items[key] for key in sorted(items)]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The lock: for each kind of node the exact files that it gets, and why; made for review in git."""

from __future__ import annotations

import functools
import json
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import yaml_text
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_validation import (
    ENVIRONMENT_FIELDS,
    LOCK_FIELDS,
    REQUIREMENT_FIELDS,
    check_distinct_files,
    check_fields,
    check_file_entry,
    check_wheel_entry,
    lock_error,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    FACT_LABELS,
    describe_kind,
    format_value,
    kind_of_entry,
    kind_of_node,
)

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version
except ImportError:
    pass  # decision.py says so, before anything comes here

LOCK_VERSION = 1
MAX_SIZE = yaml_text.MAX_SIZE  # of a lock, in bytes


class Lock(t.NamedTuple):
    """A lock that was read: ``environments`` as they stand in the file."""

    path: str
    environments: tuple[dict[str, t.Any], ...]

    def find(self, term: str, environment: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The locked wheel for a requirement on a node, with the locked ``requirements`` of its kind of node.

        :param environment: what torch_info returned
        :raises TorchExtensionError: if the lock has none
        """
        try:
            requirement = Requirement(term)
        except InvalidRequirement as exc:
            raise TorchExtensionError(f"{term!r} is not a requirement such as 'flash-attn==2.8.3': {exc}") from exc
        entry = self._find_entry(kind_of_node(environment))
        name = canonical(requirement.name)
        wheels = [wheel for wheel in entry["wheels"] if canonical(wheel["name"]) == name]
        if not wheels:
            locked_names = ", ".join(sorted({wheel["name"] for wheel in entry["wheels"]})) or "nothing"
            raise TorchExtensionError(
                f"{self.path} has no {name} for nodes of this kind ({describe_kind(entry)}), only {locked_names}."
                f" {_advise('torch_extension_packages')}"
            )
        # A locked pre-release was asked for when the lock was made.
        matching = [wheel for wheel in wheels if requirement.specifier.contains(wheel["version"], prereleases=True)]
        if not matching:
            versions = ", ".join(wheel["version"] for wheel in wheels)
            raise TorchExtensionError(
                f"{term} is asked for, and {self.path} has {name} {versions} for nodes of this kind."
                f" {_advise('torch_extension_packages')}"
            )
        locked_for_it = [
            wheel for wheel in matching if Requirement(wheel["requirement"]).specifier == requirement.specifier
        ]
        newest = max(locked_for_it or matching, key=lambda wheel: Version(wheel["version"]))
        answer = {key: value for key, value in newest.items() if key != "requirement"}
        return {**answer, "requirements": [dict(item) for item in entry["requirements"]]}

    def requirements(self, environment: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        """The locked requirements of a node's kind; none, if the lock does not know the kind."""
        kind = kind_of_node(environment)
        return [item for entry in self.environments if kind_of_entry(entry) == kind for item in entry["requirements"]]

    def files(self) -> t.Iterator[dict[str, t.Any]]:
        """All files of all environments, one as often as it stands there."""
        for entry in self.environments:
            yield from entry["wheels"]
            yield from entry["requirements"]

    def _find_entry(self, kind: dict[str, t.Any]) -> dict[str, t.Any]:
        if not self.environments:
            raise TorchExtensionError(f"{self.path} has no environments at all. {_advise()}")
        differences = {
            number: [fact for fact in FACT_LABELS if entry[fact] != kind[fact]]
            for number, entry in enumerate(self.environments)
        }
        nearest = min(differences, key=lambda number: len(differences[number]))
        if not differences[nearest]:
            return self.environments[nearest]
        entry = self.environments[nearest]
        facts = "; ".join(
            f"{FACT_LABELS[fact]} is {format_value(entry[fact])} there and {format_value(kind[fact])} on this node"
            for fact in differences[nearest]
        )
        raise TorchExtensionError(
            f"{self.path} has nothing for this node ({describe_kind(kind)}). The nearest environment in it differs: {facts}."
            f" {_advise()}"
        )


@functools.lru_cache(maxsize=4)  # one run asks for each package of each node
def parse_lock(text: str, path: str) -> Lock:
    """Read and check the text of a lock.

    :param path: for messages
    :raises TorchExtensionError: if it is no lock, or not whole
    """
    try:
        data = yaml_text.parse_yaml(text)
    except yaml_text.YamlError as exc:
        raise lock_error(path, str(exc)) from exc
    if not isinstance(data, dict) or "lock_version" not in data:
        raise lock_error(path, "it has no lock_version")
    if data["lock_version"] != LOCK_VERSION:
        raise TorchExtensionError(
            f"{path} has lock_version {data['lock_version']!r}, and this version of the collection reads {LOCK_VERSION}."
            " Install the version of the collection that wrote it, or run the playbook lock again."
        )
    check_fields(data, LOCK_FIELDS, path, "the file")
    for number, entry in enumerate(data["environments"], 1):
        location = f"environment {number}"
        check_fields(entry, ENVIRONMENT_FIELDS, path, location)
        for wheel in entry["wheels"]:
            check_wheel_entry(wheel, path, f"a wheel of {location}")
        for requirement in entry["requirements"]:
            check_file_entry(requirement, REQUIREMENT_FIELDS, path, f"a requirement of {location}")
    kinds = [json.dumps(kind_of_entry(entry), sort_keys=True) for entry in data["environments"]]
    if len(set(kinds)) < len(kinds):
        raise lock_error(path, "two environments of it have the same facts")
    check_distinct_files(data["environments"])
    return Lock(path, tuple(data["environments"]))


def read_lock(path: str) -> Lock:
    """Read the file of a lock.

    :raises TorchExtensionError: if there is none, or it is broken
    """
    return parse_lock(read_lock_text(path), path)


def read_lock_text(path: str) -> str:
    """
    :raises TorchExtensionError: if there is no such file, or it cannot be read
    """
    try:
        return yaml_text.read_text(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise TorchExtensionError(
            f"The lock {os.path.abspath(path)} cannot be read: {getattr(exc, 'strerror', None) or exc}. The playbook"
            " lock makes it; torch_extension_lock names it."
        ) from exc


def locked_requirements(wheels: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]] | None:
    """The locked requirements that come with the wheels of a plan; None, if it is not from a lock."""
    lists = [wheel["requirements"] for wheel in wheels if wheel.get("requirements") is not None]
    return list({item["filename"]: item for items in lists for item in items}.values()) if lists else None


def _advise(variable: str | None = None) -> str:
    other_knob = f", change {variable}" if variable else ""
    return f"Run the playbook lock again with this node{other_knob}, or name another lock in torch_extension_lock."

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

import yaml

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    FACTS,
    describe,
    facts_of,
    kind,
    word,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.validation import (
    ENVIRONMENT,
    REQUIREMENT,
    WHEEL,
    broken,
    check,
    check_file,
    check_files,
)

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version
except ImportError:
    pass  # decision.py says so, before anything comes here

VERSION = 1


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
            asked = Requirement(term)
        except InvalidRequirement as exc:
            raise TorchExtensionError(f"{term!r} is not a requirement such as 'flash-attn==2.8.3': {exc}") from exc
        entry = self._entry(kind(environment))
        wheels = [wheel for wheel in entry["wheels"] if canonical(wheel["name"]) == canonical(asked.name)]
        if not wheels:
            names = ", ".join(sorted({wheel["name"] for wheel in entry["wheels"]})) or "nothing"
            raise TorchExtensionError(
                f"{self.path} has no {canonical(asked.name)} for nodes of this kind ({describe(entry)}), only {names}."
                f" {_knob('torch_extension_packages')}"
            )
        # A locked pre-release was asked for when the lock was made.
        fitting = [wheel for wheel in wheels if asked.specifier.contains(wheel["version"], prereleases=True)]
        if not fitting:
            versions = ", ".join(wheel["version"] for wheel in wheels)
            raise TorchExtensionError(
                f"{term} is asked for, and {self.path} has {canonical(asked.name)} {versions} for nodes of this kind."
                f" {_knob('torch_extension_packages')}"
            )
        as_asked = [wheel for wheel in fitting if Requirement(wheel["requirement"]).specifier == asked.specifier]
        wheel = max(as_asked or fitting, key=lambda wheel: Version(wheel["version"]))
        found = {key: value for key, value in wheel.items() if key != "requirement"}
        return {**found, "requirements": [dict(item) for item in entry["requirements"]]}

    def requirements(self, environment: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        """The locked requirements of a node's kind; none, if the lock does not know the kind."""
        wanted = kind(environment)
        return [item for entry in self.environments if facts_of(entry) == wanted for item in entry["requirements"]]

    def files(self) -> t.Iterator[dict[str, t.Any]]:
        """All files of all environments, one as often as it stands there."""
        for entry in self.environments:
            yield from entry["wheels"]
            yield from entry["requirements"]

    def _entry(self, wanted: dict[str, t.Any]) -> dict[str, t.Any]:
        if not self.environments:
            raise TorchExtensionError(f"{self.path} has no environments at all. {_knob()}")
        differing = {
            number: [fact for fact in FACTS if entry[fact] != wanted[fact]]
            for number, entry in enumerate(self.environments)
        }
        nearest = min(differing, key=lambda number: len(differing[number]))
        if not differing[nearest]:
            return self.environments[nearest]
        entry = self.environments[nearest]
        facts = "; ".join(
            f"{FACTS[fact]} is {word(entry[fact])} there and {word(wanted[fact])} on this node"
            for fact in differing[nearest]
        )
        raise TorchExtensionError(
            f"{self.path} has nothing for this node ({describe(wanted)}). The nearest environment in it differs: {facts}."
            f" {_knob()}"
        )


@functools.lru_cache(maxsize=4)  # one run asks for each package of each node
def load(text: str, path: str) -> Lock:
    """Read the text of a lock, and believe nothing of it unseen.

    :param path: for messages
    :raises TorchExtensionError: if it is no lock, or not whole
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise broken(path, f"it is no YAML: {getattr(exc, 'problem', None) or exc}{place}") from exc
    if not isinstance(data, dict) or "lock_version" not in data:
        raise broken(path, "it has no lock_version")
    if data["lock_version"] != VERSION:
        raise TorchExtensionError(
            f"{path} has lock_version {data['lock_version']!r}, and this version of the collection reads {VERSION}."
            " Install the version of the collection that wrote it, or run the playbook lock again."
        )
    check(data, {"lock_version": "", "environments": "a list"}, path, "the file")
    for number, entry in enumerate(data["environments"], 1):
        place = f"environment {number}"
        check(entry, ENVIRONMENT, path, place)
        for wheel in entry["wheels"]:
            check_file(wheel, WHEEL, path, f"a wheel of {place}")
        for requirement in entry["requirements"]:
            check_file(requirement, REQUIREMENT, path, f"a requirement of {place}")
    places = [json.dumps(facts_of(entry), sort_keys=True) for entry in data["environments"]]
    if len(set(places)) < len(places):
        raise broken(path, "two environments of it have the same facts")
    lock = Lock(path, tuple(data["environments"]))
    check_files(lock.files())
    return lock


def read(path: str) -> Lock:
    """Read the file of a lock.

    :raises TorchExtensionError: if there is none, or it is broken
    """
    return load(read_text(path), path)


def read_text(path: str) -> str:
    """
    :raises TorchExtensionError: if there is no such file, or it cannot be read
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise TorchExtensionError(
            f"The lock {os.path.abspath(path)} cannot be read: {getattr(exc, 'strerror', None) or exc}. The playbook"
            " lock makes it; torch_extension_lock names it."
        ) from exc


def locked_requirements(wheels: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]] | None:
    """The locked requirements that come with the wheels of a plan; None, if it is not from a lock."""
    lists = [wheel["requirements"] for wheel in wheels if wheel.get("requirements") is not None]
    return list({item["filename"]: item for items in lists for item in items}.values()) if lists else None


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _knob(variable: str | None = None) -> str:
    also = f", change {variable}" if variable else ""
    return f"Run the playbook lock again with this node{also}, or name another lock in torch_extension_lock."

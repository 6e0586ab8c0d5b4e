# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The lock: for each kind of node the exact files that it gets, and why; made for review in git."""

from __future__ import annotations

import functools
import json
import os
import re
import typing as t
from urllib.parse import urlsplit

import yaml

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version
except ImportError:
    pass  # _decision says so, before anything comes here

VERSION = 1
HEADER = """\
# Written by the playbook airgap.torch_extensions.lock: for each kind of node the exact files that it gets, and why.
# It is made for review in git, not for editing. To renew it, run the playbook again:
#   ansible-playbook airgap.torch_extensions.lock -i INVENTORY
---
"""

# The facts that a choice of files depends on, in the order of the file, and what people call them.
_FACTS = {
    "python": "Python",
    "abi": "Python ABI",
    "machine": "machine",
    "libc": "C library",
    "torch": "torch",
    "cuda": "CUDA",
    "hip": "HIP",
    "cxx11_abi": "C++11 ABI",
    "variables": "variables",
}
_TEXT = "a text"
_TEXT_OR_NULL = "a text or null"
_CHECKS: dict[str, t.Callable[[t.Any], bool]] = {
    _TEXT: lambda value: isinstance(value, str) and bool(value),
    _TEXT_OR_NULL: lambda value: value is None or isinstance(value, str),
    "a tag such as cp311": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[a-z]+\d+", value)),
    "true, false or null": lambda value: value is None or isinstance(value, bool),
    "a number of bytes": lambda value: isinstance(value, int) and value is not True and value >= 0,
    "64 hexadecimal digits": lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
    "the name of a wheel": lambda value: isinstance(value, str) and _is_wheel(value),
    "a version": lambda value: isinstance(value, str) and _is_version(value),
    "a requirement": lambda value: isinstance(value, str) and _is_requirement(value),
    "a URL without credentials": lambda value: isinstance(value, str) and _is_url(value),
    "a list": lambda value: isinstance(value, list),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "texts by name": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)
    ),
}
_ENVIRONMENT = {
    "python": "a tag such as cp311",
    "abi": _TEXT,
    "machine": _TEXT,
    "libc": _TEXT_OR_NULL,
    "torch": _TEXT_OR_NULL,
    "cuda": _TEXT_OR_NULL,
    "hip": _TEXT_OR_NULL,
    "cxx11_abi": "true, false or null",
    "variables": "texts by name",
    "wheels": "a list",
    "requirements": "a list",
}
_WHEEL = {
    "name": _TEXT,
    "requirement": "a requirement",
    "version": "a version",
    "filename": "the name of a wheel",
    "url": "a URL without credentials",
    "source": _TEXT,
    "size": "a number of bytes",
    "sha256": "64 hexadecimal digits",
    "ground": _TEXT_OR_NULL,
}
_REQUIREMENT = {
    "name": _TEXT,
    "version": "a version",
    "filename": "the name of a wheel",
    "size": "a number of bytes",
    "sha256": "64 hexadecimal digits",
    "required_by": "a list of texts",
}


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
                f"{self.path} has no {canonical(asked.name)} for nodes of this kind ({_told(entry)}), only {names}."
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
        return [item for entry in self.environments if _facts(entry) == wanted for item in entry["requirements"]]

    def files(self) -> t.Iterator[dict[str, t.Any]]:
        """All files of all environments, one as often as it stands there."""
        for entry in self.environments:
            yield from entry["wheels"]
            yield from entry["requirements"]

    def _entry(self, wanted: dict[str, t.Any]) -> dict[str, t.Any]:
        if not self.environments:
            raise TorchExtensionError(f"{self.path} has no environments at all. {_knob()}")
        differing = {
            number: [fact for fact in _FACTS if entry[fact] != wanted[fact]]
            for number, entry in enumerate(self.environments)
        }
        nearest = min(differing, key=lambda number: len(differing[number]))
        if not differing[nearest]:
            return self.environments[nearest]
        entry = self.environments[nearest]
        facts = "; ".join(
            f"{_FACTS[fact]} is {_word(entry[fact])} there and {_word(wanted[fact])} on this node"
            for fact in differing[nearest]
        )
        raise TorchExtensionError(
            f"{self.path} has nothing for this node ({_told(wanted)}). The nearest environment in it differs: {facts}."
            f" {_knob()}"
        )


def kind(environment: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """All of a node that a choice of files depends on. Nodes that agree in this get the same files.

    :param environment: what torch_info returned
    :raises TorchExtensionError: if it is anything else
    """
    try:
        python, platform, torch = environment["python"], environment["platform"], environment["torch"] or {}
        environment["distributions"].items()  # no part of a kind, but of an environment
        libc = platform["libc"]
        return _plain(
            {
                "python": python["tag"],
                "abi": python["abi"],
                "machine": platform["machine"],
                "libc": " ".join(str(libc[key]) for key in ("name", "version") if libc[key]) if libc else None,
                "torch": torch.get("version"),
                "cuda": torch.get("cuda"),
                "hip": torch.get("hip"),
                "cxx11_abi": torch.get("cxx11_abi"),
                "variables": {name: environment["variables"][name] for name in sorted(environment["variables"])},
            }
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise TorchExtensionError(
            f"environment cannot be read ({exc}): wanted is the dictionary 'environment' that torch_info returns."
        ) from exc


def node_of(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """As much of a node's environment as a locked environment still tells: enough to choose a file by its tags."""
    libc = (entry["libc"] or "").split()
    digits = re.sub(r"\D", "", entry["python"])
    return {
        "python": {"tag": entry["python"], "abi": entry["abi"], "version": f"{digits[:1]}.{digits[1:] or 0}"},
        "platform": {
            "machine": entry["machine"],
            "libc": {"name": libc[0], "version": libc[1] if len(libc) > 1 else None} if libc else None,
        },
    }


def build(plans: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The content of a lock.

    :param plans: of each node its ``environment``, its ``wheels`` with their hashes and sizes, and the
        ``requirements`` that it lacked
    :raises TorchExtensionError: if two nodes want different files of one name
    """
    _check_files(item for plan in plans.values() for item in [*plan["wheels"], *plan["requirements"]])
    entries: dict[str, dict[str, t.Any]] = {}
    for plan in plans.values():
        facts = kind(plan["environment"])
        # None sorts as an empty text
        place = json.dumps([_word(value) if value is not None else "" for value in facts.values()])
        entry = entries.setdefault(place, {**facts, "wheels": {}, "requirements": {}})
        for wheel in plan["wheels"]:
            requirement = wheel.get("requirement") or f"{wheel['name']}=={wheel['version']}"
            item = _plain({key: wheel.get(key) for key in _WHEEL} | {"requirement": requirement})
            _put(entry["wheels"], (item["name"], requirement, item["filename"]), item)
        for requirement in plan["requirements"]:
            item = _plain({key: requirement[key] for key in _REQUIREMENT})
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
        raise _broken(path, f"it is no YAML: {getattr(exc, 'problem', None) or exc}{place}") from exc
    if not isinstance(data, dict) or "lock_version" not in data:
        raise _broken(path, "it has no lock_version")
    if data["lock_version"] != VERSION:
        raise TorchExtensionError(
            f"{path} has lock_version {data['lock_version']!r}, and this version of the collection reads {VERSION}."
            " Install the version of the collection that wrote it, or run the playbook lock again."
        )
    _check(data, {"lock_version": "", "environments": "a list"}, path, "the file")
    for number, entry in enumerate(data["environments"], 1):
        place = f"environment {number}"
        _check(entry, _ENVIRONMENT, path, place)
        for wheel in entry["wheels"]:
            _check_file(wheel, _WHEEL, path, f"a wheel of {place}")
        for requirement in entry["requirements"]:
            _check_file(requirement, _REQUIREMENT, path, f"a requirement of {place}")
    places = [json.dumps(_facts(entry), sort_keys=True) for entry in data["environments"]]
    if len(set(places)) < len(places):
        raise _broken(path, "two environments of it have the same facts")
    lock = Lock(path, tuple(data["environments"]))
    _check_files(lock.files())
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


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _plain(value: t.Any) -> t.Any:
    """A value without what Ansible hangs on it, which YAML cannot write."""
    if isinstance(value, t.Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _put(items: dict[tuple[str, ...], dict[str, t.Any]], key: tuple[str, ...], item: dict[str, t.Any]) -> None:
    # Nodes of a kind may differ in the mirror that they were told of; the lock is the same in whatever order they come.
    items[key] = min(item, items.get(key, item), key=json.dumps)


def _sorted(items: t.Mapping[tuple[str, ...], dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return [items[key] for key in sorted(items)]


def _check_files(items: t.Iterable[t.Mapping[str, t.Any]]) -> None:
    """One name is one file: caches and bundles keep files by their names."""
    hashes: dict[str, str] = {}
    for item in items:
        there = hashes.setdefault(item["filename"], item["sha256"])
        if there != item["sha256"]:
            raise TorchExtensionError(
                f"{item['filename']} stands for two files, with sha256 {there} and {item['sha256']}. See that"
                " torch_extension_github_url and torch_extension_sha256 are the same for all nodes."
            )


def _check(value: t.Any, fields: t.Mapping[str, str], path: str, place: str) -> None:
    if not isinstance(value, dict):
        raise _broken(path, f"{place} is {value!r}, wanted is a dictionary")
    for field in [*fields, *value]:
        if field not in value:
            raise _broken(path, f"{place} lacks {field}")
        if field not in fields:
            raise _broken(path, f"{place} has {field}, which is unknown")
        wanted = fields[field]
        if wanted and not _CHECKS[wanted](value[field]):
            raise _broken(path, f"{field} of {place} is {value[field]!r}, wanted is {wanted}")


def _check_file(item: t.Any, fields: t.Mapping[str, str], path: str, place: str) -> None:
    _check(item, fields, path, place)
    name = wheel_file.parse_name(item["filename"])
    versions = [wheel_file.public_version(version) for version in (name.version, item["version"])]
    if name.name != canonical(item["name"]) or Version(versions[0]) != Version(versions[1]):
        raise _broken(path, f"{item['filename']} is no wheel of {item['name']} {item['version']}")


def _broken(path: str, reason: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{path} is not a sound lock: {reason}. Take it from git again, or remove it and run the playbook lock."
    )


def _facts(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {fact: entry[fact] for fact in _FACTS}


def _told(facts: t.Mapping[str, t.Any]) -> str:
    return ", ".join(
        [
            f"Python {facts['python']}" + (f" with ABI {facts['abi']}" if facts["abi"] != facts["python"] else ""),
            facts["machine"],
            facts["libc"] or "unknown C library",
            f"torch {facts['torch']}" if facts["torch"] else "no torch",
            *([f"CUDA {facts['cuda']}"] if facts["cuda"] else []),
            *([f"HIP {facts['hip']}"] if facts["hip"] else []),
        ]
    )


def _word(value: t.Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in sorted(value.items())) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _knob(variable: str | None = None) -> str:
    also = f", change {variable}" if variable else ""
    return f"Run the playbook lock again with this node{also}, or name another lock in torch_extension_lock."


def _is_wheel(text: str) -> bool:
    try:
        wheel_file.parse_name(text)
        Version(wheel_file.parse_name(text).version)
    except (TorchExtensionError, InvalidVersion):
        return False
    return "\n" not in text


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https", "file") and parts.username is None and bool(parts.path)
    except ValueError:
        return False

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Checks the content of a lock."""

from __future__ import annotations

import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import describe_kind

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version
except ImportError:
    pass  # decision.py says so, before anything comes here


_TEXT = "a text"


_TEXT_OR_NULL = "a text or null"


# What is wanted of a field, in words for messages, and how to see that it is so.
_CHECKS: dict[str, t.Callable[[t.Any], bool]] = {
    _TEXT: lambda value: isinstance(value, str) and bool(value),
    _TEXT_OR_NULL: lambda value: value is None or isinstance(value, str),
    "a tag such as cp311": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[a-z]+\d+", value)),
    "true, false or null": lambda value: value is None or isinstance(value, bool),
    "a number of bytes": lambda value: isinstance(value, int) and value is not True and value >= 0,
    "64 hexadecimal digits": lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
    "the name of a wheel": lambda value: isinstance(value, str) and _is_wheel_name(value),
    "a version": lambda value: isinstance(value, str) and _is_version(value),
    "a requirement": lambda value: isinstance(value, str) and _is_requirement(value),
    "a URL without credentials": lambda value: isinstance(value, str) and _is_url(value),
    "a list": lambda value: isinstance(value, list),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "texts by name": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)
    ),
}


ENVIRONMENT_FIELDS = {
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


WHEEL_FIELDS = {
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


#: a field that only wheels have which were built here, and what is in it
BUILT = "built"
_BUILT_FIELDS = {
    "sdist": _TEXT,
    "sdist_sha256": "64 hexadecimal digits",
    "torch": _TEXT,
    "architectures": "a list of texts",
    "compilers": "texts by name",
    "builder": _TEXT,
}


REQUIREMENT_FIELDS = {
    "name": _TEXT,
    "version": "a version",
    "filename": "the name of a wheel",
    "size": "a number of bytes",
    "sha256": "64 hexadecimal digits",
    "required_by": "a list of texts",
}


def check_distinct_files(environments: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """Check that nothing stands for two files by which one is asked for.

    That is a wheel's name within an environment: two places may have other files of that name, each for its own nodes. It is
    a URL anywhere, and the name of a requirement anywhere, for that has no URL.

    :param environments: with their facts, ``wheels`` and ``requirements``
    :raises TorchExtensionError: for the first thing that does
    """
    for entry in environments:
        _check_one_file_each([*entry["wheels"], *entry["requirements"]], "filename", f" for {describe_kind(entry)}")
    wheels = [wheel for entry in environments for wheel in entry["wheels"]]
    requirements = [item for entry in environments for item in entry["requirements"]]
    required_names = {item["filename"] for item in requirements}
    _check_one_file_each(
        [*requirements, *(wheel for wheel in wheels if wheel["filename"] in required_names)], "filename"
    )
    _check_one_file_each(wheels, "url")


def _check_one_file_each(items: t.Iterable[t.Mapping[str, t.Any]], field: str, where: str = "") -> None:
    hashes: dict[str, str] = {}
    for item in items:
        first_hash = hashes.setdefault(item[field], item["sha256"])
        if first_hash != item["sha256"]:
            raise TorchExtensionError(
                f"{item[field]} stands for two files{where}, with sha256 {first_hash} and {item['sha256']}. See that"
                " torch_extension_sources, torch_extension_github_url and torch_extension_sha256 are the same for all"
                " nodes of a kind."
            )


def check_fields(value: t.Any, fields: t.Mapping[str, str], path: str, location: str) -> None:
    """Check that a part of a lock has all its fields, no others, and what they should have.

    :param fields: what is wanted in each, in the words of ``_CHECKS``; empty for anything
    :param path: of the lock, for messages
    :param location: of the part in the lock, for messages
    """
    if not isinstance(value, dict):
        raise lock_error(path, f"{location} is {value!r}, wanted is a dictionary")
    for field in [*fields, *value]:
        if field not in value:
            raise lock_error(path, f"{location} lacks {field}")
        if field not in fields:
            raise lock_error(path, f"{location} has {field}, which is unknown")
        description = fields[field]
        if description and not _CHECKS[description](value[field]):
            raise lock_error(path, f"{field} of {location} is {value[field]!r}, wanted is {description}")


def check_file_entry(item: t.Any, fields: t.Mapping[str, str], path: str, location: str) -> None:
    """As :func:`check_fields`, and that the file's name agrees with its package and version."""
    check_fields(item, fields, path, location)
    name = wheel_file.parse_name(item["filename"])
    versions = [wheel_file.public_version(version) for version in (name.version, item["version"])]
    if name.name != canonical(item["name"]) or Version(versions[0]) != Version(versions[1]):
        raise lock_error(path, f"{item['filename']} is no wheel of {item['name']} {item['version']}")


def check_wheel_entry(item: t.Any, path: str, location: str) -> None:
    """As :func:`check_file_entry`, of a wheel, which may say how it was built."""
    if isinstance(item, dict) and BUILT in item:
        check_fields(item[BUILT], _BUILT_FIELDS, path, f"{BUILT} of {location}")
        item = {key: value for key, value in item.items() if key != BUILT}
    check_file_entry(item, WHEEL_FIELDS, path, location)


def lock_error(path: str, reason: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{path} is not a sound lock: {reason}. Take it from git again, or remove it and run the playbook lock."
    )


def _is_wheel_name(text: str) -> bool:
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

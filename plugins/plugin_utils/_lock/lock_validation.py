# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Checks the content of a lock."""

from __future__ import annotations

import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import node_schema, schema
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import describe, make_visible
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import describe_kind

try:
    from packaging.requirements import Requirement
    from packaging.version import Version
except ImportError:
    pass  # decision.py says so, before anything comes here


def _is_text(value: str) -> bool:
    return bool(value) and make_visible(value) == value


def _is_wheel_name(text: str) -> bool:
    try:
        Version(wheel_file.parse_name(text).version)
    except (TorchExtensionError, ValueError):
        return False
    return True


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    return True


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https", "file") and parts.username is None and bool(parts.path)
    except ValueError:
        return False


# Names and versions go into commands and files of pip; what else is a text is for people alone.
_TEXT = schema.matching(_is_text, "a text", 65536)
_NAME = schema.form("[A-Za-z0-9]([A-Za-z0-9._-]{0,200}[A-Za-z0-9])?", "the name of a package")
_VERSION = schema.matching(_is_version, "a version", 200, r"[0-9A-Za-z.+!_-]+")
_WHEEL_NAME = schema.matching(_is_wheel_name, "the name of a wheel", 255)
_REQUIREMENT = schema.matching(_is_requirement, "a requirement", 1000, "[ -~]+")
_URL = schema.matching(_is_url, "a URL without credentials", 4096, r"[^\x00-\x20\x7f-\xa0]+")
_SHA256 = schema.form("[0-9a-f]{64}", "64 hexadecimal digits")  # as this collection writes them
_TEXTS = schema.list_of(_TEXT, 10000)
_TEXTS_BY_NAME = schema.mapping_of(schema.words(4096), 1000)
_LIST = schema.list_of(schema.anything, 100000)


ENVIRONMENT_FIELDS: dict[str, schema.Schema] = {
    "python": node_schema.PYTHON_TAG,
    "abi": node_schema.ABI_TAG,
    "machine": node_schema.MACHINE,
    "libc": schema.nullable(node_schema.LIBC),
    "torch": schema.nullable(node_schema.TORCH_VERSION),
    "cuda": schema.nullable(node_schema.CUDA_VERSION),
    "hip": schema.nullable(node_schema.HIP_VERSION),
    "cxx11_abi": schema.nullable(schema.boolean),
    "variables": node_schema.VARIABLES,
    "wheels": _LIST,
    "requirements": _LIST,
}


WHEEL_FIELDS: dict[str, schema.Schema] = {
    "name": _NAME,
    "requirement": _REQUIREMENT,
    "version": _VERSION,
    "filename": _WHEEL_NAME,
    "url": _URL,
    "source": _TEXT,
    "size": schema.size,
    "sha256": _SHA256,
    "ground": schema.nullable(_TEXT),
}


#: a field that only wheels have which were built here, and what is in it
BUILT = "built"
_BUILT_FIELDS: dict[str, schema.Schema] = {
    "sdist": _TEXT,
    "sdist_sha256": _SHA256,
    "torch": node_schema.TORCH_VERSION,
    "architectures": _TEXTS,
    "compilers": _TEXTS_BY_NAME,
    "builder": _TEXT,
}


REQUIREMENT_FIELDS: dict[str, schema.Schema] = {
    "name": _NAME,
    "version": _VERSION,
    "filename": _WHEEL_NAME,
    "size": schema.size,
    "sha256": _SHA256,
    "required_by": _TEXTS,
}

#: of the whole file, whose version has been read before
LOCK_FIELDS: dict[str, schema.Schema] = {"lock_version": schema.anything, "environments": _LIST}


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


def check_fields(value: t.Any, fields: t.Mapping[str, schema.Schema], path: str, location: str) -> None:
    """Check that a part of a lock has all its fields, no others, and what they should have.

    :param path: of the lock, for messages
    :param location: of the part in the lock, for messages
    """
    if not isinstance(value, dict):
        raise lock_error(path, f"{location} is {describe(value)}, wanted is a dictionary")
    for field in [*fields, *value]:
        if field not in value:
            raise lock_error(path, f"{location} lacks {field}")
        if field not in fields:
            raise lock_error(path, f"{location} has {make_visible(str(field)[:100])}, which is unknown")
        misfit = fields[field](value[field], field)
        if misfit:
            raise lock_error(path, str(misfit._replace(place=f"{misfit.place} of {location}")))


def check_file_entry(item: t.Any, fields: t.Mapping[str, schema.Schema], path: str, location: str) -> None:
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

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which wheel a requirement means for an environment."""

from __future__ import annotations

import os
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _guess, _packages, _pip_cache
from ansible_collections.airgap.torch_extensions.plugins.module_utils._action import Action
from ansible_collections.airgap.torch_extensions.plugins.module_utils._action import decide as decide_action
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError

try:
    from packaging.requirements import InvalidRequirement, Requirement
except ImportError as exc:
    PACKAGING_IMPORT_ERROR = exc
else:
    PACKAGING_IMPORT_ERROR = None

_ENVIRONMENT_KEYS = ("python", "platform", "torch", "installers", "pip_cache", "variables", "distributions", "origins")
_DIGEST_LENGTHS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_NO_ANSWER = {
    "name": None,
    "version": None,
    "filename": None,
    "url": None,
    "source": "guess",
    "sha256": None,
    "size": None,
    "imports": [],
    "sdist_url": None,
    "pip_cache_path": None,
    "conflicts": [],
}


class Sources(t.NamedTuple):
    """Where wheels come from, and what the operator knows of them."""

    github_url: str = "https://github.com"
    sdist_url: str | t.Mapping[str, str] | None = None
    sha256: t.Mapping[str, str] = {}
    pip_cache: bool = False


def decide(term: str, environment: t.Any, sources: Sources, strict: bool = True) -> dict[str, t.Any]:
    """The wheel that a requirement means for an environment, as the lookup ``wheel`` returns it.

    :param term: a requirement (PEP 508), pinned to one version
    :param environment: what torch_info returned
    :param strict: whether to raise where there is no answer; if not, ``conflicts`` holds the message instead
    :raises TorchExtensionError: for bad input, and for no answer
    """
    if PACKAGING_IMPORT_ERROR:
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node lacks packaging ({PACKAGING_IMPORT_ERROR}). "
            "Install the collection's requirements.txt into it."
        )
    _check_environment(environment)
    _check_url(sources.github_url)
    answer = dict(_NO_ANSWER, name=term)
    try:
        answer.update(_wheel(term, environment, sources))
        answer.update(_place(answer, environment, sources))
    except TorchExtensionError as exc:
        if strict:
            raise
        answer["conflicts"] = [*answer["conflicts"], str(exc)]
    answer.update(_action(answer, environment)._asdict())
    return answer


def _wheel(term: str, environment: t.Mapping[str, t.Any], sources: Sources) -> dict[str, t.Any]:
    name, version = parse(term)
    guess = _guess.guess(name, version, environment, sources.github_url)
    return {
        "name": name,
        "version": guess.version,
        "filename": guess.filename,
        "url": guess.url,
        "sha256": _sha256(guess.filename, sources.sha256),
        "imports": list(_packages.PACKAGES[name].imports),
        "sdist_url": _sdist_url(name, sources.sdist_url),
        "conflicts": _guess.conflicts(guess, environment),
    }


def _place(answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], sources: Sources) -> dict[str, t.Any]:
    """Where the node's pip looks for the wheel: as the operator's URL has it, else as the node's pip itself said."""
    name, filename, given = answer["name"], answer["filename"], answer["sdist_url"]
    if sources.pip_cache:
        _pip_cache.check_used(name, environment)
    if given:
        return {"pip_cache_path": _pip_cache.wheel_path(given, filename, environment)}
    told = environment.get("sdists", {}).get(name)
    if told and parse(told["requirement"]) == (name, answer["version"]):
        if told["error"] is None:
            return {"pip_cache_path": os.path.join(told["folder"], filename), "sdist_url": told["url"]}
        error = told["error"]
    else:
        error = (
            f"Nobody has told where the sdist of {name} {answer['version']} is on the index of this node, from which the"
            " place in pip's cache follows. Ask the node's pip (option sdists of torch_info), or set"
            " torch_extension_sdist_url (option sdist_url)."
        )
    if sources.pip_cache:
        raise TorchExtensionError(error)
    return {}


def parse(term: str) -> tuple[str, str]:
    """Name and version of a requirement of a known package, pinned to one version.

    :raises TorchExtensionError: if it is anything else
    """
    try:
        requirement = Requirement(term)
    except InvalidRequirement as exc:
        raise TorchExtensionError(f"{term!r} is not a requirement such as 'flash-attn==2.8.3': {exc}") from exc
    name, package = _guess.find_package(requirement.name)
    for part, text in (("a URL", requirement.url), ("extras", requirement.extras), ("a marker", requirement.marker)):
        if text:
            raise TorchExtensionError(
                f"{term!r} has {part}, which a requirement of {name} cannot have here. Write '{name}==VERSION'."
            )
    pins = [item.version for item in requirement.specifier if item.operator == "==" and not item.version.endswith(".*")]
    if len(pins) != 1 or len(requirement.specifier) != 1:
        raise TorchExtensionError(
            f"{term!r} does not pin one version, which source=guess needs. Write for example"
            f" '{name}=={package.versions[-1]}', the newest that this collection knows."
        )
    return name, _guess.find_version(name, pins[0])


def _action(answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    if answer["url"] is None:
        return Action("refuse", "there is no wheel for this node")
    if answer["conflicts"]:
        return Action("refuse", "the wheel cannot serve this node")
    if answer["pip_cache_path"]:
        return Action("examine", "only the node knows what its pip's cache holds")
    return decide_action(answer, environment)


def _check_environment(environment: t.Any) -> None:
    if not isinstance(environment, t.Mapping):
        raise TorchExtensionError(
            f"environment is {type(environment).__name__}, wanted is the dictionary 'environment' that torch_info"
            " returns."
        )
    missing = [key for key in _ENVIRONMENT_KEYS if key not in environment]
    if missing:
        raise TorchExtensionError(
            f"environment lacks {', '.join(missing)}: wanted is the dictionary 'environment' that torch_info returns."
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("wanted is http:// or https:// and a host")
    except ValueError as exc:
        raise TorchExtensionError(f"github_url is no address of a server: {exc}.") from exc
    if parts.username is not None:
        raise TorchExtensionError(
            f"github_url holds credentials for {parts.hostname}, which would be shown in plans and reports. "
            "Put them into ~/.netrc of the control node and leave them out of the URL."
        )


def _sdist_url(name: str, given: str | t.Mapping[str, str] | None) -> str | None:
    if isinstance(given, t.Mapping):
        given = {_guess.find_package(key)[0]: url for key, url in given.items()}.get(name)
    if not given:
        return None
    if not isinstance(given, str):
        raise TorchExtensionError(f"sdist_url of {name} is {type(given).__name__}, wanted is a URL.")
    # Whatever else pip knows as a hash is left to it: an index may have any.
    for hash_name, digest in re.findall(r"[#&](\w+)=([^&]*)", "#" + given.partition("#")[2]):
        length = _DIGEST_LENGTHS.get(hash_name.lower())
        if length and not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digest):
            raise TorchExtensionError(
                f"{hash_name} in the sdist_url of {name} is {digest!r}, wanted are {length} hexadecimal digits, as the"
                " index page has them."
            )
    return given


def _sha256(filename: str, known: t.Mapping[str, str]) -> str | None:
    digest = known.get(filename)
    if digest is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(digest)):
        raise TorchExtensionError(f"sha256 of {filename} is given as {digest!r}, wanted are 64 hexadecimal digits.")
    return str(digest).lower() if digest else None

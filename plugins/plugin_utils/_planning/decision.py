# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which wheel a requirement means for an environment."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import check_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import cache
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import packages, setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    Action,
    decide_from_environment,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.labels import pip_filename
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import EXACT, PROVEN
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import check_url
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import Access
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.find import (
    NothingFitsError,
    Wanted,
    find,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    RELEASE,
    Source,
    parse_source,
)

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version
except ImportError as exc:
    PACKAGING_IMPORT_ERROR = exc
else:
    PACKAGING_IMPORT_ERROR = None

_DIGEST_LENGTHS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_NO_ANSWER = {
    "name": None,
    "requirement": None,
    "version": None,
    "filename": None,
    "url": None,
    "source": None,
    "release": None,
    "sha256": None,
    "size": None,
    "imports": [],
    "requirements": None,
    "sdist_url": None,
    "pip_cache_path": None,
    "conflicts": [],
    "ground": None,
    "refused": [],
    "newer": [],
    "provable": [],
    "warnings": [],
}


class Settings(t.NamedTuple):
    """Where wheels come from, and what the operator knows of them."""

    access: Access
    sources: t.Sequence[str] = (RELEASE,)
    lock: str | None = None  # path of a lock on the control node, which then is all that counts
    sdist_url: str | t.Mapping[str, str] | None = None
    sha256: t.Mapping[str, str] = {}
    require_sha256: bool = False
    match: str = EXACT  # whether wheels for another torch are told, that may serve nevertheless
    pip_cache: bool = False


def settings(option: t.Callable[[str], t.Any]) -> Settings:
    """Settings from the options that lookup ``wheel`` and module ``wheel_plan`` have in common.

    :param option: gives the value of an option
    """
    access = Access(
        cache=option("cache_dir") or default_cache(),
        github_url=option("github_url"),
        github_api_url=option("github_api_url"),
        github_token=option("github_token") or os.environ.get("GITHUB_TOKEN"),
        ca_path=option("ca_path") or None,
        max_age=option("max_age"),
    )
    return Settings(
        access,
        sources=option("source"),
        lock=option("lock"),
        sdist_url=option("sdist_url"),
        sha256=option("sha256"),
        require_sha256=option("require_sha256"),
        match=option("match"),
    )


def decide(term: str, environment: t.Any, settings: Settings, strict: bool = True) -> dict[str, t.Any]:
    """The wheel that a requirement means for an environment, as the lookup ``wheel`` returns it.

    :param term: a requirement (PEP 508) of a known package
    :param environment: what torch_info returned
    :param strict: whether to raise where there is no answer; if not, ``conflicts`` holds the message instead
    :raises TorchExtensionError: for bad input, and for no answer
    """
    if PACKAGING_IMPORT_ERROR:
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node lacks packaging ({PACKAGING_IMPORT_ERROR}). "
            "Install the collection's requirements.txt into it."
        )
    check_environment(environment)
    sources = [parse_source(source) for source in settings.sources]
    if not sources:
        raise TorchExtensionError("torch_extension_sources is empty. Name at least one source, such as release.")
    check_url(settings.access.github_url, "torch_extension_github_url")
    answer = dict(_NO_ANSWER, name=term, requirement=term)
    try:
        answer.update(_wheel(term, environment, sources, settings))
        answer.update(_place(answer, environment, settings))
    except TorchExtensionError as exc:
        if strict:
            raise
        answer["conflicts"] = [*answer["conflicts"], str(exc)]
        if isinstance(exc, NothingFitsError) and settings.match == PROVEN:
            for found in exc.provable:
                try:
                    answer["provable"] = [*answer["provable"], _for_another_torch(found, term, environment, settings)]
                except TorchExtensionError as reason:
                    answer["conflicts"] = [*answer["conflicts"], str(reason)]
    answer.update(_action(answer, environment)._asdict())
    return answer


def _for_another_torch(
    found: dict[str, t.Any], term: str, environment: t.Mapping[str, t.Any], settings: Settings
) -> dict[str, t.Any]:
    """The answer that a wheel is, once it is proven."""
    answer = {**_NO_ANSWER, "requirement": term, **_completed(found, parse_requirement(term), settings)}
    answer.update(_place(answer, environment, settings))
    answer.update(_action(answer, environment)._asdict())
    return answer


def _wheel(
    term: str, environment: t.Mapping[str, t.Any], sources: t.Sequence[Source], settings: Settings
) -> dict[str, t.Any]:
    wanted = parse_requirement(term)
    setup_py.check_torch(str(wanted), environment["torch"])
    if settings.lock:
        # with what reads locks comes YAML
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import read as read_lock

        found = read_lock(settings.lock).find(str(wanted), environment)
    else:
        found = find(wanted, environment, sources, settings.access)
    return _completed(found, wanted, settings)


def _completed(found: dict[str, t.Any], wanted: Wanted, settings: Settings) -> dict[str, t.Any]:
    """What a source has told, with what the operator and the table of packages know."""
    known = _sha256(found["filename"], settings.sha256)
    if known and found.get("sha256") not in (None, known):
        raise TorchExtensionError(
            f"{found['filename']} has sha256 {found['sha256']} by {found['source']}, and torch_extension_sha256 wants {known}."
            " Find out which of the two is right."
        )
    if settings.require_sha256 and not known and not found.get("sha256"):
        raise TorchExtensionError(
            f"{found['filename']} has no published hash where it comes from ({found['source']}), and"
            " torch_extension_require_sha256 wants one. Give it in torch_extension_sha256."
        )
    return {
        **found,
        "name": wanted.name,
        "filename": pip_filename(found["filename"]),
        "sha256": known or found.get("sha256"),
        "imports": list(packages.PACKAGES[wanted.name].imports),
        "sdist_url": _sdist_url(wanted.name, settings.sdist_url),
    }


def _place(answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], settings: Settings) -> dict[str, t.Any]:
    """Where the node's pip looks for the wheel: as the operator's URL has it, else as the node's pip itself said."""
    name, filename, given = answer["name"], answer["filename"], answer["sdist_url"]
    if settings.pip_cache:
        cache.check_cache_usable(name, environment)
    if given:
        return {"pip_cache_path": cache.wheel_path(given, filename, environment)}
    told = environment.get("sdists", {}).get(name)
    if told and _same(parse_requirement(told["requirement"]), answer):
        if told["error"] is None:
            return {"pip_cache_path": os.path.join(told["folder"], filename), "sdist_url": told["url"]}
        error = told["error"]
    else:
        error = (
            f"Nobody has told where the sdist of {name} {answer['version']} is on the index of this node, from which the"
            " place in pip's cache follows. Ask the node's pip (option sdists of torch_info; in the role, by pinning the"
            " version), or set torch_extension_sdist_url (option sdist_url)."
        )
    if settings.pip_cache:
        raise TorchExtensionError(error)
    return {}


def _same(asked: Wanted, answer: t.Mapping[str, t.Any]) -> bool:
    return (asked.name, asked.version) == (answer["name"], answer["version"])


def parse_requirement(term: str) -> Wanted:
    """Read a requirement of a known package.

    :raises TorchExtensionError: if it is anything else
    """
    try:
        requirement = Requirement(term)
    except InvalidRequirement as exc:
        raise TorchExtensionError(f"{term!r} is not a requirement such as 'flash-attn==2.8.3': {exc}") from exc
    name, package = setup_py.find_package(requirement.name)
    for part, text in (("a URL", requirement.url), ("extras", requirement.extras), ("a marker", requirement.marker)):
        if text:
            raise TorchExtensionError(
                f"{term!r} has {part}, which a requirement of {name} cannot have here. Write '{name}==VERSION'."
            )
    pins = [item.version for item in requirement.specifier if item.operator == "==" and not item.version.endswith(".*")]
    pin = pins[0] if len(pins) == 1 and len(requirement.specifier) == 1 else None
    return Wanted(name, requirement, _spelled(pin, package.versions) if pin else None)


def _spelled(pin: str, known: t.Iterable[str]) -> str:
    """A version as upstream writes it, which names its releases so; one that the table does not know as it is given."""
    return next((version for version in known if Version(version) == Version(pin)), pin)


def _action(answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    if answer["url"] is None:
        return Action("refuse", "there is no wheel for this node")
    if answer["conflicts"]:
        return Action("refuse", "the wheel cannot serve this node")
    if answer["pip_cache_path"]:
        return Action("examine", "only the node knows what its pip's cache holds")
    return decide_from_environment(answer, environment)


def _sdist_url(name: str, given: str | t.Mapping[str, str] | None) -> str | None:
    if isinstance(given, t.Mapping):
        given = {setup_py.find_package(key)[0]: url for key, url in given.items()}.get(name)
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

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
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import cache
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import packages, setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    BUILD,
    EXAMINE,
    INSTALL,
    KEEP,
    Action,
    decide_from_environment,
    explain_damage,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import EXACT, PROVEN
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import public_version
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import check_url
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import check_architectures
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.find import Offer, WheelSearch
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.own_packages import is_in_folder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import (
    WheelRequirement,
    normalise_label,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    RELEASE,
    check_place_urls,
    parse_source,
)

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version
except ImportError as exc:
    PACKAGING_IMPORT_ERROR: ImportError | None = exc
else:
    PACKAGING_IMPORT_ERROR = None

_DIGEST_LENGTHS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
#: the source of what is installed already
INSTALLED = "installed"

_REFUSED = {"action": "refuse", "reason": "there is no wheel for this node"}
_EMPTY_ANSWER: dict[str, t.Any] = {
    "name": None,
    "requirement": None,
    "version": None,
    "filename": None,
    "url": None,
    "other_urls": [],
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
    "build": None,
    "built": None,
    "provable": [],
    "warnings": [],
}


class Settings(t.NamedTuple):
    """Where wheels come from, and what the operator knows of them."""

    access: SourceAccess
    sources: t.Sequence[str] = (RELEASE,)
    lock: str | None = None  # path of a lock on the control node, which is then asked instead of the sources
    sdist_url: str | t.Mapping[str, str] | None = None
    sha256: t.Mapping[str, str] = {}  # by file name, or by URL
    require_sha256: bool = False
    match: str = PROVEN  # or EXACT: only wheels that are told to be for the node's torch
    upgrade: bool = False  # whether what is installed is asked for anew, though it meets an open requirement
    reinstall: bool = False  # whether what is there is replaced all the same
    pip_cache: bool = False
    keeps_installed: bool = True  # whether what is installed is all that is wanted (and not a file somewhere)


def read_settings(option: t.Callable[[str], t.Any]) -> Settings:
    """Settings from the options that lookup ``wheel`` and module ``wheel_plan`` have in common.

    :param option: gives the value of an option
    """
    access = SourceAccess(
        cache=locate_cache(option("cache_dir")),
        github_url=option("github_url"),
        github_api_url=option("github_api_url"),
        github_token=option("github_token") or os.environ.get("GITHUB_TOKEN"),
        ca_path=option("ca_path") or None,
        max_age=option("max_age"),
        place_urls=option("place_urls"),
        suggest=option("suggest"),
        build_architectures=check_architectures(option("build_archs")),
    )
    return Settings(
        access,
        sources=option("source"),
        lock=option("lock"),
        sdist_url=option("sdist_url"),
        sha256=option("sha256"),
        require_sha256=option("require_sha256"),
        match=option("match"),
        upgrade=option("upgrade"),
    )


class NoHashError(TorchExtensionError):
    """Nobody tells the hash of a wheel, and one is required."""


class Answer(t.NamedTuple):
    """An answer to a requirement."""

    wheel: dict[str, t.Any]  # as the lookup ``wheel`` returns it
    needs_proof: bool = False  # nothing but the node can tell whether it serves
    error: str | None = None  # why it cannot be used on this node as it was asked for


class Decision:
    """What a requirement means for an environment: the answers, the best one first, each found only when it is asked for."""

    def __init__(self, term: str, environment: t.Any, settings: Settings) -> None:
        """
        :param term: a requirement (PEP 508) of a known package
        :param environment: what torch_info returned
        :raises TorchExtensionError: for settings that cannot be used
        """
        require_library("packaging", PACKAGING_IMPORT_ERROR)
        check_environment(environment)
        self._sources = [parse_source(source) for source in settings.sources]
        if not self._sources:
            raise TorchExtensionError("torch_extension_sources is empty. Name at least one source, such as release.")
        check_url(settings.access.github_url, "torch_extension_github_url")
        check_place_urls(settings.access.place_urls)
        self._term, self._environment, self._settings = term, environment, settings
        self._search: WheelSearch | None = None
        self._left_out: dict[str, bool] = {}  # why a wheel cannot be used, and whether it is one that fits
        self._damage: str | None = None  # why what is installed has to be replaced
        self.reinstall = settings.reinstall

    def answers(self) -> t.Iterator[Answer]:
        """The wheels to try, one after the other; what is installed first, where that may stay, else others of its version.

        :raises TorchExtensionError: for bad input
        """
        wanted = _check_suitable(self._term, self._environment, self._is_own)
        if not self._settings.lock:
            judging.parse_torch_version(self._environment["torch"]["version"])
        self._damage = explain_damage(wanted.name, self._environment)
        installed = None if self._settings.lock else self._find_installed(wanted)
        is_replaced = bool(self._damage) or self._settings.reinstall
        if installed and not is_replaced:
            yield installed
        if self._settings.lock:
            # with what reads locks comes YAML
            from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import read_lock

            yield self._complete(read_lock(self._settings.lock).find(str(wanted), self._environment), wanted)
            return
        offered = set()
        if installed and is_replaced:  # a repair is no upgrade
            pinned = f"{wanted.name}=={public_version(installed.wheel['version'])}"
            same_version = parse_requirement(pinned, lambda own: own == wanted.name)
            for answer in self._find_offered(same_version):
                offered.add(answer.wheel["url"])
                yield answer
        yield from (answer for answer in self._find_offered(wanted) if answer.wheel["url"] not in offered)

    def _is_own(self, name: str) -> bool:
        """Whether a package that the table lacks is the site's own: in a folder of wheels or sdists, or in the lock."""
        if self._settings.lock:
            return True  # which says for itself what it lacks
        return is_in_folder(name, self._sources)

    def _find_offered(self, wanted: WheelRequirement) -> t.Iterator[Answer]:
        """The wheels that sources have."""
        self._search = WheelSearch(wanted, self._environment, self._sources, self._settings.access)
        yield from self._usable(self._search.offers(), wanted)
        if self._settings.match == PROVEN:
            # what is installed first, so that it stays as long as it works
            for_another_torch = self._usable(self._search.offers_for_another_torch(), wanted)
            yield from sorted(for_another_torch, key=lambda answer: answer.wheel["action"] != KEEP)
        built = self._usable(self._search.offers_to_build(), wanted)
        if self._settings.upgrade:
            yield from built
        else:  # what is installed first: one for more architectures is no better there
            yield from sorted(built, key=lambda answer: answer.wheel["action"] != KEEP)

    def _usable(self, offers: t.Iterable[Offer], wanted: WheelRequirement) -> t.Iterator[Answer]:
        """The answers from offers that the settings admit; why the others are not is kept for a refusal."""
        for offer in offers:
            if offer.needs_proof and self._settings.match != PROVEN:
                self._left_out[
                    f"{offer.wheel['filename']} was left out, for {offer.wheel['ground']}: torch_extension_match is"
                    f" {self._settings.match}, and {PROVEN} would have the node find out."
                ] = False
                continue
            try:
                answer = self._complete(offer.wheel, wanted)._replace(needs_proof=offer.needs_proof)
            except NoHashError as exc:
                self._left_out[str(exc)] = not offer.needs_proof
                continue
            if answer.error and offer.needs_proof:
                self._left_out[answer.error] = False
            else:
                yield answer

    def refusal(self, message: str) -> dict[str, t.Any]:
        """The answer where no wheel will do.

        :param message: why
        """
        if self._damage:
            message = f"{message} It has to be replaced, for {self._damage}."
        return {**_EMPTY_ANSWER, "name": self._term, "requirement": self._term, "conflicts": [message], **_REFUSED}

    def explain_nothing_fits(self) -> str:
        """Why there is no wheel, and what comes nearest."""
        if self._search is None:
            return f"No wheel of {self._term} fits this node."
        if any(self._left_out.values()):
            return " ".join(self._left_out)
        return " ".join([self._search.explain_nothing_fits(), *self._left_out])

    def _complete(self, wheel: dict[str, t.Any], wanted: WheelRequirement) -> Answer:
        settings, environment = self._settings, self._environment
        answer = {**_EMPTY_ANSWER, "requirement": self._term, **_complete_answer(wheel, wanted, settings)}
        error = _explain_other_label(wheel, wanted)
        if error:
            answer["conflicts"] = [*answer["conflicts"], error]
        try:
            answer.update(_locate_in_pip_cache(answer, environment, settings))
        except TorchExtensionError as exc:
            error = error or str(exc)
            answer["conflicts"] = [*answer["conflicts"], str(exc)]
        answer.update(_choose_action(answer, environment, settings)._asdict())
        return Answer(answer, error=error)

    def _find_installed(self, wanted: WheelRequirement) -> Answer | None:
        """What is installed, if it meets an open requirement, as pip has it; whether it fits this torch may have to be proven."""
        settings = self._settings
        if wanted.version or settings.upgrade or not settings.keeps_installed:
            return None
        version = self._environment["distributions"].get(wanted.name)
        if version is None or not wanted.is_met_by(version):
            return None
        origin = self._environment["origins"].get(wanted.name) or {}
        built_for = installed_mismatches(wanted.name, version, origin.get("filename"), self._environment)
        if built_for is None or not (built_for or origin):  # what was not recorded may be there in part only
            unknown = "for which torch it is" if origin else "from which wheel"
            needs_proof, reason = True, f"{wanted.name} {version} is installed, and nothing tells {unknown}"
        elif built_for:
            if settings.match == EXACT or [each.part for each in built_for] != ["torch"]:
                return None
            needs_proof, reason = True, f"{wanted.name} {version} is installed, and {built_for[0]}"
        else:
            needs_proof, reason = False, f"{wanted.name} {version} is installed, and is for this torch"
        wheel = {
            **_EMPTY_ANSWER,
            "name": wanted.name,
            "requirement": self._term,
            "version": version,
            "filename": origin.get("filename"),
            "sha256": origin.get("sha256"),
            "source": INSTALLED,
            "imports": list(packages.package_facts(wanted.name).imports),
            "ground": f"it is installed, and meets {wanted}",
            "action": KEEP,
            "reason": reason,
        }
        return Answer(wheel, needs_proof)


def choose_wheel(term: str, environment: t.Any, settings: Settings, strict: bool = True) -> dict[str, t.Any]:
    """The wheel that a requirement means for an environment, as the lookup ``wheel`` returns it.

    :param strict: whether to raise where there is no answer; if not, ``conflicts`` holds the message instead
    :raises TorchExtensionError: for bad input, and for no answer
    """
    decision = Decision(term, environment, settings)
    provable: list[dict[str, t.Any]] = []
    try:
        for answer in decision.answers():
            if answer.needs_proof:
                provable.append(answer.wheel)
                continue
            if strict and answer.error:
                raise TorchExtensionError(answer.error)
            return {**answer.wheel, "provable": provable}
        raise TorchExtensionError(decision.explain_nothing_fits())
    except TorchExtensionError as exc:
        if strict:
            raise
        return {**decision.refusal(str(exc)), "provable": provable}


def judge_environment(term: str, environment: t.Any, pip_cache: bool = False) -> dict[str, t.Any]:
    """What an environment tells of a requirement before any source is asked; ``conflicts``, if no wheel can serve it.

    :param pip_cache: whether the wheel is for pip's cache
    :returns: as the lookup ``wheel`` returns it
    :raises TorchExtensionError: if this is no environment
    """
    require_library("packaging", PACKAGING_IMPORT_ERROR)
    check_environment(environment)
    answer = {**_EMPTY_ANSWER, "name": term, "requirement": term}
    try:
        wanted = _check_suitable(term, environment)
        judging.parse_torch_version(environment["torch"]["version"])
        if pip_cache:
            cache.check_cache_usable(wanted.name, environment)
    except TorchExtensionError as exc:
        return {**answer, "conflicts": [str(exc)], **_REFUSED}
    is_installed = environment["distributions"].get(wanted.name) is not None
    action = Action(EXAMINE, "it is installed") if is_installed else Action(INSTALL, "it is not installed")
    return {**answer, "name": wanted.name, **action._asdict()}


def installed_mismatches(
    name: str, version: str, filename: str | None, environment: t.Mapping[str, t.Any]
) -> list[judging.Mismatch] | None:
    """What keeps an installed package from fitting its environment, by the name of its wheel, or by its version's label.

    :returns: None if nothing tells for which torch it was built
    """
    parsed = filename or f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    (candidate,) = judging.judge_wheels(name, [judging.Asset(parsed, "")], environment).candidates or (None,)
    if candidate is None or not (candidate.tells_torch or candidate.mismatches):
        return None
    return list(candidate.mismatches)


def _check_suitable(
    term: str, environment: t.Mapping[str, t.Any], is_own: t.Callable[[str], bool] = lambda name: False
) -> WheelRequirement:
    """Read a requirement, and refuse an environment for which there can be no wheel.

    :param is_own: as for :func:`parse_requirement`
    :raises TorchExtensionError: if it is no requirement of a known package, or the environment has no torch for CUDA or ROCm
    """
    wanted = parse_requirement(term, is_own)
    setup_py.check_torch(str(wanted), environment["torch"])
    _check_no_fork(environment["torch"])
    return wanted


def _check_no_fork(torch: t.Mapping[str, t.Any]) -> None:
    local = torch["version"].partition("+")[2]
    vendor = labels.fork_vendor(local) if local else None
    if vendor:
        raise TorchExtensionError(
            f"torch {torch['version']} is the fork of torch by {vendor}. It is no torch for CUDA, whatever it reports as its"
            " version of CUDA, and no wheel that this collection finds has code for its processors. Take the vendor's wheels, or"
            " name another environment in torch_extension_python."
        )


def _explain_other_label(wheel: t.Mapping[str, t.Any], wanted: WheelRequirement) -> str | None:
    """Why a wheel that nobody has listed (of a lock, a bundle or a guess) is not the one of the label that is asked for."""
    mismatch = wanted.label_mismatch(wheel["filename"])
    if mismatch is None:
        return None
    return (
        f"The wheel for this node (source: {wheel['source']}) is {wheel['filename']}, which {mismatch}. '{wanted}' in"
        " torch_extension_packages, without the label, takes it."
    )


def _complete_answer(wheel: dict[str, t.Any], wanted: WheelRequirement, settings: Settings) -> dict[str, t.Any]:
    """Add to a source's wheel what the operator and the table of packages know of it."""
    sha256 = _operator_sha256(wheel, settings.sha256)
    if sha256 and wheel.get("sha256") not in (None, sha256):
        raise TorchExtensionError(
            f"{wheel['filename']} has sha256 {wheel['sha256']} by {wheel['source']}, and torch_extension_sha256 wants {sha256}."
            " Find out which of the two is right."
        )
    if settings.require_sha256 and wheel["url"] and not sha256 and not wheel.get("sha256"):
        raise NoHashError(
            f"{wheel['filename']} has no published hash where it comes from ({wheel['source']}), and"
            " torch_extension_require_sha256 wants one. Give it in torch_extension_sha256."
        )
    others = [url for url in wheel.get("other_urls") or [] if not _is_another_file(url, sha256, settings.sha256)]
    return {
        **wheel,
        "name": wanted.name,
        "other_urls": others,
        "filename": labels.pip_filename(wheel["filename"]),
        "sha256": sha256 or wheel.get("sha256"),
        "imports": list(packages.package_facts(wanted.name).imports),
        "sdist_url": _operator_sdist_url(wanted.name, settings.sdist_url),
    }


def _locate_in_pip_cache(
    answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], settings: Settings
) -> dict[str, t.Any]:
    """Where the node's pip looks for the wheel: by the operator's sdist_url, else by what the node's pip itself reported.

    :returns: what to change in the answer
    :raises TorchExtensionError: if pip's cache is to be used, and cannot be, or nothing tells the path
    """
    name, filename, sdist_url = answer["name"], answer["filename"], answer["sdist_url"]
    if settings.pip_cache:
        cache.check_cache_usable(name, environment)
    if sdist_url:
        return {"pip_cache_path": cache.wheel_path(sdist_url, filename, environment)}
    sdist = environment.get("sdists", {}).get(name)
    if sdist and _is_same_version(parse_requirement(sdist["requirement"], lambda own: own == name), answer):
        if sdist["error"] is None:
            return {"pip_cache_path": os.path.join(sdist["folder"], filename), "sdist_url": sdist["url"]}
        error = sdist["error"]
    else:
        error = (
            f"Nobody has told where the sdist of {name} {answer['version']} is on the index of this node, from which the"
            " place in pip's cache follows. Ask the node's pip (option sdists of torch_info; in the role, by pinning the"
            " version), or set torch_extension_sdist_url (option sdist_url)."
        )
    if settings.pip_cache:
        raise TorchExtensionError(error)
    return {}


def _is_same_version(wanted: WheelRequirement, answer: t.Mapping[str, t.Any]) -> bool:
    return (wanted.name, wanted.version) == (answer["name"], answer["version"])


def _is_another_file(url: str, sha256: str | None, by_key: t.Mapping[str, str]) -> bool:
    """Whether the operator gives another hash for a further link to a wheel."""
    return url in by_key and str(by_key[url]).lower() != sha256


def parse_requirement(term: str, is_own: t.Callable[[str], bool] = lambda name: False) -> WheelRequirement:
    """Read a requirement of a known package, or of one of the site's own.

    A local label (``==2.6.3+cu123torch2.4cxx11abifalse``) does not belong to the version by which wheels are listed: the projects
    rename their wheels, and METADATA has none. So it is taken for what the wheel is to be called.

    :param is_own: tells of a name that the table lacks, normalised, whether it is one of the site's own
    :raises TorchExtensionError: if it is anything else
    """
    try:
        requirement = Requirement(term)
    except InvalidRequirement as exc:
        raise TorchExtensionError(
            f"{term!r} is not a requirement such as 'flash-attn==2.8.3': {str(exc).splitlines()[0]}."
        ) from exc
    name = canonical(requirement.name)
    if name in packages.PACKAGES or name in packages.OTHER_PACKAGES or not is_own(name):
        name = setup_py.find_package(requirement.name)[0]
    if requirement.extras:
        raise TorchExtensionError(_explain_extras(term, name, requirement))
    for part, text in (("a URL", requirement.url), ("a marker", requirement.marker)):
        if text:
            raise TorchExtensionError(
                f"{term!r} has {part}, which a requirement of {name} cannot have here. Write '{name}==VERSION'."
            )
    specifier, label = _split_label(requirement.specifier)
    pins = [item.version for item in specifier if item.operator == "==" and not item.version.endswith(".*")]
    pin = pins[0] if len(pins) == 1 and len(specifier) == 1 else None
    return WheelRequirement(
        name, specifier, _upstream_spelling(pin, packages.package_facts(name).versions) if pin else None, label
    )


def _explain_extras(term: str, name: str, requirement: Requirement) -> str:
    wanted = f"{name}{requirement.specifier}"
    known = [canonical(extra) for extra in sorted(requirement.extras) if canonical(extra) in packages.PACKAGES]
    others = sorted(extra for extra in requirement.extras if canonical(extra) not in packages.PACKAGES)
    also = f"; what {' and '.join(others)} would add has to be there before" if others else ""
    return (
        f"{term!r} asks for the extras {', '.join(sorted(requirement.extras))}, and no package is looked up by an extra here. Name"
        f" what you want itself: torch_extension_packages: [{', '.join([repr(wanted), *known])}]{also}."
    )


def _split_label(specifier: SpecifierSet) -> tuple[SpecifierSet, str | None]:
    """The versions that are allowed, without a local label; and the label, normalised."""
    clauses, labels_asked = [], []
    for item in specifier:
        public, _plus, label = item.version.partition("+")
        asks = label and item.operator in ("==", "===")
        clauses.append(f"{item.operator}{public if asks else item.version}")
        labels_asked += [normalise_label(label)] if asks else []
    return SpecifierSet(",".join(clauses)), labels_asked[0] if labels_asked else None


def _upstream_spelling(pin: str, known_versions: t.Iterable[str]) -> str:
    """A version as upstream writes it in the names of its releases; one that the table does not know in its usual spelling."""
    return next((version for version in known_versions if Version(version) == Version(pin)), str(Version(pin)))


def _choose_action(answer: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], settings: Settings) -> Action:
    if answer["conflicts"]:
        return Action("refuse", "the wheel cannot serve this node")
    is_to_be_built = answer["url"] is None
    if answer["pip_cache_path"] and not is_to_be_built:
        return Action("examine", "only the node knows what its pip's cache holds")
    decided = decide_from_environment(answer, environment, settings.reinstall)
    if is_to_be_built and not (settings.keeps_installed and decided.action == KEEP):
        return Action(BUILD, decided.reason)
    return decided


def _operator_sdist_url(name: str, sdist_url: str | t.Mapping[str, str] | None) -> str | None:
    if isinstance(sdist_url, t.Mapping):
        sdist_url = {setup_py.find_package(key)[0]: url for key, url in sdist_url.items()}.get(name)
    if not sdist_url:
        return None
    if not isinstance(sdist_url, str):
        raise TorchExtensionError(f"sdist_url of {name} is {type(sdist_url).__name__}, wanted is a URL.")
    # Whatever else pip knows as a hash is left to it: an index may have any.
    for hash_name, digest in re.findall(r"[#&](\w+)=([^&]*)", "#" + sdist_url.partition("#")[2]):
        length = _DIGEST_LENGTHS.get(hash_name.lower())
        if length and not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digest):
            raise TorchExtensionError(
                f"{hash_name} in the sdist_url of {name} is {digest!r}, wanted are {length} hexadecimal digits, as the"
                " index page has them."
            )
    return sdist_url


def _operator_sha256(wheel: t.Mapping[str, t.Any], sha256: t.Mapping[str, str]) -> str | None:
    """The hash that the operator gives for a wheel: by its URL, since two places may have files of one name, or by its name."""
    key = next((key for key in (wheel["url"], wheel["filename"]) if key in sha256), None)
    digest = None if key is None else sha256[key]
    if digest is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(digest)):
        raise TorchExtensionError(f"sha256 of {key} is given as {digest!r}, wanted are 64 hexadecimal digits.")
    return str(digest).lower() if digest else None

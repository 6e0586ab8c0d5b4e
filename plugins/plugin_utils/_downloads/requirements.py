# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find what wheels require: in the cache, in a lock, or on the index of the control node's pip."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    compatibility_tags,
    metadata,
    wheel_file,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.recorded import RecordedFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import pip_index
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.pip_index import Unobtainable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import describe
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_validation import (
    REQUIREMENT_FIELDS,
    check_file_entry,
)

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import parse_wheel_filename
    from packaging.version import Version
except ImportError:
    pass  # decision.py says so, before anything comes here

# The wheel was chosen for the torch that is there.
_NEVER_FETCHED = ("torch",)
_LOCKED_FIELDS = {key: field for key, field in REQUIREMENT_FIELDS.items() if key != "required_by"}

Fetch = t.Callable[[str, str, str, int], t.Any]


class Declaring(t.NamedTuple):
    """A wheel and what it declares to require."""

    filename: str
    requires: tuple[str, ...]  # Requires-Dist of its METADATA

    @classmethod
    def read(cls, path: str) -> Declaring:
        """That of a wheel on the control node."""
        return cls(os.path.basename(path), wheel_file.read_metadata(path).requires)


class Required(t.NamedTuple):
    """The wheel of a requirement."""

    name: str
    filename: str
    path: str | None  # on the control node; None if it would have to be downloaded
    sha256: str | None  # None if only the download tells
    size: int | None  # bytes; None likewise
    requires: tuple[str, ...]  # Requires-Dist of its METADATA
    required_by: tuple[str, ...] = ()  # names of the distributions that declare it

    @property
    def version(self) -> str:
        return str(parse_wheel_filename(self.filename)[1])


class RequirementFinder:
    """Finds what wheels require, in the cache or on an index; downloads each file once."""

    def __init__(self, folder: str, fetch: Fetch | None = None, predict: bool = False) -> None:
        """
        :param folder: of the control node's cache
        :param fetch: downloads a URL into that folder, as ``Downloader.get`` does, for locked requirements that have one
        :param predict: whether what is not in that folder is only looked up
        """
        self._folder = folder
        self._fetch = fetch
        self._predict = predict
        self._required: dict[tuple[str, str], Required] = {}
        self._unobtainable: dict[tuple[str, str], Unobtainable] = {}
        #: paths of the files that were downloaded from an index
        self.downloaded: list[str] = []
        #: what would be downloaded, where it is only looked up
        self.foreseen: list[Required] = []

    def find_missing(
        self,
        wheels: t.Iterable[Declaring],
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None = None,
    ) -> list[Required]:
        """The wheels of all that wheels require, directly or not, and that the node lacks: an installed one of any version serves.

        :param environment: of the node, with all its distributions
        :param locked: the only files that may be taken, if there is a lock
        :raises TorchExtensionError: if one of them cannot be had
        """
        installed = {name for name, version in environment["distributions"].items() if version is not None}
        chosen: dict[str, Required] = {}

        def find(requirement: Requirement, required_by_file: str) -> Required | None:
            name = canonical(requirement.name)
            if name not in installed and name not in chosen:
                chosen[name] = self._find(requirement, environment, locked, required_by_file)
            return chosen.get(name)

        return _walk(wheels, environment, find)

    def find_all(
        self,
        wheels: t.Iterable[Declaring],
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None = None,
    ) -> tuple[list[Required], list[Unobtainable]]:
        """The wheels of all that wheels require, directly or not, whatever the node has; and what cannot be had.

        Each requirement has a wheel that meets it, so that there may be several of one name: any of the wheels can be installed
        without the others.

        :param environment: of a node, whose Python and platform count
        :param locked: as for :meth:`find_missing`
        """
        unobtainable: dict[str, Unobtainable] = {}

        def find(requirement: Requirement, required_by_file: str) -> Required | None:
            try:
                return self._find(requirement, environment, locked, required_by_file)
            except Unobtainable as exc:
                unobtainable.setdefault(exc.name, exc)
                return None

        return _walk(wheels, environment, find), [unobtainable[name] for name in sorted(unobtainable)]

    def find_closure(
        self,
        requires: t.Sequence[str],
        environment: t.Mapping[str, t.Any],
        required_by_file: str,
        without: t.Collection[str] = _NEVER_FETCHED,
    ) -> list[Required]:
        """The wheels of requirements, and of all that these require, one of each name, whatever the node has; downloaded.

        :param requires: PEP 508
        :param environment: of the node, whose Python and platform count
        :param required_by_file: the name of the file that declares them, for messages
        :param without: normalised names that are left out
        :raises TorchExtensionError: if one of them cannot be read or had
        """
        markers = metadata.marker_environment(environment)
        merged: dict[str, Requirement] = {}  # all that is asked for by one name
        chosen: dict[str, Required] = {}
        level = {(Declaring(required_by_file, tuple(requires)), frozenset[str]())}
        seen = set(level)
        while level:
            asked: dict[str, str] = {}  # by name, with who asks
            # all of a level before any of it is chosen: a pin may stand beside what takes any version
            for wheel, extras in sorted(level, key=lambda step: step[0].filename):
                for requirement in _declared_requirements(wheel, markers, extras):
                    name = canonical(requirement.name)
                    if name not in without:
                        merged[name] = merge_requirements(merged.get(name), requirement)
                        asked[name] = wheel.filename
            unmet = [
                name
                for name in asked
                if name not in chosen or not merged[name].specifier.contains(chosen[name].version, prereleases=True)
            ]
            self._download_together([merged[name] for name in unmet], environment)
            for name in unmet:
                chosen[name] = self._find(merged[name], environment, None, asked[name])
            level = {
                (Declaring(chosen[name].filename, chosen[name].requires), frozenset(merged[name].extras))
                for name in asked
            } - seen
            seen |= level
        return sorted(chosen.values(), key=lambda item: item.name)

    def forget_found(self) -> None:
        """Find all anew: what was downloaded since may meet a requirement for which something older was found."""
        self._required.clear()

    def get_locked(self, item: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Required:
        """The very file that a lock names: from the cache, from its URL, or from the index of the control node's pip.

        :param item: ``name``, ``version``, ``filename``, ``size``, ``sha256`` and, from a bundle, ``url``
        :param environment: of a node, whose Python and platform count
        :raises TorchExtensionError: if it cannot be had
        """
        # its name and version go into a file of pip's, and its file name becomes a path
        check_file_entry(
            {key: item[key] for key in _LOCKED_FIELDS if key in item}, _LOCKED_FIELDS, "The plan", "a requirement"
        )
        name, filename, digest = item["name"], item["filename"], item["sha256"]
        path = os.path.join(self._folder, filename)
        if not os.path.isfile(path) or sha256_of(path) != digest:
            if self._predict:
                return self._foresee(Required(name, filename, None, digest, item["size"], ()))
            if item.get("url") and self._fetch:
                path = self._fetch(item["url"], filename, digest, item["size"]).path
            else:
                pip_index.download_locked(item, environment, self._folder)
                self.downloaded.append(path)
        return _required(name, path, digest)

    def _find(
        self,
        requirement: Requirement,
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None,
        required_by_file: str,
    ) -> Required:
        if locked is not None:
            found = self.get_locked(_find_in_lock(locked, requirement, required_by_file), environment)
            return found if found.path else found._replace(requires=_requires_by_lock(found.name, locked))
        return self._find_or_download(requirement, environment, required_by_file)

    def _find_or_download(
        self, requirement: Requirement, environment: t.Mapping[str, t.Any], required_by_file: str
    ) -> Required:
        key = (str(requirement), _node_kind(environment))
        if key in self._unobtainable:
            raise self._unobtainable[key]
        if key not in self._required:
            cached = _newest_cached(self._folder, requirement, environment)
            try:
                self._required[key] = (
                    _required(canonical(requirement.name), *cached)
                    if cached
                    else self._obtain(requirement, environment, required_by_file)
                )
            except Unobtainable as exc:
                self._unobtainable[key] = exc
                raise
        return self._required[key]

    def _download_together(self, requirements: t.Sequence[Requirement], environment: t.Mapping[str, t.Any]) -> None:
        """Download what the cache has not in one go. What cannot be had is found, and explained, one by one afterwards."""
        kind = _node_kind(environment)
        missing = {
            canonical(requirement.name): requirement
            for requirement in requirements
            if (str(requirement), kind) not in {**self._required, **self._unobtainable}
            and not _newest_cached(self._folder, requirement, environment)
        }
        if len(missing) < 2:
            return
        paths = pip_index.download_all(list(missing.values()), environment, self._folder) or []
        self.downloaded += paths
        found = [_required(wheel_file.parse_name(os.path.basename(path)).name, path) for path in paths]
        self._required.update({(str(missing[item.name]), kind): item for item in found if item.name in missing})

    def _obtain(self, requirement: Requirement, environment: t.Mapping[str, t.Any], required_by_file: str) -> Required:
        """From the index, what is not in the cache."""
        name = canonical(requirement.name)
        if self._predict:
            listed = pip_index.look_up(requirement, environment, required_by_file)
            return self._foresee(Required(name, listed.filename, None, listed.sha256, listed.size, listed.requires))
        path = pip_index.download(requirement, environment, self._folder, required_by_file)
        self.downloaded.append(path)
        return _required(name, path)

    def _foresee(self, required: Required) -> Required:
        if required not in self.foreseen:
            self.foreseen.append(required)
        return required


def _required(name: str, path: str, sha256: str | None = None) -> Required:
    declaring = Declaring.read(path)
    return Required(
        name, declaring.filename, path, sha256 or sha256_of(path), os.path.getsize(path), declaring.requires
    )


def _walk(
    wheels: t.Iterable[Declaring],
    environment: t.Mapping[str, t.Any],
    find: t.Callable[[Requirement, str], Required | None],
) -> list[Required]:
    """Go through all that wheels require, directly or not, but for torch and the wheels themselves.

    :param find: gives the wheel of a requirement, which is gone through as well; None to leave the requirement out
    """
    markers = metadata.marker_environment(environment)
    queue: list[tuple[Declaring, frozenset[str]]] = [(wheel, frozenset()) for wheel in wheels]
    skipped = {*_NEVER_FETCHED, *(wheel_file.parse_name(wheel.filename).name for wheel, _extras in queue)}
    found: dict[str, Required] = {}
    required_by: dict[str, set[str]] = {}
    seen = set(queue)
    while queue:
        wheel, extras = queue.pop()
        for requirement in _declared_requirements(wheel, markers, extras):
            if canonical(requirement.name) in skipped:
                continue
            item = find(requirement, wheel.filename)
            if item is None:
                continue
            found[item.filename] = item
            required_by.setdefault(item.filename, set()).add(wheel_file.parse_name(wheel.filename).name)
            step = (Declaring(item.filename, item.requires), frozenset(requirement.extras))
            if step not in seen:
                seen.add(step)
                queue.append(step)
    order = sorted(found.values(), key=lambda item: (item.name, item.filename))
    return [item._replace(required_by=tuple(sorted(required_by[item.filename]))) for item in order]


def merge_requirements(first: Requirement | None, second: Requirement) -> Requirement:
    """A requirement of a name that asks for all that two of them ask for, markers apart."""
    merged = Requirement(canonical(second.name))
    for each in (first, second):
        if each is not None:
            merged.specifier &= each.specifier
            merged.extras |= each.extras
    return merged


def _declared_requirements(wheel: Declaring, markers: dict[str, str], extras: t.Collection[str]) -> list[Requirement]:
    requirements = []
    for text in wheel.requires:
        settings = [{**markers, "extra": extra} for extra in extras or ("",)]
        try:
            requirement = metadata.read_requirement(text)
            applies = any(metadata.applies(requirement, setting) for setting in settings)
        except ValueError as exc:
            raise TorchExtensionError(
                f"{wheel.filename} declares a requirement that cannot be read: {describe(text)} ({' '.join(str(exc).split())[:200]})."
            ) from exc
        if applies:
            requirements.append(requirement)
    return requirements


def _node_kind(environment: t.Mapping[str, t.Any]) -> str:
    """All of a node that the choice of a file depends on, as a key."""
    platform, libc = environment["platform"], environment["platform"]["libc"] or {}
    return "-".join([environment["python"]["abi"], platform["machine"], f"{libc.get('name')}{libc.get('version')}"])


def _newest_cached(folder: str, requirement: Requirement, environment: t.Mapping[str, t.Any]) -> tuple[str, str] | None:
    """The newest file of earlier runs that meets a requirement and fits a node, and its SHA-256.

    One that is not what came counts as none: the next download takes its place.
    """
    candidates = []
    supported = compatibility_tags.supported_tags(environment)
    for filename in os.listdir(folder) if os.path.isdir(folder) else []:
        if not filename.endswith(".whl"):
            continue
        try:
            name, version, _build, tags = parse_wheel_filename(filename)
        except ValueError:  # somebody else's file
            continue
        if name != canonical(requirement.name) or not requirement.specifier.contains(version):
            continue
        if not tags.isdisjoint(supported):
            candidates.append((version, os.path.join(folder, filename)))
    for _version, path in sorted(candidates, reverse=True):
        digest = RecordedFile(path).measure()
        if digest and _supports_python(path, environment["python"]["version"]):
            return path, digest
    return None


def _supports_python(wheel: str, python: str) -> bool:
    try:
        return SpecifierSet(wheel_file.read_metadata(wheel).requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip has it


def _find_in_lock(
    locked: t.Collection[t.Mapping[str, t.Any]], requirement: Requirement, required_by_file: str
) -> t.Mapping[str, t.Any]:
    of_name = [item for item in locked if item["name"] == canonical(requirement.name)]
    fitting = [item for item in of_name if requirement.specifier.contains(item["version"], prereleases=True)]
    if not fitting:
        versions = " and ".join(item["version"] for item in of_name)
        name = canonical(requirement.name)
        raise Unobtainable(
            requirement,
            required_by_file,
            f"is not in the lock, which lists {f'{name} {versions}' if versions else f'no {name}'} for this kind of node.",
            "Run the playbook lock again, and bundle where a bundle is used",
        )
    return max(fitting, key=lambda item: Version(item["version"]))


def _requires_by_lock(name: str, locked: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[str, ...]:
    """What a locked requirement requires itself, as far as the lock tells, for the file is not here."""
    return tuple(f"{item['name']}=={item['version']}" for item in locked if name in item.get("required_by", ()))

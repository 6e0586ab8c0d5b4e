# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Find what wheels require, and download it with the control node's pip."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    compatibility_tags,
    metadata,
    wheel_file,
)

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import parse_wheel_filename
    from packaging.version import Version
except ImportError:
    pass  # decision.py says so, before anything comes here

# The wheel was chosen for the torch that is there.
_NEVER_FETCHED = ("torch",)
_TIMEOUT_SECONDS = 300
#: warnings of pip's, the latter with the error in it as Python writes it
_UNTRUSTED = re.compile("WARNING: (The repository located at .* is not a trusted or secure host)")
_CONNECTION_BROKEN = re.compile("after connection broken by '(.*)': ")


Fetch = t.Callable[[str, str, str, int], t.Any]


class Required(t.NamedTuple):
    """The wheel of a requirement, on the control node."""

    name: str
    filename: str
    path: str
    sha256: str
    required_by: tuple[str, ...] = ()  # names of the distributions that declare it

    @property
    def version(self) -> str:
        return str(parse_wheel_filename(self.filename)[1])


class NotCachedError(TorchExtensionError):
    """A file would have to be downloaded, and nothing may be."""


class Unobtainable(TorchExtensionError):  # noqa: N818 (it is a fact as well, where the node has what cannot be had)
    """There is no wheel of a requirement."""

    def __init__(self, requirement: Requirement, required_by_file: str, reason: str, remedy: str) -> None:
        """
        :param required_by_file: name of the wheel that declares it
        :param reason: completes a sentence that begins with the requirement
        :param remedy: a sentence without its end
        """
        self.name = canonical(requirement.name)
        self.fact = f"{self.name}{requirement.specifier}, which {required_by_file} requires"
        self.reason, self.remedy = reason, remedy
        super().__init__(
            f"{self.fact} and the node lacks, {reason} {remedy}, or install {self.name} on the node beforehand."
        )


class RequirementFinder:
    """Finds what wheels require, in the cache or on an index; downloads each file once."""

    def __init__(self, folder: str, fetch: Fetch | None = None, offline: bool = False) -> None:
        """
        :param folder: of the control node's cache
        :param fetch: downloads a URL into that folder, as ``Downloader.get`` does, for locked requirements that have one
        :param offline: whether what is not in that folder is an error
        """
        self._folder = folder
        self._fetch = fetch
        self._offline = offline
        self._required: dict[tuple[str, str], Required] = {}
        self._unobtainable: dict[tuple[str, str], Unobtainable] = {}
        #: paths of the files that were downloaded from an index
        self.downloaded: list[str] = []

    def find_missing(
        self,
        wheels: t.Iterable[str],
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None = None,
    ) -> list[Required]:
        """The wheels of all that wheels require, directly or not, and that the node lacks: an installed one of any version serves.

        :param wheels: paths of the wheels on the control node
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
        wheels: t.Iterable[str],
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None = None,
    ) -> tuple[list[Required], list[Unobtainable]]:
        """The wheels of all that wheels require, directly or not, whatever the node has; and what cannot be had.

        Each requirement has a wheel that meets it, so that there may be several of one name: any of the wheels can be installed
        without the others.

        :param wheels: as for :meth:`find_missing`
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

    def forget_found(self) -> None:
        """Find all anew: what was downloaded since may meet a requirement for which something older was found."""
        self._required.clear()

    def get_locked(self, item: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Required:
        """The very file that a lock names: from the cache, from its URL, or from the index of the control node's pip.

        :param item: ``name``, ``version``, ``filename``, ``size``, ``sha256`` and, from a bundle, ``url``
        :param environment: of a node, whose Python and platform count
        :raises TorchExtensionError: if it cannot be had
        """
        name, filename, digest = item["name"], item["filename"], item["sha256"]
        wheel_file.parse_name(filename)  # it becomes a path
        path = os.path.join(self._folder, filename)
        if not os.path.isfile(path) or sha256_of(path) != digest:
            if self._offline:
                raise NotCachedError(f"{filename} is not in {self._folder}.")
            if item.get("url") and self._fetch:
                path = self._fetch(item["url"], filename, digest, item["size"]).path
            else:
                _download_locked(item, environment, self._folder)
                self.downloaded.append(path)
        return Required(name, filename, path, digest)

    def _find(
        self,
        requirement: Requirement,
        environment: t.Mapping[str, t.Any],
        locked: t.Collection[t.Mapping[str, t.Any]] | None,
        required_by_file: str,
    ) -> Required:
        if locked is not None:
            return self.get_locked(_find_in_lock(locked, requirement, required_by_file), environment)
        return self._find_or_download(requirement, environment, required_by_file)

    def _find_or_download(
        self, requirement: Requirement, environment: t.Mapping[str, t.Any], required_by_file: str
    ) -> Required:
        key = (str(requirement), _node_kind(environment))
        if key in self._unobtainable:
            raise self._unobtainable[key]
        if key not in self._required:
            path = _newest_cached(self._folder, requirement, environment)
            if path is None and self._offline:
                raise NotCachedError(f"{requirement} is not in {self._folder}.")
            if path is None:
                try:
                    path = _download(requirement, environment, self._folder, required_by_file)
                except Unobtainable as exc:
                    self._unobtainable[key] = exc
                    raise
                self.downloaded.append(path)
            name = canonical(requirement.name)
            self._required[key] = Required(name, os.path.basename(path), path, sha256_of(path))
        return self._required[key]


def _walk(
    wheels: t.Iterable[str],
    environment: t.Mapping[str, t.Any],
    find: t.Callable[[Requirement, str], Required | None],
) -> list[Required]:
    """Go through all that wheels require, directly or not, but for torch and the wheels themselves.

    :param find: gives the wheel of a requirement, which is gone through as well; None to leave the requirement out
    """
    markers = metadata.marker_environment(environment)
    queue: list[tuple[str, frozenset[str]]] = [(wheel, frozenset()) for wheel in wheels]
    skipped = {*_NEVER_FETCHED, *(wheel_file.read_metadata(wheel).name for wheel, _extras in queue)}
    found: dict[str, Required] = {}
    required_by: dict[str, set[str]] = {}
    seen = set(queue)
    while queue:
        wheel, extras = queue.pop()
        for requirement in _declared_requirements(wheel, markers, extras):
            if canonical(requirement.name) in skipped:
                continue
            item = find(requirement, os.path.basename(wheel))
            if item is None:
                continue
            found[item.filename] = item
            required_by.setdefault(item.filename, set()).add(wheel_file.parse_name(os.path.basename(wheel)).name)
            step = (item.path, frozenset(requirement.extras))
            if step not in seen:
                seen.add(step)
                queue.append(step)
    order = sorted(found.values(), key=lambda item: (item.name, item.filename))
    return [item._replace(required_by=tuple(sorted(required_by[item.filename]))) for item in order]


def _declared_requirements(wheel: str, markers: dict[str, str], extras: t.Collection[str]) -> list[Requirement]:
    requirements = []
    for text in wheel_file.read_metadata(wheel).requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as exc:
            raise TorchExtensionError(
                f"{os.path.basename(wheel)} declares a requirement that cannot be read: {exc}"
            ) from exc
        settings = [{**markers, "extra": extra} for extra in extras or ("",)]
        if requirement.marker is None or any(requirement.marker.evaluate(setting) for setting in settings):
            requirements.append(requirement)
    return requirements


def _node_kind(environment: t.Mapping[str, t.Any]) -> str:
    """All of a node that the choice of a file depends on, as a key."""
    platform, libc = environment["platform"], environment["platform"]["libc"] or {}
    return "-".join([environment["python"]["abi"], platform["machine"], f"{libc.get('name')}{libc.get('version')}"])


def _newest_cached(folder: str, requirement: Requirement, environment: t.Mapping[str, t.Any]) -> str | None:
    """The newest file of earlier runs that meets a requirement and fits a node."""
    candidates = {}
    supported = compatibility_tags.supported_tags(environment)
    for filename in os.listdir(folder) if os.path.isdir(folder) else []:
        if not filename.endswith(".whl"):
            continue
        name, version, _build, tags = parse_wheel_filename(filename)
        if name != canonical(requirement.name) or not requirement.specifier.contains(version):
            continue
        if not tags.isdisjoint(supported) and _supports_python(
            os.path.join(folder, filename), environment["python"]["version"]
        ):
            candidates[version] = filename
    return os.path.join(folder, candidates[max(candidates)]) if candidates else None


def _supports_python(wheel: str, python: str) -> bool:
    try:
        return SpecifierSet(wheel_file.read_metadata(wheel).requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip has it


def _download(requirement: Requirement, environment: t.Mapping[str, t.Any], folder: str, required_by_file: str) -> str:
    """Let the control node's pip, with its own settings (index, credentials, CA), download one wheel for the node."""
    specification = f"{canonical(requirement.name)}{requirement.specifier}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        errors = _pip_download([specification], environment, part)
        files = os.listdir(part)
        if errors is not None or len(files) != 1:
            raise Unobtainable(
                requirement,
                required_by_file,
                f"cannot be had from the index of the control node: {errors or ''}",
                "Configure pip on the control node (index-url, proxy, cert in pip.conf, or PIP_… in the environment)",
            )
        path = os.path.join(folder, files[0])
        os.replace(os.path.join(part, files[0]), path)
    return path


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


def _download_locked(item: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], folder: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part, tempfile.TemporaryDirectory() as scratch:
        requirements_path = os.path.join(scratch, "requirements.txt")
        with open(requirements_path, "w", encoding="utf-8") as file:
            file.write(f"{item['name']}=={item['version']} --hash=sha256:{item['sha256']}\n")
        # The lock decides whether the file suits the node's Python, whose patch release it does not record.
        errors = _pip_download(
            ["--ignore-requires-python", "--require-hashes", "-r", requirements_path], environment, part
        )
        if errors is not None or os.listdir(part) != [item["filename"]]:
            raise TorchExtensionError(
                f"{item['filename']} with sha256 {item['sha256']}, as the lock has it, cannot be had from the index of"
                f" the control node: {errors or 'it gave ' + ', '.join(os.listdir(part))} Configure pip on the control"
                " node (index-url, proxy, cert in pip.conf, or PIP_… in the environment), or run the playbook lock"
                " again."
            )
        os.replace(os.path.join(part, item["filename"]), os.path.join(folder, item["filename"]))


def _pip_download(arguments: list[str], environment: t.Mapping[str, t.Any], folder: str) -> str | None:
    """Download with the tags of a node. Returns pip's error, or None."""
    python = environment["python"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--quiet", "--progress-bar=off", "--only-binary=:all:", "--dest", folder]
    command += ["--implementation", python["tag"][:2], "--python-version", python["version"]]
    command += [item for tag in (python["abi"], "abi3", "none") for item in ("--abi", tag)]
    command += [
        item for tag in compatibility_tags.platform_tags(environment["platform"]) for item in ("--platform", tag)
    ]
    try:
        result = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_TIMEOUT_SECONDS} s"
    if result.returncode == 0:
        return None
    lines = result.stderr.splitlines()
    # to pip, an index that cannot be asked is one that has nothing
    broken = [_innermost(match[1]) for match in map(_CONNECTION_BROKEN.search, lines) if match]
    unasked = broken or [match[1] for match in map(_UNTRUSTED.search, lines) if match]
    if unasked:
        return f"the index could not be asked ({unasked[-1]})."
    return " ".join([line for line in lines if line.startswith("ERROR")] or lines[-1:])


def _innermost(error: str) -> str:
    """The reason in an error that Python has written with its class and those around it."""
    texts = [piece for piece in re.split("['\"]", error) if re.search("[a-z]{3}", piece)]
    return re.sub(r"^(, port=\d+\)|<[^>]*>): ", "", texts[-1])

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What a wheel requires and a node lacks, brought to the control node with the control node's pip."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _tags, _wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._distributions import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import parse_wheel_filename
except ImportError:
    pass  # _decision says so, before anything comes here

# Nobody wants another torch than the one that the wheel was chosen for.
_NEVER = ("torch",)
_SECONDS = 300


class Required(t.NamedTuple):
    """A wheel of a requirement, on the control node."""

    name: str
    filename: str
    path: str
    sha256: str


class Requirements:
    """Finds and downloads what wheels require, each distinct file once."""

    def __init__(self, folder: str) -> None:
        """
        :param folder: of the control node's cache
        """
        self._folder = folder
        self._found: dict[tuple[str, str], Required] = {}
        self.new: list[str] = []

    def complete(self, wheels: t.Iterable[str], environment: t.Mapping[str, t.Any]) -> list[Required]:
        """The wheels of all that wheels require, directly or not, and that is not installed on a node, in whatever version.

        :param wheels: paths of the wheels on the control node
        :param environment: of the node, with all its distributions
        :raises TorchExtensionError: if one of them cannot be had
        """
        markers = marker_environment(environment)
        present = {name for name, version in environment["distributions"].items() if version is not None}
        present.update(_NEVER)
        required: dict[str, Required] = {}
        waiting: list[tuple[str, t.Collection[str]]] = [(wheel, ()) for wheel in wheels]
        present.update(_wheel_file.read_metadata(wheel).name for wheel, _extras in waiting)
        while waiting:
            wheel, extras = waiting.pop()
            for requirement in _declared(wheel, markers, extras):
                name = canonical(requirement.name)
                if name not in present and name not in required:
                    required[name] = self._get(requirement, environment, os.path.basename(wheel))
                    waiting.append((required[name].path, requirement.extras))
        return [required[name] for name in sorted(required)]

    def _get(self, requirement: Requirement, environment: t.Mapping[str, t.Any], wanted_by: str) -> Required:
        key = (str(requirement), _kind(environment))
        if key not in self._found:
            path = _newest(self._folder, requirement, environment)
            if path is None:
                path = _download(requirement, environment, self._folder, wanted_by)
                self.new.append(path)
            name = canonical(requirement.name)
            self._found[key] = Required(name, os.path.basename(path), path, _wheel_file.sha256(path))
        return self._found[key]


def marker_environment(environment: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The variables of environment markers (PEP 508) for a node, of which packaging knows only its own machine's."""
    python, platform = environment["python"], environment["platform"]
    implementation = python["implementation"]
    return {
        "extra": "",
        "implementation_name": implementation,
        "implementation_version": python["version"],
        "os_name": "posix",
        "platform_machine": platform["machine"],
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(implementation, implementation),
        "platform_release": "",
        "platform_system": platform["system"].capitalize(),
        "platform_version": "",
        "python_full_version": python["version"],
        "python_version": ".".join(python["version"].split(".")[:2]),
        "sys_platform": platform["system"],
    }


def _declared(wheel: str, markers: dict[str, str], extras: t.Collection[str]) -> list[Requirement]:
    requirements = []
    for text in _wheel_file.read_metadata(wheel).requires:
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


def _kind(environment: t.Mapping[str, t.Any]) -> str:
    """All of a node that the choice of a file depends on."""
    platform, libc = environment["platform"], environment["platform"]["libc"] or {}
    return "-".join([environment["python"]["abi"], platform["machine"], f"{libc.get('name')}{libc.get('version')}"])


def _newest(folder: str, requirement: Requirement, environment: t.Mapping[str, t.Any]) -> str | None:
    """The newest file of earlier runs that meets a requirement and fits a node."""
    candidates = {}
    supported = _tags.supported(environment)
    for filename in os.listdir(folder) if os.path.isdir(folder) else []:
        if not filename.endswith(".whl"):
            continue
        name, version, _build, tags = parse_wheel_filename(filename)
        if name != canonical(requirement.name) or not requirement.specifier.contains(version):
            continue
        if not tags.isdisjoint(supported) and _suits(os.path.join(folder, filename), environment["python"]["version"]):
            candidates[version] = filename
    return os.path.join(folder, candidates[max(candidates)]) if candidates else None


def _suits(wheel: str, python: str) -> bool:
    try:
        return SpecifierSet(_wheel_file.read_metadata(wheel).requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip has it


def _download(requirement: Requirement, environment: t.Mapping[str, t.Any], folder: str, wanted_by: str) -> str:
    """Let the control node's pip, with its own settings (index, credentials, CA), download one wheel for the node."""
    python = environment["python"]
    wanted = f"{canonical(requirement.name)}{requirement.specifier}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
        command += ["--quiet", "--progress-bar=off", "--only-binary=:all:", "--dest", part]
        command += ["--implementation", python["tag"][:2], "--python-version", python["version"]]
        command += [item for tag in (python["abi"], "abi3", "none") for item in ("--abi", tag)]
        command += [item for tag in _tags.platforms(environment["platform"]) for item in ("--platform", tag)]
        try:
            done = subprocess.run([*command, wanted], capture_output=True, text=True, check=False, timeout=_SECONDS)
            errors, status = done.stderr, done.returncode
        except subprocess.TimeoutExpired:
            errors, status = f"no end after {_SECONDS} s", 1
        files = os.listdir(part)
        if status != 0 or len(files) != 1:
            lines = [line for line in errors.splitlines() if line.startswith("ERROR")] or errors.splitlines()[-1:]
            raise TorchExtensionError(
                f"{wanted}, which {wanted_by} requires and the node lacks, cannot be had from the index of the control"
                f" node: {' '.join(lines)} Configure pip on the control node (index-url, proxy, cert in pip.conf, or"
                " PIP_… in the environment), or install it on the node beforehand."
            )
        path = os.path.join(folder, files[0])
        os.replace(os.path.join(part, files[0]), path)
    return path

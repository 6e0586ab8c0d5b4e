# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The control node's side of a build: the files that go to the builder, and the wheel that comes back."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds as table
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import Build
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import (
    ARCHIVES,
    NONE,
    WHEELS,
    Machine,
    Materials,
    Method,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.requirements import (
    find_build_requirements,
    find_torch_wheels,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.retrieval import fetch_wheel
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.sources import (
    SourceSettings,
    Sources,
    fetch_sources,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.toolchain import find_toolchain
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import BUILT_FOLDER
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import Execute, File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import (
    describe_architectures,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import (
    BuildKind,
    BuildRecord,
    BuiltWheel,
    find_built,
    store_wheel,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import Sdist


class Places(t.NamedTuple):
    """Where materials come from, as the operator has it."""

    cuda: str = ""  # a mirror or a folder of NVIDIA's archives
    github_url: str = "https://github.com"
    place_urls: t.Mapping[str, str] = {}  # mirrors of known places, by name
    sha256: t.Mapping[str, str] = {}  # hashes of files, by URL or by name


class Workshop:
    """Gathers what builds take, and keeps what comes of them, in the control node's cache."""

    def __init__(self, context: DownloadContext, places: Places = Places()) -> None:
        self._context, self._places = context, places
        #: what the operator should know, such as of a file that nobody tells the hash of
        self.warnings: list[str] = []

    def find_built(self, build: Build) -> BuiltWheel | None:
        """The wheel, if somebody has built it meanwhile."""
        kind, digest = BuildKind(**build.kind), build.sdist["sha256"]
        for built in find_built(self._context.cache, build.name, kind, build.libc, digest, build.architectures):
            if built.record.version == build.version:
                return built
        return None

    def get_sources(self, build: Build) -> Sources:
        """What a build compiles.

        :raises TorchExtensionError: if it cannot be had, or is not whole
        """
        sources = t.cast("Sources", self._fetch_sources(build, predict=False))
        self.warnings += [sources.file.warning] if sources.file.warning else []
        return sources

    def find_sources(self, build: Build) -> Sources | None:
        """The same if it is on the control node, and None if it would have to be downloaded."""
        return self._fetch_sources(build, predict=True)

    def _fetch_sources(self, build: Build, predict: bool) -> Sources | None:
        settings = SourceSettings(self._context, self._places.github_url, self._places.sha256, predict)
        sdist = Sdist(name=build.name, version=build.version, requires_python=None, **build.sdist)
        return fetch_sources(sdist, table.find_build(build.name), settings)

    def gather(self, build: Build, method: Method, sources: Sources, machine: Machine) -> Materials:
        """All files that go to the builder, downloaded as far as they are not here.

        :raises TorchExtensionError: if one of them cannot be had
        """
        environment = describe_environment(build, machine)
        context, row = self._context, table.find_build(build.name)
        torch = (
            find_torch_wheels(environment, build.torch, build.cuda, context, self._places.place_urls)
            if method.brings_torch
            else []
        )
        requirements = find_build_requirements(
            sources.sdist.filename, sources.facts.build_requires, row, build.torch, environment, context
        )
        toolchain: list[File] = []
        if method.toolchain in (WHEELS, ARCHIVES):
            toolchain = find_toolchain(build.cuda, environment, context, self._places.cuda, self.warnings)
        sdist = File(sources.file.path, sources.file.sha256)
        return Materials(sdist, _files(requirements), _files(torch), toolchain)

    def store(
        self,
        build: Build,
        method: Method,
        machine: Machine,
        job: t.Mapping[str, t.Any],
        sources: Sources,
        execute: Execute,
    ) -> BuiltWheel:
        """Bring the wheel that was built to the store, once it is what was wanted.

        :param job: as build_job has described it
        :param execute: runs a command on the builder
        :raises TorchExtensionError: if it does not come, or is something else
        """
        folder = os.path.join(self._context.cache, BUILT_FOLDER)
        with explain_write_errors(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            temporary.remove_leftovers(folder)
        with temporary.temporary_folder(folder) as scratch:
            path = fetch_wheel(job["wheel"], scratch, execute)
            self._check(build, method, path, job["wheel"]["sha256"])
            record = BuildRecord(
                name=build.name,
                version=build.version,
                filename=os.path.basename(path),
                sha256=job["wheel"]["sha256"],
                size=job["wheel"]["size"],
                kind=BuildKind(**build.kind),
                libc=build.libc if build.is_slurm else machine["libc"],
                architectures=tuple(build.architectures) if method.toolchain != NONE else (),
                sdist=sources.sdist.filename,
                sdist_sha256=sources.file.sha256,
                asked_sha256=build.sdist["sha256"] or sources.file.sha256,
                torch=build.torch if method.brings_torch else machine["torch"]["version"],
                compilers={name: version for name, version in job["compilers"].items() if version},
                builder=build.builder,
                core_seconds=job["core_seconds"],
                built_at=time.time(),
            )
            return store_wheel(self._context.cache, path, record)

    def _check(self, build: Build, method: Method, path: str, sha256: str) -> None:
        """
        :raises TorchExtensionError: if a wheel is not what was to be built
        """
        wheel_file.check_metadata(path, os.path.basename(path))
        facts = self._context.read_wheel_facts(path, sha256)
        name = wheel_file.parse_name(os.path.basename(path)).name
        if name != build.name:
            raise TorchExtensionError(f"{build.sdist['filename']} is the sdist of {name}, and {build.name} is wanted.")
        code = facts["architectures"]
        if method.toolchain == NONE or not code:
            return
        lacking = [each for each in build.architectures if _code_name(each) not in (*code["sass"], *code["ptx"])]
        if lacking:
            raise TorchExtensionError(
                f"{build.name} {build.version} was built, and its libraries have no code for {describe_architectures(lacking)}, only for"
                f" {', '.join(f'sm_{each}' for each in code['sass'])}: its setup.py leaves out what it does not know. Name other"
                " architectures in torch_extension_build_archs, or another version in torch_extension_packages."
            )


def describe_environment(build: Build, machine: Machine) -> dict[str, t.Any]:
    """The environment of a build, as much of it as a choice of files depends on."""
    libc = {"name": "glibc", "version": machine["libc"]} if machine["libc"] else None
    return {
        "python": {**machine["python"], "implementation": "cpython"},
        "platform": {"system": "linux", "machine": machine["machine"], "libc": libc},
        "torch": {"version": build.torch, "cuda": build.cuda},
        "distributions": {},
    }


def _code_name(architecture: str) -> str:
    return architecture.removesuffix("+PTX").replace(".", "")


def _files(required: t.Iterable[t.Any]) -> list[File]:
    return [File(each.path, each.sha256) for each in required]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import math
import os
import socket
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.plain_types import to_plain_types
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import (
    DOWNLOAD_ARGUMENTS,
    make_progress,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleFailedError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import Build, explain_lost
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import Limits
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.workshop import Workshop

_ARGUMENTS = {
    **DOWNLOAD_ARGUMENTS,
    "build": {"type": "dict", "required": True},
    "python": {"type": "str", "default": "python3"},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "folder": {"type": "str", "default": "~/.cache/airgap.torch_extensions.build"},
    "module": {"type": "str", "default": ""},
    "cuda": {"type": "str", "default": ""},
    "jobs": {"type": "int", "default": 0},
    "time_limit": {"type": "int", "default": 240},
    "slurm_options": {"type": "list", "elements": "str", "default": []},
    "github_url": {"type": "str", "default": "https://github.com"},
    "place_urls": {"type": "dict", "default": {}},
    "sha256": {"type": "dict", "default": {}},
    "require_sha256": {"type": "bool", "default": False},
}
_LOCAL = "local"
#: for which another process may download what a build takes, beside the time that the build may take
_DOWNLOAD_SECONDS = 3600
_FILES = "files"  # below the folder of builds


class ActionModule(DeliveringAction):
    """Builds a wheel on the machine of its task, and brings it to the control node."""

    _supports_diff = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        self._arguments, self._task_vars = to_plain_types(arguments), task_vars
        if self._connection.transport == _LOCAL:
            self._connection.set_become_plugin(None)  # on the control node nothing becomes another user
        build = Build(**self._arguments["build"])
        try:
            with use_proxy(self._arguments["proxy"]), explain_unforeseen(f"The build of {build.name} {build.version}"):
                changed, report, warnings = self._build_once(build)
        except AnsibleConnectionFailure as exc:
            return self._fail(build, explain_lost(build, str(exc)))
        except (TorchExtensionError, ModuleFailedError) as exc:
            return self._fail(build, str(exc))
        outcome = {"errors": [], "report": [report], "is_built": not self._task.check_mode}
        return {"changed": changed, "nodes": dict.fromkeys(build.nodes, outcome), "warnings": warnings}

    @staticmethod
    def _fail(build: Build, message: str) -> dict[str, t.Any]:
        """A result that fails the nodes that want the wheel, and not the task, which one of them runs for all."""
        failure: dict[str, t.Any] = {"errors": [message], "report": [], "is_built": False}
        return {"changed": False, "nodes": dict.fromkeys(build.nodes, failure)}

    def _build_once(self, build: Build) -> tuple[bool, str, list[str]]:
        """Build a wheel, unless somebody has built it meanwhile; in check mode say what would be done.

        :returns: whether a wheel was built, a line for the operator, and warnings
        """
        # Ansible imports actions before it forks a process for each node, and most runs build nothing
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import Limits
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.workshop import Places, Workshop
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext

        arguments, limits = self._arguments, Limits(self._arguments["time_limit"] * 60, self._arguments["jobs"])
        context = DownloadContext(
            cache=locate_cache(arguments["cache_dir"]),
            ca_path=arguments["ca_path"],
            require_sha256=arguments["require_sha256"],
            progress=make_progress(arguments["progress"]),
        )
        places = Places(*(arguments[name] for name in Places._fields))
        workshop = Workshop(context, places)
        if self._task.check_mode:
            return False, self._predict(build, workshop, limits), workshop.warnings
        name = hashlib.sha256(f"build {build.id}".encode()).hexdigest()[:32]
        patience = limits.time_limit + _DOWNLOAD_SECONDS
        with context.progress, process_lock(os.path.join(context.cache, "locks"), name, patience=patience):
            built = workshop.find_built(build)
            if built:
                report = f"{build.name} {build.version}: another run has built it meanwhile, on {built.record.builder}"
                return False, report, workshop.warnings
            report = self._build(build, workshop, limits, context.cache, context.progress.note)
            return True, report, workshop.warnings

    def _predict(self, build: Build, workshop: Workshop, limits: Limits) -> str:
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build import following
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import (
            check_room,
            choose_method,
            describe_build,
            describe_estimate,
        )

        machine, sources = self._probe(), workshop.find_sources(build)
        uses_cuda = sources is None or sources.use_cuda
        method = choose_method(build, machine, uses_cuda, self._arguments["cuda"], limits)
        if self._run("poll", {"id": build.id})["job"]["state"] == following.ABSENT:
            check_room(build, machine)
        return describe_build(build, method, "would be built", describe_estimate(method))

    def _build(
        self, build: Build, workshop: Workshop, limits: Limits, cache: str, note: t.Callable[[str], object]
    ) -> str:
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build import following
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.method import (
            check_room,
            choose_method,
            describe_build,
            make_job,
        )

        # another control node may wait for the same wheel
        asked = {"id": build.id, "taker": hashlib.sha256(f"{socket.gethostname()} {cache}".encode()).hexdigest()[:32]}

        def poll(wait: int = following.WAIT_SECONDS) -> dict[str, t.Any]:
            try:
                return t.cast("dict[str, t.Any]", self._run("poll", asked, wait=wait)["job"])
            except AnsibleConnectionFailure as exc:
                raise following.LostError(str(exc)) from exc

        machine, sources = self._probe(), workshop.get_sources(build)
        method = choose_method(build, machine, sources.use_cuda, self._arguments["cuda"], limits)
        state = poll(wait=0)["state"]
        if state not in (following.RUNNING, following.FINISHED):
            is_new = state == following.ABSENT
            if is_new:
                check_room(build, machine)
            materials = workshop.gather(build, method, sources, machine)
            self._bring(materials.files(), f"{machine['folder']}/{_FILES}")
            options = self._arguments["slurm_options"]
            self._start(make_job(build, method, sources.facts.newest_mtime, materials, limits, options), is_new)
        # a job may wait in Slurm's queue for days
        limit = math.inf if build.is_slurm else float(limits.time_limit)
        job = following.follow(build, poll, note, limit)
        if job["state"] != following.FINISHED:
            raise TorchExtensionError(following.explain_failure(build, job))
        workshop.store(build, method, machine, job, sources, self.execute)
        self._run("clear", asked)
        return describe_build(build, method, "built", f", in {following.format_time(job['seconds'])}")

    def _start(self, job: dict[str, t.Any], is_new: bool) -> None:
        """Have a build begin. One that is refused leaves nothing behind, unless an earlier attempt has compiled some of it."""
        try:
            self._run("start", job)
        except ModuleFailedError:
            if is_new:
                self._run("clear", job)
            raise

    def _probe(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self._run("probe", None, check_mode=True)["machine"])

    def _run(
        self, step: str, job: dict[str, t.Any] | None, check_mode: bool | None = None, wait: int = 0
    ) -> dict[str, t.Any]:
        options = {name: self._arguments[name] for name in ("python", "trusted_owners", "folder", "module")}
        arguments = {"step": step, "wait": wait, **options, **({"job": job} if job else {})}
        return self.run_module("build_job", arguments, self._task_vars, check_mode)

    def _bring(self, files: t.Sequence[streaming.File], folder: str) -> None:
        """Bring files to the builder, each into a folder that is named after its hash."""
        placed = [file._replace(subfolder=shorten(file.sha256)) for file in files]
        trusted = self._arguments["trusted_owners"]
        self.deliver_files(
            placed, lambda execute: streaming.prepare_folder(placed, folder, execute, trusted), self._task_vars
        )

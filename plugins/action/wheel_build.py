# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.plain_types import to_plain_types
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import (
    DOWNLOAD_ARGUMENTS,
    make_progress,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleFailedError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.builds import Build
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache_dir
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.job import Limits, Method
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.materials import Materials, Workshop
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import Staging
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext

_ARGUMENTS = {
    **DOWNLOAD_ARGUMENTS,
    "build": {"type": "dict", "required": True},
    "python": {"type": "str", "default": "python3"},
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
_POLL_RETRIES_RESET = 2.0  # seconds


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
            with use_proxy(self._arguments["proxy"]):
                changed, report = self._build_once(build)
        except (TorchExtensionError, ModuleFailedError, AnsibleConnectionFailure) as exc:
            outcome = {"errors": [f"{exc} Wanted by {', '.join(build.nodes)}."], "report": []}
            return {"changed": False, "nodes": dict.fromkeys(build.nodes, outcome)}
        return {"changed": changed, "nodes": dict.fromkeys(build.nodes, {"errors": [], "report": [report]})}

    def _build_once(self, build: Build) -> tuple[bool, str]:
        """Build a wheel, unless that has been done meanwhile, or say what would be done.

        :returns: whether a wheel was built, and a line for the operator
        """
        # Ansible imports actions before it forks a process for each node, and most runs build nothing
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.job import Limits
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock

        arguments = self._arguments
        limits = Limits(arguments["time_limit"] * 60, arguments["jobs"])
        if self._task.check_mode:
            return False, self._predict(build, limits)
        cache = arguments["cache_dir"] or default_cache_dir()
        name = hashlib.sha256(f"build {build.id}".encode()).hexdigest()[:32]
        with process_lock(os.path.join(cache, "locks"), name, patience=limits.time_limit + _DOWNLOAD_SECONDS):
            return self._build(build, limits)

    def _predict(self, build: Build, limits: Limits) -> str:
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.job import describe_build

        method = self._choose_method(build, self._probe(), limits, self._workshop().known_facts(build))
        about = (
            ""
            if method.minutes is None
            else f", in about {format_time(method.minutes * 60)} with {method.jobs} compilers at once"
        )
        return describe_build(build, method, "would be built", about)

    def _build(self, build: Build, limits: Limits) -> tuple[bool, str]:
        workshop = self._workshop()
        built = workshop.find_built(build)
        if built:
            return False, f"{build.name} {build.version}: built by another run meanwhile, on {built.record.builder}"
        machine = self._probe()
        sdist = workshop.get_sdist(build)
        method = self._choose_method(build, machine, limits, sdist.facts)
        job = self._ask("poll", {"id": build.id})
        if job["state"] != RUNNING:
            materials = workshop.gather(build, method, sdist, machine)
            self._deliver(materials, machine["folder"])
            self._run("start", make_job(build, method, materials, limits, self._arguments["slurm_options"]))
        with make_progress(self._arguments["progress"]) as progress:
            job = follow(build, lambda: self._ask("poll", {"id": build.id}), progress.note)
        if job["state"] != FINISHED:
            raise TorchExtensionError(explain_failure(build, job))
        workshop.store(build, method, machine, job, sdist, self.execute)
        self._run("clear", {"id": build.id})
        return True, describe_build(build, method, "built", f", in {format_time(job['seconds'])}")

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import SLURM
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache_dir
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.slurm import Broadcast, Job

_ARGUMENTS = {
    "plans": {"type": "dict", "required": True},
    "fetched": {"type": "dict", "required": True},
    "slurm_host": {"type": "str", "required": True},
    "stage_dir": {"type": "str", "required": True},
    "cache_dir": {"type": "path"},
    "options": {"type": "list", "elements": "str", "default": []},
    "wait": {"type": "int", "default": 60},
    "fanout": {"type": "int", "default": 2},
}


class ActionModule(DeliveringAction):
    """Brings files to the machine of its task, and from there by Slurm to nodes."""

    _supports_diff = False

    def act(self, task_vars):
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        self._arguments, self._task_vars = arguments, task_vars
        self._job = Job(arguments["options"], arguments["wait"], arguments["fanout"] or None)
        outcome = {}
        for (files, folder), nodes in self._wanted().items():
            found = dict.fromkeys(nodes) if self._task.check_mode else self._served(files, folder, nodes)
            outcome.update({host: reason for node, reason in found.items() for host in nodes[node]})
        return {
            "changed": not all(outcome.values()),
            "nodes": {node: {"reason": reason} for node, reason in outcome.items()},
        }

    def _wanted(self):
        """Which nodes get the same files into the same folder, by Slurm's names for them."""
        wanted = {}
        for node, plan in self._arguments["plans"].items():
            delivery, fetched = plan["delivery"], self._arguments["fetched"].get(node)
            if delivery["ways"][0] != SLURM or delivery["slurm_host"] != self._arguments["slurm_host"] or not fetched:
                continue
            if fetched["errors"] or not fetched["wheels"]:
                continue
            digests = {file["filename"]: file["sha256"] for file in [*fetched["wheels"], *fetched["requirements"]]}
            files = tuple(streaming.File(path, digests[os.path.basename(path)]) for path in fetched["files"])
            nodes = wanted.setdefault((files, plan["stage_dir"]), {})
            nodes.setdefault(delivery["slurm_node"] or node, []).append(node)
        return wanted

    def _served(self, files, folder, nodes):
        """What goes wrong here is an error of the nodes that wanted it; the others of the play go on."""
        host, cache = self._arguments["slurm_host"], self._arguments["cache_dir"] or default_cache_dir()
        word = hashlib.sha256(f"slurm {host}".encode()).hexdigest()[:32]
        try:
            # another one would take away what is being brought: with strategy=free there is one for each node
            with process_lock(os.path.join(cache, "locks"), word):
                return self._broadcast(files, folder, nodes)
        except (TorchExtensionError, AnsibleConnectionFailure) as exc:
            reason = (
                f"{host} cannot be used to bring it through Slurm: {str(exc).rstrip('.')}. Look at"
                " torch_extension_slurm_host and torch_extension_slurm_stage_dir, or set torch_extension_delivery to"
                " [slurm, copy], or to copy."
            )
            return dict.fromkeys(nodes, reason)

    def _broadcast(self, files, folder, nodes):
        host, stage_dir = (self._arguments[name] for name in ("slurm_host", "stage_dir"))
        staging = self.bring(files, lambda execute: streaming.prepare(files, stage_dir, execute), self._task_vars)
        if os.path.normpath(folder) == staging.folder:
            raise TorchExtensionError(
                f"{folder} is where it is brought from, and where it is brought to; what is brought would be removed"
            )
        try:
            return Broadcast(host, files, staging.folder, folder, self.ask, self._job).bring(nodes)
        finally:
            streaming.discard(files, staging.folder, self.execute)

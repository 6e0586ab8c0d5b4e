# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import SLURM
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import (
    PATIENCE_SECONDS,
    process_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.slurm import (
    Broadcast,
    JobOptions,
    name_writer,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen

#: of files and the folder that they go to: the nodes by Slurm's names, with their hosts in the inventory
_Groups = dict[tuple[tuple[streaming.File, ...], str], dict[str, list[str]]]

_ARGUMENTS = {
    "plans": {"type": "dict", "required": True},
    "fetched": {"type": "dict", "required": True},
    "slurm_host": {"type": "str", "required": True},
    "stage_dir": {"type": "str", "required": True},
    "cache_dir": {"type": "path"},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "options": {"type": "list", "elements": "str", "default": []},
    "wait": {"type": "int", "default": 60},
    "fanout": {"type": "int", "default": 2},
}


class ActionModule(DeliveringAction):
    """Brings files to the machine of its task, and from there by Slurm to nodes."""

    _supports_diff = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        self._arguments, self._task_vars = arguments, task_vars
        self._job = JobOptions(
            arguments["options"], arguments["wait"], arguments["fanout"] or None, arguments["trusted_owners"]
        )
        groups, reasons = self._group_nodes()
        for (files, folder), hosts_by_node in groups.items():
            if self._task.check_mode:
                outcomes = dict[str, str | None].fromkeys(hosts_by_node)
            else:
                outcomes = self._try_broadcast(files, folder, hosts_by_node)
            reasons.update({host: reason for node, reason in outcomes.items() for host in hosts_by_node[node]})
        return {
            "changed": not all(reasons.values()),
            "nodes": {host: {"reason": reason} for host, reason in reasons.items()},
        }

    def _group_nodes(self) -> tuple[_Groups, dict[str, str | None]]:
        """The nodes that get the same files into the same folder; and hosts that get none, with the reason."""
        groups: _Groups = {}
        reasons: dict[str, str | None] = {}
        for host, plan in self._arguments["plans"].items():
            try:
                with explain_unforeseen(f"The plan of {host}"):
                    self._add_node(host, plan, groups)
            except TorchExtensionError as exc:
                reasons[host] = str(exc)
        return groups, reasons

    def _add_node(self, host: str, plan: t.Mapping[str, t.Any], groups: _Groups) -> None:
        delivery, fetched = plan["delivery"], self._arguments["fetched"].get(host)
        if delivery["ways"][0] != SLURM or delivery["slurm_host"] != self._arguments["slurm_host"] or not fetched:
            return
        if fetched["errors"] or not fetched["wheels"]:
            return
        digests = {file["filename"]: file["sha256"] for file in [*fetched["wheels"], *fetched["requirements"]]}
        files = tuple(streaming.File(path, digests[os.path.basename(path)]) for path in fetched["files"])
        hosts_by_node = groups.setdefault((files, plan["stage_dir"]), {})
        hosts_by_node.setdefault(delivery["slurm_node"] or host, []).append(host)

    def _try_broadcast(
        self, files: t.Sequence[streaming.File], folder: str, nodes: t.Iterable[str]
    ) -> dict[str, str | None]:
        """For each node, the reason why it does not get the files. A failure concerns these nodes alone: the play goes on."""
        host, cache = self._arguments["slurm_host"], locate_cache(self._arguments["cache_dir"])
        lock_name = hashlib.sha256(f"slurm {host}".encode()).hexdigest()[:32]
        try:
            # with strategy=free there is one such task for each node, and another one would remove the files meanwhile
            patience = PATIENCE_SECONDS + self._arguments["wait"]
            locks = os.path.join(cache, "locks")
            with explain_unforeseen("The broadcast"), process_lock(locks, lock_name, patience=patience):
                return self._broadcast(files, folder, nodes, name_writer(locks))
        except (TorchExtensionError, AnsibleConnectionFailure) as exc:
            reason = (
                f"{host} cannot be used to bring it through Slurm: {str(exc).rstrip('.')}. Look at"
                " torch_extension_slurm_host and torch_extension_slurm_stage_dir, or set torch_extension_delivery to"
                " [slurm, copy], or to copy."
            )
            return dict.fromkeys(nodes, reason)

    def _broadcast(
        self, files: t.Sequence[streaming.File], folder: str, nodes: t.Iterable[str], writer: str
    ) -> dict[str, str | None]:
        # each control node has a folder of its own there, for it removes what it has brought
        own_folder = shorten(hashlib.sha256(writer.encode()).hexdigest())
        sources = [file._replace(subfolder=own_folder) for file in files]
        host, stage_dir = (self._arguments[name] for name in ("slurm_host", "stage_dir"))
        staging = self.deliver_files(
            sources,
            lambda execute: streaming.prepare_folder(sources, stage_dir, execute, self._arguments["trusted_owners"]),
            self._task_vars,
        )
        if os.path.normpath(folder) == staging.folder:
            raise TorchExtensionError(
                f"{folder} is where it is brought from, and where it is brought to; what is brought would be removed"
            )
        try:
            source, parts = os.path.join(staging.folder, own_folder), [file._replace(writer=writer) for file in files]
            broadcast = Broadcast(host, parts, source, folder, self.execute_without_terminal, self._job)
            return broadcast.deliver(nodes)
        finally:
            streaming.remove_files(sources, staging.folder, self.execute)

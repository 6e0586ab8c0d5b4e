# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Base of the actions that run modules of this collection on a node."""

from __future__ import annotations

import gc
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import require_ansible_core
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection

#: keys of a module's result that are Ansible's own
_ANSIBLE_KEYS = ("invocation",)


class ModuleFailedError(Exception):
    """A module failed: the task is to end with its result, which says why."""

    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class NodeAction(ActionBase):
    """Runs modules on the node by way of Ansible's own connection, in as few round trips as it allows."""

    _supports_check_mode = True

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the action's work.

        :returns: the task's result
        :raises ModuleFailedError: if a module that it runs fails
        :raises TorchExtensionError: if the task fails for another reason
        """
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        # This process is a fork that ends with the task, and Python's search for garbage would give it a copy of each page that
        # it shares with the others.
        gc.freeze()
        super().run(tmp, task_vars)
        try:
            require_ansible_core()
            connection.enable_pipelining(self._connection, self._task, task_vars or {})
            connection.tune_for_files(self._connection, may_reuse=True)
            return self.perform(task_vars or {})
        except ModuleFailedError as exc:
            return exc.result
        except TorchExtensionError as exc:
            return {"failed": True, "msg": str(exc)}

    def run_module(
        self, name: str, arguments: t.Mapping[str, t.Any], task_vars: dict[str, t.Any], check_mode: bool | None = None
    ) -> dict[str, t.Any]:
        """Run a module of this collection on the node.

        :param check_mode: whether in check mode; as the task has it, if None
        :raises ModuleFailedError: if it fails
        """
        before = self._task.check_mode
        self._task.check_mode = before if check_mode is None else check_mode
        try:
            result = self._execute_module(f"airgap.torch_extensions.{name}", dict(arguments), task_vars=task_vars)
        finally:
            self._task.check_mode = before
        result = {key: value for key, value in result.items() if key not in _ANSIBLE_KEYS}
        if result.get("failed"):
            raise ModuleFailedError(result)
        return result

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Base of the actions that run modules of this collection on a node."""

from __future__ import annotations

import gc
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.limits import last_words
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions import dead_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import require_ansible_core
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.outcome import conclude
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection, streaming
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.module_answers import check_answer
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import (
    make_json_visible,
    make_visible,
)

# how Ansible begins, where the user that the task becomes cannot read the files of the user who logs in
_UNREADABLE_FILES = "Failed to set permissions on the temporary files"
_TEST_INPUT = f"{streaming.MARKER}input:read"


class ModuleFailedError(Exception):
    """A module failed: the task is to end with its result, which says why."""

    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class NodeAction(ActionBase):
    """Runs modules on the node by way of Ansible's own connection, in as few round trips as it allows."""

    _supports_check_mode = True
    _chose_pipelining = False

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
        return conclude(self._task.action, lambda: self._perform_on_node(task_vars or {}))

    def _perform_on_node(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        require_ansible_core()
        self._chose_pipelining = connection.enable_pipelining(self._connection, self._task, task_vars)
        connection.tune_for_files(self._connection, may_reuse=True)
        try:
            return self.perform(task_vars)
        except ModuleFailedError as exc:
            return exc.result

    def run_module(
        self, name: str, arguments: t.Mapping[str, t.Any], task_vars: dict[str, t.Any], check_mode: bool | None = None
    ) -> dict[str, t.Any]:
        """Run a module of this collection on the node.

        :param check_mode: whether in check mode; as the task has it, if None
        :raises ModuleFailedError: if it fails
        :raises TorchExtensionError: if it answers what it cannot answer
        """
        before = self._task.check_mode
        self._task.check_mode = before if check_mode is None else check_mode
        try:
            result = self._start_module(name, arguments, task_vars)
        finally:
            self._task.check_mode = before
        if dead_module.is_dead(result) and self._is_unread():
            raise TorchExtensionError(self._explain_unread_input(result))
        if dead_module.is_dead(result):
            question = self._describe_start(arguments.get("python"), task_vars)
            message, evidence = dead_module.explain_death(result, question, self.execute)
            result = {
                key: value
                for key, value in result.items()
                if key != "exception" and (key not in dead_module.OUTPUTS or key in evidence)
            }
            result["msg"] = message
        result = check_answer(name, result, self._task.delegate_to or task_vars["inventory_hostname"])
        if result.get("failed"):
            raise ModuleFailedError(result)
        return result

    def execute(self, command: str, data: bytes | None = None) -> streaming.CommandResult:
        """Run a command of sh(1)."""
        result = self._low_level_execute_command(command, in_data=data)
        return streaming.CommandResult(result["rc"], result["stdout"], result["stderr"])

    def _parse_returned_data(self, res: dict[str, t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """What a module has printed, as Ansible reads it: its warnings, and what is no answer, Ansible shows by itself, on the way."""
        shown = {"stdout": make_json_visible(res["stdout"]), "stderr": make_visible(res["stderr"])}
        return super()._parse_returned_data({**res, **shown}, *args, **kwargs)

    def _start_module(
        self, name: str, arguments: t.Mapping[str, t.Any], task_vars: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        """Run a module, as a file where it cannot be handed over by standard input, unless the operator wants it so.

        :raises TorchExtensionError: if neither can be done
        """
        result = self._try_module(name, arguments, task_vars)
        if not self._chose_pipelining or not dead_module.is_dead(result) or not self._is_unread():
            return result
        connection.disable_pipelining(self._connection)
        self._chose_pipelining = False
        return self._try_module(name, arguments, task_vars, why_files=_last_words(result))

    def _try_module(
        self, name: str, arguments: t.Mapping[str, t.Any], task_vars: dict[str, t.Any], why_files: str = ""
    ) -> dict[str, t.Any]:
        try:
            return self._execute_module(
                f"airgap.torch_extensions.{name}",
                dict(arguments),
                task_vars=task_vars,
                wrap_async=bool(self._task.async_val) and not self._connection.has_native_async,
            )
        except AnsibleError as exc:
            if _UNREADABLE_FILES not in str(exc):
                raise
            raise TorchExtensionError(self._explain_unreadable_files(why_files)) from exc

    def _explain_unreadable_files(self, why_files: str) -> str:
        login, user = self._get_remote_user(), self.get_become_option("become_user")
        fact = (
            f"Ansible brings modules to this node as files of {login}, and {user}, who is not root, cannot be given the right to read"
            " them. Nothing was changed."
        )
        acl = "install setfacl (package acl) on the node"
        if not why_files:
            return f"{fact} Set ansible_pipelining=true, which needs no files; or {acl}."
        return (
            f"{fact} Nor do commands of {user} read what Ansible sends them, so that it goes without files: {why_files}. Take requiretty"
            f" out of the node's sudoers for {login}; or {acl}."
        )

    def _explain_unread_input(self, result: t.Mapping[str, t.Any]) -> str:
        return (
            f"No module runs on this node: ansible_pipelining has them handed over by standard input, and commands do not get that"
            f" there: {_last_words(result)}. Set ansible_pipelining=false. Or take requiretty out of the node's sudoers, where it is"
            " sudo that wants a terminal, and have the login shell read nothing where nobody types (.bashrc)."
        )

    def _is_unread(self) -> bool:
        """Whether modules go by standard input, and commands on the node do not get that.

        So it is where sudo wants a terminal, or the login shell runs something that reads it.
        """
        if not self._is_pipelining_enabled("new"):
            return False
        return _TEST_INPUT not in self.execute("cat", f"{_TEST_INPUT}\n".encode()).out

    def _describe_start(self, own: t.Any, task_vars: t.Mapping[str, t.Any]) -> dead_module.Question:
        """How modules of this task are started.

        :param own: option python of the module
        """
        names = own.split(",") if isinstance(own, str) else own or []
        interpreter = str(self._used_interpreter).lstrip("#!").strip()
        facts = task_vars.get("ansible_facts") or {}  # of an earlier task
        variables: dict[str, t.Any] = {}
        self._compute_environment_string(variables)
        return dead_module.Question(
            interpreter=interpreter,
            is_named=not self._discovered_interpreter_key and interpreter != facts.get("discovered_interpreter_python"),
            own=str(names[0]).strip() if names else None,
            variables={name: str(value) for name, value in variables.items()},
        )


def _last_words(result: t.Mapping[str, t.Any]) -> str:
    return last_words(*(str(result.get(key, "")) for key in dead_module.OUTPUTS)) or "they got nothing"


class ModuleAction(NodeAction):
    """Runs one module, and no more."""

    _supports_async = True

    module: t.ClassVar[str]  # without the collection

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return self.run_module(self.module, self._task.args, task_vars)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the actions have in common that bring files of the control node to a machine over Ansible's own connection."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection, streaming

_TRIES = 3
_PAUSE = 3  # seconds

#: Goes to a folder and looks at what is there, by the given means of running commands; None if they do not get there.
Enter = t.Callable[[streaming.Execute], streaming.Staging | None]


class DeliveringAction(NodeAction):
    """Brings files to the machine of its task, as the user that the task becomes."""

    def bring(self, files: t.Sequence[streaming.File], enter: Enter, task_vars: dict[str, t.Any]) -> streaming.Staging:
        """Bring what is not there yet.

        :raises TorchExtensionError: if it cannot be brought
        :raises AnsibleConnectionFailure: if the machine is lost
        """
        if connection.can_stream(self._connection):
            try:
                return self._stream_all(files, enter)
            except streaming.NotStreamedError:
                pass
        staging = self.enter(enter)
        for file in staging.lacks(files):
            self._copy(file, staging.folder, task_vars)
        return staging

    def enter(self, enter: Enter) -> streaming.Staging:
        """Look at a folder.

        :raises TorchExtensionError: if no command gets there
        """
        staging = None
        if connection.can_stream(self._connection):
            staging = enter(self.ask)
        staging = staging or enter(self.execute)
        if staging is None:
            raise TorchExtensionError(
                "The node runs no command of sh(1) by which wheels could be brought there. Nothing was changed."
            )
        return staging

    def ask(self, command: str) -> streaming.Done:
        """Run a command of sh(1) without a terminal, which ssh gives to one that has nothing on its standard input.

        A sudo that wants a terminal does not run it.
        """
        return self.execute(command, b"\n")

    def execute(self, command: str, data: bytes | None = None) -> streaming.Done:
        """Run a command of sh(1)."""
        done = self._low_level_execute_command(command, in_data=data)
        return streaming.Done(done["rc"], done["stdout"], done["stderr"])

    def _stream_all(self, files: t.Sequence[streaming.File], enter: Enter, tries: int = _TRIES) -> streaming.Staging:
        """A connection that is lost for a moment goes on from where it was."""
        while True:
            try:
                staging = enter(self.ask)
                if staging is None:
                    raise streaming.NotStreamedError
                if staging.lacks(files):
                    connection.quicken(self._connection)
                streaming.send(files, staging, self._stream, self.execute)
                return staging
            except AnsibleConnectionFailure:
                tries -= 1
                if not tries:
                    raise
                time.sleep(_PAUSE)

    def _stream(self, command: str, path: str, begin: int) -> streaming.Done:
        with open(path, "rb") as file:
            file.seek(begin)
            with connection.streaming(self._connection, file) as data:
                return self.execute(command, data)

    def _copy(self, file: streaming.File, folder: str, task_vars: dict[str, t.Any]) -> None:
        """For connections, and ways to become another user, that give a command no standard input."""
        task = self._task.copy()
        task.args = {"src": file.path, "dest": f"{folder}/{file.name}", "mode": "0600"}
        copy = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        result = copy.run(task_vars=task_vars)
        if result.get("failed"):
            raise TorchExtensionError(f"{file.name} cannot be brought to {folder} on the node: {result.get('msg')}")

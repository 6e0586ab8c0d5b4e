# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Base of the actions that bring files of the control node to a machine over Ansible's own connection."""

from __future__ import annotations

import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection, streaming

_MAX_TRIES = 3
_RETRY_DELAY = 3  # seconds

#: Looks at what is in a folder, by running commands; None if they do not get to the machine.
InspectFolder = t.Callable[[streaming.Execute], streaming.Staging | None]


class DeliveringAction(NodeAction):
    """Brings files to the machine of its task, as the user that the task becomes."""

    def deliver_files(
        self, files: t.Sequence[streaming.File], inspect: InspectFolder, task_vars: dict[str, t.Any]
    ) -> streaming.Staging:
        """Bring the files that are missing.

        :param inspect: looks at the folder that they go to
        :returns: the folder as it was before
        :raises TorchExtensionError: if they cannot be brought
        :raises AnsibleConnectionFailure: if the machine is lost
        """
        if connection.can_stream(self._connection):
            try:
                return self._stream_all(files, inspect)
            except streaming.NotStreamedError:
                pass
        staging = self.inspect_folder(inspect)
        for file in staging.list_missing(files):
            self._copy(file, staging.folder, task_vars)
        return staging

    def inspect_folder(self, inspect: InspectFolder) -> streaming.Staging:
        """Look at a folder of the machine.

        :raises TorchExtensionError: if no command gets there
        """
        staging = None
        if connection.can_stream(self._connection):
            staging = inspect(self.execute_without_terminal)
        staging = staging or inspect(self.execute)
        if staging is None:
            raise TorchExtensionError(
                "The node runs no command of sh(1) by which wheels could be brought there. Nothing was changed."
            )
        return staging

    def execute_without_terminal(self, command: str) -> streaming.CommandResult:
        """Run a command of sh(1) without a terminal; ssh gives one to a command that has nothing on its standard input.

        A sudo that wants a terminal does not run it.
        """
        return self.execute(command, b"\n")

    def _stream_all(
        self, files: t.Sequence[streaming.File], inspect: InspectFolder, tries: int = _MAX_TRIES
    ) -> streaming.Staging:
        """Send the missing files. Where a connection is lost for a moment, the next one resumes; what another run removes is sent again."""
        while True:
            try:
                staging = inspect(self.execute_without_terminal)
                if staging is None:
                    raise streaming.NotStreamedError
                if staging.list_missing(files):
                    connection.tune_for_files(self._connection)
                streaming.send_files(files, staging, self._stream, self.execute)
                return staging
            except (AnsibleConnectionFailure, streaming.VanishedError):
                tries -= 1
                if not tries:
                    raise
                time.sleep(_RETRY_DELAY)

    def _stream(self, command: str, path: str, begin: int) -> streaming.CommandResult:
        with open(path, "rb") as file:
            file.seek(begin)
            with connection.stream_file(self._connection, file) as data:
                return self.execute(command, data)

    def _copy(self, file: streaming.File, folder: str, task_vars: dict[str, t.Any]) -> None:
        """Copy a file over a connection, or as a user, whose commands get no standard input."""
        task = self._task.copy()
        if file.subfolder:
            self.execute(
                f"umask 077; mkdir -p {shlex.quote(f'{folder}/{file.subfolder}')}"
            )  # copy says why, if it fails
        task.args = {"src": file.path, "dest": f"{folder}/{file.place}", "mode": "0600"}
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

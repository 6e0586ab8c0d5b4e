# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import time

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _verify
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verdict import MISFIT
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils import _connection, _delivery, _report
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._node_action import Failed, NodeAction

_TRIES = 3
_PAUSE = 3  # seconds


class ActionModule(NodeAction):
    """Has the node prove that wheels will load there, brings them, and runs the module."""

    def act(self, task_vars):
        arguments = dict(self._task.args)
        files, facts, errors = (arguments.pop(name, None) or [] for name in ("files", "facts", "errors"))
        environment = arguments.pop("environment", None)
        if errors:
            raise TorchExtensionError("\n".join(errors))
        told = {"proofs": self._prove(facts, environment, arguments, task_vars)} if facts else {}
        if files and not self._task.check_mode:  # which may not be on the control node then
            arguments["folder"] = self._deliver(files, arguments, task_vars)
        result = {**self.module("torch_extension", arguments, task_vars), **told}
        mode = arguments.get("mode", "install")
        return {**result, "report": _report.done(arguments["wheels"], result, mode, self._task.check_mode)}

    def _prove(self, facts, environment, arguments, task_vars):
        if arguments.get("verify") == _verify.NONE:
            return []
        asked = {"python": arguments.get("python"), "facts": facts, "environment": environment}
        found = self.module("wheel_proof", asked, task_vars)
        misfits = [
            f"{proof['filename']} does not fit {found['executable']}: it {'; it '.join(proof['reasons'])}."
            for proof in found["proofs"]
            if proof["verdict"] == MISFIT
        ]
        if misfits:
            knobs = (
                "Nothing was copied to this node or changed on it. Knobs: torch_extension_packages (another version),"
                " torch_extension_sources (a wheel that was built for such nodes); torch_extension_verify=none installs it"
                " all the same."
            )
            raise Failed({"failed": True, "msg": "\n".join([*misfits, knobs]), "proofs": found["proofs"]})
        return found["proofs"]

    def _deliver(self, paths, arguments, task_vars):
        """Bring files to the node. Returns the folder that they are in."""
        listed = [*(arguments.get("wheels") or []), *(arguments.get("requirements") or [])]
        digests = {wheel["filename"]: wheel.get("sha256") for wheel in listed}
        files = [_delivery.File(path, digests.get(os.path.basename(path))) for path in paths]
        folder = arguments.get("folder")
        if not folder:
            raise TorchExtensionError("There are files to bring, but folder does not say where on the node to.")
        with contextlib.suppress(_delivery.NotStreamedError):
            if _connection.can_stream(self._connection):
                return self._stream_all(files, folder)
        staging = _delivery.prepare(files, folder, self._execute)
        if staging is None:
            raise TorchExtensionError(
                f"The node runs no command that makes {folder}, where the wheels are to be brought."
            )
        for file in files:
            self._copy(file, staging.folder, task_vars)
        return staging.folder

    def _stream_all(self, files, folder, tries=_TRIES):
        """A connection that is lost for a moment goes on from where it was."""
        while True:
            try:
                # with something on its standard input a command gets no terminal, which some sudo wants
                staging = _delivery.prepare(files, folder, lambda command: self._execute(command, b"\n"))
                if staging is None:
                    raise _delivery.NotStreamedError
                _connection.avoid_compression(self._connection)
                _delivery.send(files, staging, self._stream, self._execute)
                return staging.folder
            except AnsibleConnectionFailure:
                tries -= 1
                if not tries:
                    raise
                time.sleep(_PAUSE)

    def _stream(self, command, path, begin):
        with open(path, "rb") as file:
            file.seek(begin)
            with _connection.streaming(self._connection, file) as data:
                return self._execute(command, data)

    def _execute(self, command, data=None):
        """Run a command of sh(1) on the node, as the user that the task becomes."""
        done = self._low_level_execute_command(command, in_data=data)
        return _delivery.Done(done["rc"], done["stdout"], done["stderr"])

    def _copy(self, file, folder, task_vars):
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
            raise Failed(result)

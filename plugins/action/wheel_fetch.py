# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import ControllerAction


class ActionModule(ControllerAction):
    _supports_diff = False

    arguments: t.ClassVar = {
        "plans": {"type": "dict", "required": True},
        "require_sha256": {"type": "bool", "default": False},
    }

    def run(self, tmp=None, task_vars=None):
        self._task_vars = task_vars or {}
        return super().run(tmp, task_vars)

    def act(self, arguments, context):
        # Ansible imports actions before it forks a process for each node, and what downloads is for this one alone
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import module_archive
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes

        def meanwhile():
            module_archive.build(self, "torch_extension", self._task_vars)  # which comes next

        result = fetch_for_nodes(arguments["plans"], context, predict=self._task.check_mode, meanwhile=meanwhile)
        return {"changed": bool(result["downloads"]), **result}

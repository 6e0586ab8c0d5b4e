# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import ControlNodeAction

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext


class ActionModule(ControlNodeAction):
    _supports_diff = False

    arguments: t.ClassVar[dict[str, t.Any]] = {
        "plans": {"type": "dict", "required": True},
        "require_sha256": {"type": "bool", "default": False},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        self._task_vars = task_vars or {}
        return super().run(tmp, task_vars)

    def perform(self, arguments: t.Mapping[str, t.Any], context: DownloadContext) -> dict[str, t.Any]:
        # Ansible imports actions before it forks a process for each node, and what downloads is for this one alone
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.module_archive import (
            build_module_archive,
        )
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes

        def build_archive() -> None:
            build_module_archive(self, "torch_extension", self._task_vars)  # which comes next

        is_prediction = self._task.check_mode
        result = fetch_for_nodes(arguments["plans"], context, predict=is_prediction, meanwhile=build_archive)
        return {"changed": bool(result["downloads"]) and not is_prediction, **result}

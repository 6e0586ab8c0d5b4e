# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import ControlNodeAction

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext


class ActionModule(ControlNodeAction):
    _supports_diff = True

    arguments: t.ClassVar[dict[str, t.Any]] = {
        "plans": {"type": "dict", "required": True},
        "path": {"type": "path", "required": True},
        "skip_refused": {"type": "bool", "default": False},
    }

    def perform(self, arguments: t.Mapping[str, t.Any], context: DownloadContext) -> dict[str, t.Any]:
        # Ansible imports actions before it forks a process for each node, and what downloads is for this one alone
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_writing import write_lock

        return write_lock(
            arguments["plans"],
            os.path.realpath(arguments["path"]),
            context,
            predict=self._task.check_mode,
            skip_refused=arguments["skip_refused"],
        )

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.plain_types import to_plain_types
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.outcome import conclude
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import plan_builds

_ARGUMENTS = {"plans": {"type": "dict", "required": True}}


class ActionModule(ActionBase):
    """Runs on the control node alone, and reads nothing but what it is given."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)

        def perform() -> dict[str, t.Any]:
            builds = plan_builds(to_plain_types(arguments["plans"]))
            return {"changed": False, "builds": [build._asdict() for build in builds.builds], "refused": builds.refused}

        return conclude(self._task.action, perform)

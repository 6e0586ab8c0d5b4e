# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import INSTALL, MODES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import node_plan
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.requirement_list import (
    whole_requirements,
)

_ARGUMENTS = {
    "python": {"type": "raw"},  # it and the folder are the node's, which reads them
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "stage_dir": {"type": "raw"},
    "distributions": {"type": "list", "elements": "str", "default": []},
    "sdists": {"type": "list", "elements": "str", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "mode": {"type": "str", "choices": MODES, "default": INSTALL},
    "sdist_url": {"type": "raw"},
}


class ActionModule(NodeAction):
    """Has the node run the module, and tell all that a plan for some packages needs."""

    _supports_async = True

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        packages, mode, sdist_url = (arguments.pop(name) for name in ("packages", "mode", "sdist_url"))
        if packages:
            wanted = node_plan.probe_options(whole_requirements(packages), mode, sdist_url)
            arguments["distributions"] += wanted.distributions
            arguments["sdists"] += wanted.sdists
        given = {name: value for name, value in arguments.items() if value is not None}
        return self.run_module("torch_info", given, task_vars)

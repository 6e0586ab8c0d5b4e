# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import MATCHES, PROVEN
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import verification
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import parse_requirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.requirement_list import (
    whole_requirements,
)

_ARGUMENTS = {
    "python": {"type": "str", "required": True},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "verify": {"type": "str", "choices": trial.METHODS, "default": "auto"},
    "devices": {"type": "list", "elements": "str", "default": []},
    "match": {"type": "str", "choices": MATCHES, "default": PROVEN},
}


class ActionModule(NodeAction):
    """Runs the module, and adds what only the control node can tell: whether packages are the wanted ones, and fit by their names."""

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        if not setup_py.HAS_PACKAGING:
            raise AnsibleActionFail("torch_verify needs packaging on the control node. See requirements.txt.")
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        wanted = whole_requirements(arguments["packages"])
        for term in wanted:
            parse_requirement(term)  # refused before the node is asked
        asked = {name: arguments[name] for name in ("python", "trusted_owners", "verify", "devices")}
        result = self.run_module("torch_verify", asked, task_vars)
        environment = result["environment"]
        packages = verification.judge_packages(result["packages"], wanted, environment, arguments["match"])
        broken = [package for package in packages if not package["ok"]]
        warnings = [f"BROKEN: {verification.describe_name(each)}: {each['reasons'][0]}" for each in broken]
        return {
            **result,
            "ok": not broken,
            "packages": packages,
            "report": verification.report_packages(packages, environment),
            "warnings": [*result.get("warnings", []), *warnings],
        }

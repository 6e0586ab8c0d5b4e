# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import setup_py
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, selection
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import require_ansible_core
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import coupling_check


class ActionModule(ActionBase):
    """Runs the module, and reports each wheel that was built for another torch than the node has by now, or is not used."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        try:
            require_ansible_core()
        except TorchExtensionError as exc:
            return {"failed": True, "msg": str(exc)}
        if not setup_py.HAS_PACKAGING:
            return {
                "failed": True,
                "msg": "torch_verify needs packaging on the control node. See requirements.txt.",
            }
        connection.enable_pipelining(self._connection, self._task, task_vars or {})
        result = self._execute_module(task_vars=task_vars)
        match = self._task.args.get("match", selection.PROVEN)
        unused = coupling_check.find_unused(result["environment"]) if "environment" in result else []
        for package in result.get("packages", []):
            package["reasons"] = [*_explain_mismatches(package, result["environment"], match), *package["reasons"]]
            package["ok"] = not package["reasons"]
            package["remarks"] = [each.reason for each in unused if each.name == package["name"]]
            result["ok"] = result["ok"] and package["ok"]
        return result


def _explain_mismatches(package: dict[str, t.Any], environment: dict[str, t.Any], match: str) -> list[str]:
    """Why the wheel that a package was installed from is not for the environment. What was built there has no label."""
    if environment["torch"] is None:
        return ["it needs torch, and the environment has none"]
    if package["filename"] is None:
        return []
    asset = judging.Asset(package["filename"], url="")
    return [
        f"of the wheel it was installed from, {mismatch}"
        if mismatch.sentence
        else f"the wheel it was installed from is for {mismatch.part} {mismatch.wanted}, this node has {mismatch.found}"
        for candidate in judging.judge_wheels(package["name"], [asset], environment).candidates
        for mismatch in candidate.mismatches
        if match == selection.EXACT or mismatch.part not in ("torch", "label")  # whether it loads here was tried
    ]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._carry import write_bundle
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._download import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._http import proxied


class ActionModule(ActionBase):
    """Runs where Ansible runs, as the user who runs it, whatever the play says of become and connection."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "lock": {"type": "path", "required": True},
                "dest": {"type": "path", "required": True},
                "cache_dir": {"type": "path"},
                "proxy": {"type": "str"},
                "ca_path": {"type": "path"},
            }
        )
        try:
            with proxied(arguments["proxy"]):
                return write_bundle(
                    path=os.path.realpath(arguments["lock"]),
                    dest=os.path.realpath(arguments["dest"]),
                    cache=arguments["cache_dir"] or default_cache(),
                    ca_path=arguments["ca_path"],
                    predict=self._task.check_mode,
                )
        except TorchExtensionError as exc:
            raise AnsibleActionFail(str(exc)) from exc

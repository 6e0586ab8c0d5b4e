# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._download import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._fetch import fetch
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._http import proxied
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._progress import Progress, Silence


def _columns() -> int | None:
    """The width of the terminal that Ansible writes to; None if that is something else."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return None
    return None if os.environ.get("TERM", "dumb") == "dumb" else columns or 80


# Ansible imports this before it forks the process that runs the action, which is cut off from the terminal.
_COLUMNS = _columns()


class ActionModule(ActionBase):
    """Runs where Ansible runs, as the user who runs it, whatever the play says of become and connection."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "plans": {"type": "dict", "required": True},
                "cache_dir": {"type": "path"},
                "proxy": {"type": "str", "no_log": True},
                "ca_path": {"type": "path"},
                "require_sha256": {"type": "bool", "default": False},
                "progress": {"type": "bool", "default": True},
            }
        )
        try:
            with proxied(arguments["proxy"]):
                result = fetch(
                    arguments["plans"],
                    cache=arguments["cache_dir"] or default_cache(),
                    ca_path=arguments["ca_path"],
                    predict=self._task.check_mode,
                    require_sha256=arguments["require_sha256"],
                    progress=Progress(_say, _COLUMNS) if arguments["progress"] else Silence(),
                )
        except TorchExtensionError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return {"changed": bool(result["downloads"]), **result}


def _say(text: str, newline: bool) -> None:
    """To the operator, by way of Ansible's main process; not to its log file."""
    Display().display(text, screen_only=True, newline=newline)

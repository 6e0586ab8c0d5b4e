# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Base of the actions that bring files to the control node."""

from __future__ import annotations

import os
import sys
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.plain_types import to_plain_types
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import require_ansible_core
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.outcome import conclude
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress

#: argument_spec of what downloads (doc fragment ``_control_node``)
DOWNLOAD_ARGUMENTS = {
    "cache_dir": {"type": "path"},
    "proxy": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "progress": {"type": "bool", "default": True},
}


def _terminal_columns() -> int | None:
    """The width of the terminal that Ansible writes to; None if that is something else."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return None
    return None if os.environ.get("TERM", "dumb") == "dumb" else columns or 80


# Ansible imports this before it forks the process that runs the action, which is cut off from the terminal.
_COLUMNS = _terminal_columns()


class ControlNodeAction(ActionBase):
    """Runs where Ansible runs, as the user who runs it, whatever the play says of become and connection."""

    _requires_connection = False
    _supports_check_mode = True

    arguments: t.ClassVar[dict[str, t.Any]] = {}  # an argument_spec, beside the options that all these actions have

    def perform(self, arguments: t.Mapping[str, t.Any], context: DownloadContext) -> dict[str, t.Any]:
        """Do the action's work, with the proxy set.

        :returns: the task's result
        :raises TorchExtensionError: if the task fails
        """
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        # Ansible imports actions before it forks a process for each node, and what downloads is for this one alone
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext

        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec({**DOWNLOAD_ARGUMENTS, **self.arguments})
        arguments = to_plain_types(arguments)

        def perform() -> dict[str, t.Any]:
            require_ansible_core()
            context = DownloadContext(
                cache=locate_cache(arguments["cache_dir"]),
                ca_path=arguments["ca_path"],
                require_sha256=arguments.get("require_sha256", False),
                progress=make_progress(arguments["progress"]),
            )
            with use_proxy(arguments["proxy"]):
                return self.perform(arguments, context)

        return conclude(self._task.action, perform)


def make_progress(is_shown: bool) -> Progress:
    """Make what shows the operator how far the downloads are, or what shows nothing."""
    # tqdm is for downloads alone
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import (
        Progress,
        ProgressDisplay,
    )

    return ProgressDisplay(_display, _COLUMNS) if is_shown else Progress()


def _display(text: str, newline: bool) -> None:
    """Show a text to the operator, by way of Ansible's main process, but not in its log file."""
    Display().display(text, screen_only=True, newline=newline)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""How actions and lookups end: one place for what may go wrong, and for what is shown of it."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleLookupError

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import make_visible


def conclude(action: str, perform: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    """The result of a task, with nothing in its texts that a terminal would obey.

    :param action: its name, for messages
    :param perform: does the action's work. A TorchExtensionError is the failure of the task, and so is whatever a library raises
    """
    try:
        with explain_unforeseen(f"The task {action}"):
            result = perform()
    except TorchExtensionError as exc:
        # a result, for of an exception Ansible says more than that (to ansible-core 2.18)
        result = {"failed": True, "msg": str(exc)}
    return t.cast("dict[str, t.Any]", make_visible(result))


def answer_lookup(name: str, look_up: t.Callable[[], list[dict[str, t.Any]]]) -> list[dict[str, t.Any]]:
    """The answers of a lookup, with nothing in their texts that a terminal would obey.

    :param name: its name, for messages
    :raises AnsibleLookupError: for a TorchExtensionError, and for whatever a library raises
    """
    try:
        with explain_unforeseen(f"The lookup {name}"):
            return t.cast("list[dict[str, t.Any]]", make_visible(look_up()))
    except TorchExtensionError as exc:
        raise AnsibleLookupError(make_visible(str(exc))) from exc

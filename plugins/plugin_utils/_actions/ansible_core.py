# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The ansible-core that runs the actions."""

from __future__ import annotations

from ansible.release import __version__

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

OLDEST = (2, 16)  # as requires_ansible in meta/runtime.yml, which Ansible itself only warns of


def require_ansible_core(version: str = __version__) -> None:
    """
    :raises TorchExtensionError: if the ansible-core of the control node is older than those that the collection is tested with
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < OLDEST:
        raise TorchExtensionError(
            f"The control node runs ansible-core {version}, wanted is {'{}.{}'.format(*OLDEST)} or newer. Nothing was changed."
            " Upgrade it there, or run the playbook from an environment that has one."
        )

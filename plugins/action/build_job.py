# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleAction


class ActionModule(ModuleAction):
    """Has the node run the module."""

    module = "build_job"

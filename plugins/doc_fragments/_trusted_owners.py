# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  trusted_owners:
    description:
      - Users of the node, by name or number, who may change what root runs there and folders above those that wheels are brought to;
        groups with V(%) before the name, as in V(%admins). Whoever is named here can become root.
      - Without them, a task that is root's runs no interpreter that anybody else owns or may write to, and no task brings wheels to
        a folder below one that anybody but its user and root may change.
    type: list
    elements: str
    default: []
"""

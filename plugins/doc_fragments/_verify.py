# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  verify:
    type: str
    choices: [auto, gpu, import, none]
    default: auto
  devices:
    description:
      - Torch's names of the devices for O(verify=gpu), such as V(cuda:0). Without any, all GPUs.
      - V(cpu) is for tests, and for packages that compute there.
    type: list
    elements: str
    default: []
"""

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return a truthful prediction of what would change.
    support: full
  diff_mode:
    description: Returns what has changed, or would change, in C(diff) mode.
    support: full
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return a truthful prediction of what would change.
    support: full
    details:
      - It only reads.
  diff_mode:
    description: Returns what has changed, or would change, in C(diff) mode.
    support: N/A
    details:
      - It changes nothing.
"""

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  cache_dir:
    description:
      - The folder of the control node that keeps what was downloaded, and what servers have answered. It is made, readable for
        its owner alone, if it is not there. One that others than the user who runs Ansible, and root, may change is refused.
      - Without it, C($XDG_CACHE_HOME/airgap.torch_extensions) or C(~/.cache/airgap.torch_extensions).
    type: path
  proxy:
    description:
      - A proxy for all that the control node asks and downloads, as in V(http://proxy.example:3128). What C(no_proxy) in the
        environment of Ansible names is reached without it.
      - Without it, C(http_proxy) and C(https_proxy) of that environment are used.
    type: str
  ca_path:
    description:
      - A file of CA certificates (PEM) on the control node to trust for the servers of wheels, instead of the usual ones. pip has
        its own setting.
    type: path
"""

    PROGRESS = r"""
options:
  progress:
    description:
      - Whether to show how far the downloads are; in a terminal in one line that changes in place, elsewhere in a line for each
        file every 30 seconds, the first after 10. It is not written to the log file of Ansible.
    type: bool
    default: true
"""

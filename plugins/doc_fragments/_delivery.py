# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  delivery:
    description:
      - In which way wheels are brought to the node, and what that way needs. An empty text is as good as none.
    type: dict
    suboptions:
      ways:
        description:
          - The ways, in the order in which they are tried. Where one does not serve the node, a warning says why, and the next one
            is tried.
          - V(copy) is Ansible's own connection, from the control node to each node.
          - V(shared) writes them once to each file system that nodes share, by way of the first node that wants them. All read
            them there.
          - V(pull) has each node fetch them from a server inside the gap, to which the control node uploads what is not there.
          - V(slurm) is what M(airgap.torch_extensions.wheel_broadcast) has brought. It can only be the first.
        type: list
        elements: str
        choices: [copy, shared, pull, slurm]
        default: [copy]
      shared_dir:
        description:
          - For V(shared), a folder on the shared file system, as the node sees it. It must be there. The wheels are kept in its folder
            C(airgap.torch_extensions), which is the user's alone, each in one that is named after its hash.
        type: str
      pull_url:
        description:
          - For V(pull), a folder on an HTTP(S) server that the node reaches, in which files have their own names. Where one is
            not there, the control node puts it there (C(PUT)).
        type: str
      pull_ca_path:
        description:
          - For V(pull), a file of CA certificates (PEM) on the control node, to trust for this server instead of the usual ones. Its
            text is given to the node.
        type: path
      slurm_host:
        description:
          - For V(slurm), the host of the inventory on which Slurm's commands run.
        type: str
      slurm_node:
        description:
          - For V(slurm), what Slurm calls the node.
        type: str
"""

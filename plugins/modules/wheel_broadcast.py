#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, by commands on the machine of its task.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_broadcast
short_description: Have Slurm bring wheels to its compute nodes
version_added: 0.1.0
description:
  - Brings files of the control node to a machine of a Slurm cluster, once, and has Slurm's own C(sbcast) bring them from there to
    compute nodes, within an allocation of these nodes. Run it with C(run_once), on a machine that has Slurm's commands
    (C(delegate_to)).
  - It is the first half of a delivery; the second is M(airgap.torch_extensions.torch_extension) on each node, as the same user as
    the job's.
  - Each set of files makes a job of its own, one after the other. In a job each node first makes the folder, for the user alone, and
    looks for room. A node that has the files already is left out.
  - A node that Slurm has down or drained, that it does not know, or whose disk is full is told with the reason, and the others are
    served without it.
  - On a node a file has its name once all of it is there. Nothing stays on the machine from which Slurm brings them.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  plans:
    description:
      - For each node its name and what M(airgap.torch_extensions.wheel_plan) returned for it. Nodes that are not served by Slurm
        first, or by another O(slurm_host), are left out.
    type: dict
    required: true
  fetched:
    description:
      - What M(airgap.torch_extensions.wheel_fetch) returned as C(nodes).
    type: dict
    required: true
  slurm_host:
    description:
      - What the plans call the machine of this task.
    type: str
    required: true
  stage_dir:
    description:
      - The folder on that machine that the files are brought to first. It is made for the user alone if it is not there.
    type: str
    required: true
  cache_dir:
    description:
      - Folder on the control node in which processes see to it that one of them at a time uses O(slurm_host). Without it, as in
        M(airgap.torch_extensions.wheel_fetch).
    type: path
  options:
    description:
      - More options of C(salloc), each a word of its own, as in V(--partition=gpu). A job may take 30 minutes, unless C(--time)
        says otherwise.
    type: list
    elements: str
    default: []
  wait:
    description:
      - Seconds after which a job that has not got its nodes is given up.
    type: int
    default: 60
  fanout:
    description:
      - To how many nodes each node passes on what it gets; with V(0), as Slurm is configured (C(TreeWidth)).
    type: int
    default: 2
seealso:
  - module: airgap.torch_extensions.wheel_plan
  - module: airgap.torch_extensions.wheel_fetch
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Bring the wheels of all nodes through Slurm
  airgap.torch_extensions.wheel_broadcast:
    plans:
      node1: "{{ hostvars.node1.planned }}"
      node2: "{{ hostvars.node2.planned }}"
    fetched: "{{ fetched.nodes }}"
    slurm_host: login1
    stage_dir: ~/.cache/airgap.torch_extensions.login1
    options: [--partition=gpu, --account=ops]
  register: broadcast
  run_once: true
  delegate_to: login1
"""

RETURN = r"""
nodes:
  description:
    - For each node that was to be served, C(reason), why it was not; nothing if it has the files now, or would have in check mode.
  returned: success
  type: dict
  sample:
    node1:
      reason:
    node2:
      reason: Slurm on login1 has node2 as drained (bad GPU). Have it resumed. Or set torch_extension_delivery to [slurm, copy],
        or to copy for this node.
"""

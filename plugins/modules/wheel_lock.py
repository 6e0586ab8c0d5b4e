#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_lock
short_description: Write down for each kind of node the exact files that it gets
version_added: 0.1.0
description:
  - Takes the plans of all nodes, downloads what they name to learn its hashes and what it requires, and writes a lock; for each
    kind of node the exact files, URLs, sizes, SHA-256 hashes, and why.
  - The lock is made for review in git. Its order is stable, it holds no dates, no names of nodes and none of their paths, and
    the same input gives the same bytes.
  - All that the wheels require, directly or not, is locked as well, but for torch; whether a node has it already or not. It has no
    URL, and comes from whatever index the control node's C(pip) has, by its hash. A file that is in the cache of the control node
    and meets the requirement is preferred to a newer one on the index.
  - A requirement of which the index has no wheel is left out with a warning, if all nodes of that kind have it; otherwise it is an
    error.
  - Nothing is written if one node was refused or its plan has conflicts, unless O(skip_refused) is true; or if one file cannot be had.
  - It runs on the control node as the user who runs Ansible, whatever C(become), C(delegate_to) and C(connection) say, and
    touches no node. Run it with C(run_once).
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging, pip and requests on the control node
extends_documentation_fragment:
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._control_node.progress
  - airgap.torch_extensions._attributes
attributes:
  check_mode:
    details:
      - No file is downloaded. What the wheels require is read from the wheels where they are, and from the index. Hashes and sizes
        that only the download would tell are taken from the lock that is there, if it has these files; a warning names them.
options:
  plans:
    description:
      - For each node its name and a dictionary with C(environment), from
        RV(airgap.torch_extensions.torch_info#module:environment) with all its distributions; and C(wheels), a list from the
        lookup P(airgap.torch_extensions.wheel#lookup).
      - For a node that could not be planned for, C(refused) in place of these is the reason.
      - Where one node stands for several that are alike, C(nodes) are the names of all.
    type: dict
    required: true
  path:
    description:
      - The file to write. A relative path is relative to the folder in which Ansible was started.
    type: path
    required: true
  skip_refused:
    description:
      - Whether to leave out the nodes that were refused or whose plans have conflicts, and lock the others.
      - A file that cannot be downloaded is an error in any case.
    type: bool
    default: false
seealso:
  - module: airgap.torch_extensions.wheel_bundle
  - module: airgap.torch_extensions.wheel_fetch
  - plugin: airgap.torch_extensions.wheel
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Lock what two nodes need
  airgap.torch_extensions.wheel_lock:
    plans:
      node1:
        environment: "{{ hostvars.node1.probe.environment }}"
        wheels: "{{ hostvars.node1.plan }}"
      node2:
        environment: "{{ hostvars.node2.probe.environment }}"
        wheels: "{{ hostvars.node2.plan }}"
    path: wheels.lock.yml
  run_once: true
"""

RETURN = r"""
path:
  description: The absolute path of the lock.
  returned: success
  type: str
  sample: /home/user/cluster/wheels.lock.yml
environments:
  description: The number of kinds of nodes in it.
  returned: success
  type: int
  sample: 2
files:
  description: The number of distinct files in it. In check mode, of those that are known.
  returned: success
  type: int
  sample: 3
size:
  description: The bytes that these have together.
  returned: success
  type: int
  sample: 256043921
left_out:
  description: The nodes that are not in it because of O(skip_refused); by reason, each with C(nodes) and C(reason).
  returned: success
  type: list
  elements: dict
  sample: []
report:
  description: What was written and what is in it, and which nodes were left out, in words for people, a line a fact.
  returned: success
  type: list
  elements: str
  sample: ["/home/user/cluster/wheels.lock.yml was written: 2 kinds of nodes, 3 wheels, 256.0 MB (256043921 bytes)"]
downloads:
  description: What came over the network in this run, or would in check mode; each with C(url) and C(size) (bytes).
  returned: success
  type: list
  elements: dict
  sample: []
"""

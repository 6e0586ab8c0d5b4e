#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_bundle
short_description: Put all that a lock names into one folder or tar
version_added: 0.1.0
description:
  - Makes a folder or a tar with the wheels of a lock, what they require, the lock itself, a bill of materials (CycloneDX JSON),
    C(SHA256SUMS) and a C(README.txt), to be carried to where there is no network.
  - Files come from the cache of the control node, or else from where the lock says; what the wheels require comes from the index
    of the control node's C(pip). Each has the hash of the lock.
  - It is made beside its place and put there when it is whole. What is in the bundle already is not fetched again; what the lock
    no longer names goes. Anything else that is in the way stays, and is an error.
  - The same lock gives the same bytes. The bill of materials has no time of its own, but that of C(SOURCE_DATE_EPOCH) if this is
    set in the environment of Ansible.
  - It runs on the control node as the user who runs Ansible, whatever C(become), C(delegate_to) and C(connection) say, and
    touches no node. Run it with C(run_once), or on C(localhost).
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - cyclonedx-python-lib, packaging, pip and requests on the control node
extends_documentation_fragment:
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._control_node.progress
  - airgap.torch_extensions._attributes
options:
  lock:
    description:
      - The lock, as M(airgap.torch_extensions.wheel_lock) writes it. A relative path is relative to the folder in which Ansible
        was started.
    type: path
    required: true
  dest:
    description:
      - The folder to make, or the tar, if the name ends in C(.tar). A relative path is relative to the folder in which Ansible was
        started.
    type: path
    required: true
seealso:
  - module: airgap.torch_extensions.wheel_lock
"""

EXAMPLES = r"""
- name: Make a tar to carry
  airgap.torch_extensions.wheel_bundle:
    lock: wheels.lock.yml
    dest: bundle.tar
  run_once: true
"""

RETURN = r"""
path:
  description: The absolute path of the bundle.
  returned: success
  type: str
  sample: /home/user/cluster/bundle.tar
files:
  description: The names of the files in it.
  returned: success
  type: list
  elements: str
  sample:
    - README.txt
    - SHA256SUMS
    - bom.cdx.json
    - requirements/einops-0.8.2-py3-none-any.whl
    - wheels.lock.yml
    - wheels/flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
size:
  description: The bytes of the wheels in it and of what these require.
  returned: success
  type: int
  sample: 256043921
report:
  description: What was written and what is in it, in words for people, a line a fact.
  returned: success
  type: list
  elements: str
  sample: ["/home/user/cluster/bundle.tar was written: 2 kinds of nodes, 3 wheels, 256.0 MB (256043921 bytes)"]
downloads:
  description: What came over the network in this run; each with C(url) and C(size) (bytes).
  returned: success
  type: list
  elements: dict
  sample: []
"""

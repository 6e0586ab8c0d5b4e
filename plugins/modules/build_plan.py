#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: build_plan
short_description: Choose which wheels to build for a fleet, and where
version_added: 0.1.0
description:
  - Takes together what the plans of nodes have to be built, so that each distinct wheel is built once, for the GPUs of all nodes that
    want it.
  - Chooses the machine for each. Where the plans leave that open, it is the node with the oldest glibc among those that can compile,
    and of these the one with the most cores free; for nodes of a survey it is the control node.
  - It reads nothing but the plans. Run it with C(run_once).
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._attributes.info_module
options:
  plans:
    description:
      - For each node its name and what M(airgap.torch_extensions.wheel_plan) returned for it. Nodes that have a built wheel already count
        for the GPUs.
    type: dict
    required: true
seealso:
  - module: airgap.torch_extensions.wheel_plan
  - module: airgap.torch_extensions.wheel_build
"""

EXAMPLES = r"""
- name: Choose what to build for two nodes
  airgap.torch_extensions.build_plan:
    plans:
      node1: "{{ hostvars.node1.planned }}"
      node2: "{{ hostvars.node2.planned }}"
  register: chosen
  run_once: true
"""

RETURN = r"""
builds:
  description:
    - What to build, as M(airgap.torch_extensions.wheel_build) wants it. C(builder) is the host to build on, and C(nodes) are those that
      want the wheel.
  returned: success
  type: list
  elements: dict
refused:
  description: For nodes whose wheels can be built nowhere, why not.
  returned: success
  type: dict
  sample:
    node1:
      - "causal-conv1d 1.7.0 has to be built, and no node that wants it can do that (node1: no C++ compiler (g++)). Install what is missing
        on one of them, or name another machine in torch_extension_builder."
"""

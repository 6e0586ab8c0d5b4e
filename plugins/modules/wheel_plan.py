#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work: it asks the node, and decides on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_plan
short_description: Find out what a node has, and choose its wheels
version_added: 0.1.0
description:
  - Asks the node what it has, as M(airgap.torch_extensions.torch_info) does, and decides on the control node what it gets, as the
    lookup P(airgap.torch_extensions.wheel#lookup) does, in one task and mostly in one round trip.
  - Where what the node has does not tell whether a wheel is there, it looks closer, as M(airgap.torch_extensions.torch_extension) does
    in check mode.
  - With O(match=proven) it downloads wheels of which nothing but the node can tell whether they serve to the cache of the control
    node where it has to, and has the node prove them. Otherwise nothing is downloaded, and a node is never changed.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging, requests and jmespath on the control node; with O(match=proven) also pyelftools, tqdm and urllib3
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._control_node.progress
  - airgap.torch_extensions._environment
  - airgap.torch_extensions._sources
  - airgap.torch_extensions._delivery
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  packages:
    description:
      - Requirements (PEP 508) of known packages, as in V(flash-attn==2.8.3), V(flash-attn>=2.7,<2.9) or V(flash-attn).
      - One that leaves a choice means what is installed, if it meets it and fits the torch that is there; otherwise the newest
        version that has a wheel that fits.
      - In a string they are separated by commas, as in V(flash-attn>=2.7,<2.9,causal-conv1d). A part that begins with an operator
        belongs to the requirement before it.
      - What is installed and not whole (RV(airgap.torch_extensions.torch_info#module:environment.damage)) is replaced, by a wheel of the
        same version if a O(source) still has one.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(absent) finds out what is to be removed so that O(packages) are not there, whatever version these ask for. Then only the
        node is asked, no source and no lock.
    type: str
    choices: [present, absent]
    default: present
  python:
    default: python3
  environment:
    description:
      - What M(airgap.torch_extensions.torch_info) returned for the node at another time. Then the node is not asked, and nothing is
        proven.
    type: dict
  mode:
    description:
      - How the wheels will be installed, as in O(airgap.torch_extensions.torch_extension#module:mode).
    type: str
    choices: [install, pip_cache, find_links]
    default: install
  choose:
    description:
      - Whether to choose wheels. If not, no source is asked, and C(conflicts) in RV(plan) tell only what no choice can change, such as
        an environment without torch. RV(environment), RV(plan) and an empty RV(wheels) are returned then.
    type: bool
    default: true
  refuse:
    description:
      - Whether to fail where the node cannot have what it shall have. If not, C(conflicts) in RV(plan) tells.
    type: bool
    default: true
  sdist_url:
    description:
      - For O(mode=pip_cache), the file URL of the package's sdist on the index that the node uses, C(#sha256=…) included; with
        several packages, a dictionary from the package's name to its URL.
      - Without it, the node's own pip is asked, for requirements that pin a version.
    type: raw
  reinstall:
    description:
      - Whether what is there is replaced all the same, as with O(airgap.torch_extensions.torch_extension#module:reinstall). With
        O(mode=install), a requirement that leaves a choice means then the version that is installed, if it meets it and fits the torch
        that is there and a O(source) still has a wheel of it; unless O(upgrade) is true.
    type: bool
    default: false
  builder:
    description:
      - Where wheels are built, for M(airgap.torch_extensions.build_plan); a host of the inventory, V(slurm) for a machine that Slurm
        allocates, or empty, so that a node is chosen that can. Then RV(machine) tells what this one has for it.
    type: str
    default: ""
  build_dir:
    description: The folder on the node in which it would be built.
    type: str
    default: ~/.cache/airgap.torch_extensions.build
  build_module:
    description: An environment module to load on the node for it, such as V(cuda/13.0).
    type: str
    default: ""
  locking:
    description:
      - Whether the wheels themselves are wanted, for a lock or for nodes that are set up later. What is installed stands for none of them
        then, and of what O(packages) leave open the newest is taken, as with O(upgrade).
    type: bool
    default: false
  unfit:
    description:
      - Wheels that M(airgap.torch_extensions.torch_extension) has found unfit for the node in this run, as in
        RV(airgap.torch_extensions.torch_extension#module:unfit). The next one is chosen.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: Where the wheel is.
        type: str
        required: true
      filename:
        description: File name of the wheel.
        type: str
        required: true
      reason:
        description: Why it does not serve the node.
        type: str
        required: true
  stage_dir:
    description:
      - The folder on the node that the wheels will be brought to. RV(staged) tells what earlier runs have left in it.
    type: str
  keep_files:
    description:
      - Whether whole wheels are to stay in O(stage_dir), as with O(airgap.torch_extensions.torch_extension#module:keep_files).
    type: bool
    default: false
seealso:
  - module: airgap.torch_extensions.torch_info
  - plugin: airgap.torch_extensions.wheel
    plugin_type: lookup
  - module: airgap.torch_extensions.wheel_fetch
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Plan
  airgap.torch_extensions.wheel_plan:
    packages: [flash-attn==2.8.3]
    python: /opt/venv
  register: planned

- name: Show what would be done
  ansible.builtin.debug:
    msg: "{{ item.filename }}: {{ item.action }}, for {{ item.reason }}"
  loop: "{{ planned.plan }}"
"""

RETURN = r"""
environment:
  description: As in RV(airgap.torch_extensions.torch_info#module:environment); with O(state=absent) without GPUs and driver.
  returned: success
  type: dict
plan:
  description:
    - One dictionary for each of O(packages), as the lookup P(airgap.torch_extensions.wheel#lookup) returns it.
    - C(action) is V(keep), V(install) or V(replace); V(build) where the wheel has to be built first; V(refuse) with O(refuse=false);
      and V(examine) where O(environment) was given and does not tell.
  returned: success
  type: list
  elements: dict
wheels:
  description: Those of RV(plan) that the node has to get, as M(airgap.torch_extensions.wheel_fetch) wants them.
  returned: success
  type: list
  elements: dict
builds:
  description: Those of RV(plan) that were built, or have to be, as M(airgap.torch_extensions.build_plan) wants them.
  returned: success
  type: list
  elements: dict
  sample: []
builder:
  description: The option O(builder).
  returned: success
  type: str
  sample: ""
machine:
  description:
    - What the node has for building, as RV(airgap.torch_extensions.build_job#module:machine), where anything has to be built and O(builder) is
      empty.
  returned: success
  type: dict
  sample:
removals:
  description:
    - With O(state=absent), the names of O(packages), if the node has anything to remove or to clear away, as
      O(airgap.torch_extensions.torch_extension#module:packages) wants them. Otherwise empty.
  returned: success
  type: list
  elements: str
  sample: []
requirements:
  description: Whether what RV(wheels) require is wanted, too, as M(airgap.torch_extensions.wheel_fetch) wants to know.
  returned: success
  type: bool
  sample: true
unfit:
  description: The option O(unfit).
  returned: success
  type: list
  elements: dict
  sample: []
staged:
  description:
    - Files that earlier runs have left in O(stage_dir), as O(airgap.torch_extensions.torch_extension#module:staged) wants them; parts
      of any wheel, and without O(keep_files) those wheels of RV(plan) that are there.
  returned: success
  type: list
  elements: str
  sample: [.flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl.5a176a0589635270.part]
delivery:
  description: The option O(delivery), checked, for M(airgap.torch_extensions.torch_extension).
  returned: success
  type: dict
  sample: {ways: [copy]}
stage_dir:
  description: The option O(stage_dir), for M(airgap.torch_extensions.wheel_broadcast).
  returned: success
  type: str
  sample: ~/.cache/airgap.torch_extensions.node1
report:
  description: What was found, and what is there already, in words for people, a line a fact.
  returned: success
  type: list
  elements: str
  sample:
    - "found: Python 3.11.2 (/opt/venv/bin/python), torch 2.8.0+cu126, CUDA 12.6, C++11 ABI True, x86_64, GPUs: NVIDIA H200"
"""

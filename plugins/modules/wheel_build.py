#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, by modules and commands on the machine of its task.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_build
short_description: Build a wheel on a machine without internet, and bring it to the control node
version_added: 0.1.0
description:
  - Downloads to the control node what a build takes; the sdist, the wheels of its build requirements, NVIDIA's compiler where the builder
    has none for the CUDA of torch, and torch where the builder has no such one. Brings it to the machine of the task, and has
    M(airgap.torch_extensions.build_job) build the wheel there. Run it with C(delegate_to).
  - It follows the build until it ends. The build goes on without it, so a lost connection does no harm; another run finds a build that runs
    and waits for it, and one that was killed goes on from what is compiled.
  - The wheel comes to the cache of the control node, where O(airgap.torch_extensions.wheel_plan#module:source) V(build) finds it, with a
    record of how it was built. Nothing of the build stays on the machine.
  - Two processes of one control node that want the same wheel build it once.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._control_node.progress
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  build:
    description:
      - One of what M(airgap.torch_extensions.build_plan) returned. Its C(builder) is the machine of this task.
    type: dict
    required: true
  python:
    description:
      - The interpreter or environment on the machine whose torch is compiled against, if that is like the torch of the nodes.
    type: str
    default: python3
  folder:
    description: The folder on the machine in which it is built.
    type: str
    default: ~/.cache/airgap.torch_extensions.build
  module:
    description: An environment module to load there, such as V(cuda/13.0).
    type: str
    default: ""
  cuda:
    description:
      - A mirror or a folder of the control node with NVIDIA's redistributable archives and their manifests. Without it, they come from NVIDIA's
        own address for CUDA 12, and for CUDA 13 wheels come from the index of the control node's pip.
    type: str
    default: ""
  jobs:
    description: How many compilers run at once; with V(0), as many as cores and memory allow.
    type: int
    default: 0
  time_limit:
    description: Minutes that the build may take.
    type: int
    default: 240
  slurm_options:
    description: Options of C(sbatch), each a word of its own, where Slurm allocates the machine for the build.
    type: list
    elements: str
    default: []
  github_url:
    description: Where GitHub is, or a mirror, for archives of tags where an sdist lacks what is compiled.
    type: str
    default: https://github.com
  place_urls:
    description: Mirrors of known places by name; V(pytorch) has builds of torch for each CUDA.
    type: dict
    default: {}
  sha256:
    description: Known SHA-256 hashes of sdists and archives, by URL or by file name.
    type: dict
    default: {}
  require_sha256:
    description: Whether an archive whose hash nobody tells is refused.
    type: bool
    default: false
seealso:
  - module: airgap.torch_extensions.build_plan
  - module: airgap.torch_extensions.build_job
  - module: airgap.torch_extensions.wheel_plan
"""

EXAMPLES = r"""
- name: Build what was chosen, each wheel on its builder
  airgap.torch_extensions.wheel_build:
    build: "{{ item }}"
    python: /opt/venv
  loop: "{{ chosen.builds }}"
  delegate_to: "{{ item.builder }}"
"""

RETURN = r"""
nodes:
  description:
    - For each node that wants the wheel, C(errors), why it has none; C(report), what was done, or would be in check mode, in words for
      people; and C(is_built), whether the wheel is there now.
  returned: success
  type: dict
  sample:
    node1:
      errors: []
      is_built: true
      report:
        - causal-conv1d 1.7.0 built on node1 from causal_conv1d-1.7.0.tar.gz against torch 2.14.1+cu130 for sm_90, with nvcc 13.0 (brought as
          wheels) and g++ 12.2.0, in 6 min
"""

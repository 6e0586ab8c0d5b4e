#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name does the work, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_fetch
short_description: Download the wheels that nodes need, each once, on the control node
version_added: 0.1.0
description:
  - Takes the plans of all nodes and downloads each distinct wheel once into a cache folder of the control node, together with
    the wheels of what these require and a node lacks.
  - It runs on the control node as the user who runs Ansible, whatever C(become), C(delegate_to) and C(connection) say, and
    touches no node. Run it with C(run_once).
  - A download is checked (length, SHA-256 where it is known, name and version inside the wheel) before it gets its name in the
    cache. What an interrupted one has brought stays beside it under a hidden name, and the next run goes on from there. A file
    in the cache that has changed since is downloaded again.
  - A connection that is cut, that stops for 30 seconds or that brings less than 1 KiB/s for a minute, and a server that is out of
    order, are tried again with growing pauses, until five tries in a row have brought nothing new.
  - A wheel whose SHA-256 nobody knows beforehand is taken over verified TLS alone. Its hash is recorded, with a warning, and held
    against from then on.
  - Up to four wheels are downloaded at the same time. Several processes that want the same file download it once.
  - A C(file:) URL names a wheel on the control node, which is used where it is, or, after a C(#), a member of a tar archive there,
    which is copied into the cache.
  - A file that cannot be had is an error of the nodes that need it, in RV(nodes), and fails no task that runs once for all.
  - In check mode nothing is downloaded, and the result is never C(changed).
  - What wheels require is downloaded with the C(pip) of the Python that runs Ansible, with pip's own settings.
  - Credentials for a server are read from C(~/.netrc) of the control node, where they stand under the host's name. They are sent over
    TLS alone.
  - Of links with a signature a plan has none. They are in the cache of the control node that has found them.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging, pip, requests, tqdm and urllib3 2.3 or newer on the control node
extends_documentation_fragment:
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._control_node.progress
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  plans:
    description:
      - For each node its name and a dictionary with C(environment), from
        RV(airgap.torch_extensions.torch_info#module:environment) with all its distributions; C(wheels), a list from the
        lookup P(airgap.torch_extensions.wheel#lookup); and C(requirements), whether to fetch what these wheels require.
    type: dict
    required: true
  require_sha256:
    description:
      - Whether to refuse, before it is downloaded, a wheel that comes without C(sha256) in its plan.
    type: bool
    default: false
seealso:
  - plugin: airgap.torch_extensions.wheel
    plugin_type: lookup
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Download what the nodes of the play need
  airgap.torch_extensions.wheel_fetch:
    plans:
      node1:
        environment: "{{ hostvars.node1.probe.environment }}"
        wheels: "{{ hostvars.node1.plan }}"
        requirements: true
    proxy: http://proxy.example:3128
  register: fetch
  run_once: true
"""

RETURN = r"""
nodes:
  description: For each node of O(plans) what was fetched for it.
  returned: success
  type: dict
  contains:
    wheels:
      description:
        - The wheels of its plan, with C(sha256) and C(size) (bytes) filled in. In check mode what is not there yet has them as far
          as they are known.
      type: list
      elements: dict
      returned: success
    requirements:
      description: The wheels of what these require and the node lacks, each with C(name), C(filename) and C(sha256).
      type: list
      elements: dict
      returned: success
    files:
      description: Paths on the control node of all these, to be copied to the node. In check mode of those that are there.
      type: list
      elements: str
      returned: success
    errors:
      description: Why something that the node needs could not be fetched.
      type: list
      elements: str
      returned: success
facts:
  description:
    - What the binaries of each wheel need, by its SHA-256, for M(airgap.torch_extensions.wheel_proof). In check mode of those that
      are there.
  returned: success
  type: dict
downloads:
  description:
    - What is new in the cache after this run, or would be in check mode; each with C(url) and C(size) (bytes; in check mode 0, if
      it is not known).
  returned: success
  type: list
  elements: dict
  sample: []
warnings:
  description: What was recorded of wheels that came without C(sha256) in their plan. Ansible shows it, too.
  returned: when there are any
  type: list
  elements: str
"""

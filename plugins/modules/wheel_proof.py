#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_proof
short_description: Prove that a node has what the binaries of wheels need
version_added: 0.1.0
description:
  - Holds what the binaries of wheels need against what an environment of the node has, before any of these wheels is on the
    node.
  - A wheel fits if every library that it needs is found where the loader looks for it, with the versions of it that are
    needed, if every symbol is exported by one of these libraries, by torch's, or by the interpreter, and if there is code for
    the node's GPUs that their driver can run.
  - It reads files. It loads no library and imports nothing; the interpreter is started once, to tell
    its folders. Where a wheel has code for GPUs, C(nvidia-smi) is asked for them.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._environment
  - airgap.torch_extensions._attributes.info_module
options:
  python:
    default: python3
  environment:
    description:
      - What M(airgap.torch_extensions.torch_info) has just returned for it. Then neither the interpreter nor C(nvidia-smi) is asked
        again.
    type: dict
  facts:
    description:
      - For each wheel what its binaries need, as it was read from the file on the control node.
      - It has C(version), C(filename), C(libraries), C(cxx11_abi), C(cuda), C(architectures) and C(problems). Each library has
        C(path), C(machine), C(soname), C(needed), C(runpath), C(versions) and C(undefined), the symbols that it must have of others
        and that no library of the wheel defines.
    type: list
    elements: dict
    required: true
notes:
  - C(LD_LIBRARY_PATH) is known as it is for the user of the module. A process that is started with another one may find other
    libraries.
  - A wheel with V(fits) has all that the loader asks for at its start. That its Python code runs only an import can tell.
seealso:
  - module: airgap.torch_extensions.torch_info
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: See whether wheels would load on this node
  airgap.torch_extensions.wheel_proof:
    python: /opt/venv
    facts: "{{ facts_of_wheels }}"
  register: proof

- name: Refuse what would not
  ansible.builtin.fail:
    msg: "{{ item.filename }} {{ item.verdict }}: {{ item.reasons | join('; ') }}."
  loop: "{{ proof.proofs | selectattr('verdict', 'eq', 'does not fit') }}"
"""

RETURN = r"""
proofs:
  description:
    - The verdict on each wheel, in the order of O(facts).
    - C(verdict) is V(fits), V(does not fit) or V(cannot be told), and C(reasons) says why, in words that follow the name of the
      wheel. With V(fits) the reasons are remarks.
  returned: success
  type: list
  elements: dict
  sample:
    - filename: flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
      verdict: does not fit
      reasons:
        - needs GLIBC_2.32 of libc.so.6, this node has glibc 2.31
executable:
  description: The interpreter of the environment.
  returned: success
  type: str
  sample: /opt/venv/bin/python
milliseconds:
  description: How long the libraries of the node were read, without the questions to the interpreter and to C(nvidia-smi).
  returned: success
  type: int
  sample: 21
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import check_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.proof import needs_gpus, prove_wheels


def main():
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "str", "default": "python3"},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict"},
            "facts": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    environment = module.params["environment"]
    try:
        if environment is None:
            environment = _describe(module)
        check_environment(environment)
        start = time.monotonic()
        found = prove_wheels(module.params["facts"], environment, os.environ)
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=False,
        executable=environment["python"]["executable"],
        proofs=found,
        milliseconds=round((time.monotonic() - start) * 1000),
    )


def _describe(module):
    # a node compiles what it imports each time, and the role gives what is told here
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
        add_gpus,
        describe_environment,
    )

    def run(command):
        return module.run_command(list(command), environ_update={"LC_ALL": "C"})

    environment, _warnings = describe_environment(
        module.params["python"], [], run, os.environ, trusted_owners=module.params["trusted_owners"]
    )
    return add_gpus(environment, run, module.warn) if needs_gpus(module.params["facts"]) else environment


if __name__ == "__main__":
    main()

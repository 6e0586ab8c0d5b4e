#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of the same name judges by versions, requirements and the name of the wheel, for which a node has no packaging.

from __future__ import annotations

DOCUMENTATION = r"""
module: torch_verify
short_description: Tell whether the installed PyTorch extensions work
version_added: 0.1.0
description:
  - Looks at every extension that this collection knows and that is installed in a Python environment, and changes nothing.
  - For each it tells whether the wheel that it was installed from is for the torch, CUDA, C++ ABI and Python that are there now;
    whether all its files are as they were installed; whether it can be imported, with all symbols bound; and, where there are
    GPUs, whether it computes right on each of them, forward and backward.
  - What is broken is no failure of the module, but a warning. RV(ok), RV(report) and RV(packages[].reasons) tell of it.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging on the control node
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._environment
  - airgap.torch_extensions._verify
  - airgap.torch_extensions._attributes.info_module
options:
  python:
    required: true
  packages:
    description:
      - Requirements (PEP 508) of known packages that the node has to meet, as in V(flash-attn==2.8.3) or V(flash-attn). One that is not
        installed, or in another version, counts as broken.
      - Without any, what is not installed is no fault, nor is an environment without torch.
    type: list
    elements: str
    default: []
  verify:
    description:
      - V(gpu) runs a forward and a backward pass on every GPU that torch sees, against torch's own operators and within the
        tolerances of the packages' own tests. Where C(nvidia-smi) names no GPU, the module fails.
      - V(import) imports, and does not compute.
      - V(none) reads files alone.
      - V(auto) is V(gpu) where C(nvidia-smi) names a GPU, else V(import).
  match:
    description:
      - V(exact) calls a package broken whose wheel is for another torch than the one that is there, also where it works.
      - V(proven) takes the import for a proof that it serves this torch, too, as long as CUDA, C++ ABI and Python are the same.
    type: str
    choices: [exact, proven]
    default: proven
notes:
  - Files are read and hashed whole, a second or so for each GB.
seealso:
  - module: airgap.torch_extensions.torch_info
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Look at what is installed
  airgap.torch_extensions.torch_verify:
    python: /opt/venv
  register: verified

- name: Stop where flash-attn is missing, older or broken
  airgap.torch_extensions.torch_verify:
    python: /opt/venv
    packages: [flash-attn>=2.8.3]
  register: verified
  failed_when: not verified.ok
"""

RETURN = r"""
ok:
  description: Whether nothing is broken. Without O(packages) it is also true where no extension is installed.
  returned: success
  type: bool
  sample: false
packages:
  description: The known extensions that are installed, and those of O(packages) that are not, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the distribution.
      type: str
      returned: success
      sample: flash-attn
    version:
      description: Its version, or null for a package that is not installed or that no distribution is known of.
      type: str
      returned: success
      sample: 2.8.3
    filename:
      description: File name of the wheel that it was installed from, or null where that is not recorded.
      type: str
      returned: success
      sample: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
    ok:
      description: Whether there are no RV(packages[].reasons).
      type: bool
      returned: success
      sample: false
    reasons:
      description: What is wrong, the cause before its consequences.
      type: list
      elements: str
      returned: success
      sample:
        - the wheel it was installed from is for torch 2.8, this node has torch 2.9.0+cu128
        - "it cannot be imported: undefined symbol: _ZN3c105ErrorC2"
    remedy:
      description: What repairs it, or null where nothing is wrong or RV(packages[].reasons) say what to do.
      type: str
      returned: success
      sample: run the role (playbook install_flash_attn) again, which takes a wheel for what the node has now
    remarks:
      description:
        - What is no fault of it, and yet seldom wanted, as that another package is there and does not use this version.
      type: list
      elements: str
      returned: success
      sample:
        - Transformer Engine 2.16.1 on this node uses flash-attn up to 2.8.3 and does without this one. Set
          torch_extension_packages to flash-attn==2.8.3, or upgrade Transformer Engine to 2.19.
    verify:
      description: V(gpu), V(import) or V(none); how it was tried out.
      type: str
      returned: success
      sample: gpu
    gpus:
      description:
        - What was found on each GPU, as in RV(airgap.torch_extensions.torch_extension#module:wheels[].gpus). C(failure) is null
          where all is well.
        - Empty where it was not tried out on GPUs.
      type: list
      elements: dict
      returned: success
      sample:
        - device: cuda:0
          name: NVIDIA H200
          compute_capability: "9.0"
          seconds: 0.8
          max_error: 0.0074
          failure:
report:
  description:
    - In words for people, a line a fact. The first line is C(ok), C(BROKEN) or C(nothing installed); the last ones say what repairs it.
    - It has nothing in it that is measured, so that nodes that are alike have the same.
  returned: success
  type: list
  elements: str
  sample:
    - BROKEN
    - "flash-attn 2.8.3: flash_attn/__init__.py is not as installed"
    - "to repair it: run the role (playbook install_flash_attn) again, which replaces what is not whole"
environment:
  description: The environment, as in RV(airgap.torch_extensions.torch_info#module:environment).
  returned: success
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    describe_environments,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import installed, trial


def main():
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "str", "required": True},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},  # the action's
            "verify": {"type": "str", "choices": trial.METHODS, "default": "auto"},
            "devices": {"type": "list", "elements": "str", "default": []},
            "match": {"type": "str", "choices": ["exact", "proven"], "default": "proven"},  # the action's
        },
        supports_check_mode=True,
    )

    def run(command):
        return module.run_command(list(command), environ_update={"LC_ALL": "C", "LD_BIND_NOW": "1"})

    devices = module.params["devices"]
    try:
        (environment,), warnings = describe_environments(
            [module.params["python"]],
            [ALL_DISTRIBUTIONS],
            run,
            os.environ,
            trusted_owners=module.params["trusted_owners"],
        )
        way = trial.resolve_method(module.params["verify"], environment["gpus"], devices)
        packages = installed.check_packages(environment, run, way, devices)
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"{exc.filename} cannot be read: {exc.strerror}. Run as a user who may (become, become_user)."
        )
    for warning in warnings:
        module.warn(warning)
    ok = all(package["ok"] for package in packages)
    module.exit_json(changed=False, ok=ok, packages=packages, environment=environment)


if __name__ == "__main__":
    main()

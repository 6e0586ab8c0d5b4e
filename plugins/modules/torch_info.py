#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torch_info
short_description: Tell which torch, CUDA, Python, GPUs and driver a node has
version_added: 0.1.0
description:
  - Returns the I(environment) of one or more Python environments of a node, from which the lookup
    P(airgap.torch_extensions.wheel#lookup) decides which wheel fits.
  - It reads files and never imports torch, so that it takes a fraction of the time of C(import torch) and works where torch cannot
    be imported.
  - The environment's interpreter is started once, to tell its version, its C library, its search path, and from which file it would
    import torch. It starts as every program of the environment does, with the variables of the task (C(PYTHONPATH),
    C(PYTHONNOUSERSITE), C(EBPYTHONPREFIXES)), C(.pth) files and C(sitecustomize). With O(sdists) it is started once more, for pip.
    Where there is an NVIDIA driver, C(nvidia-smi) is asked for the GPUs.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._attributes.info_module
options:
  python:
    description:
      - The Python environments to look at; each an interpreter (a path, or a command on the C(PATH)) or the folder of a venv
        or conda environment.
      - It need not be the interpreter that Ansible uses on the node.
    type: list
    elements: str
    default: [python3]
  distributions:
    description:
      - Names of distributions whose installed versions are wanted in RV(environment.distributions).
      - V(*) asks for all that are installed.
    type: list
    elements: str
    default: []
  sdists:
    description:
      - Requirements that pin one version, as in V(flash-attn==2.8.3), for which RV(environment.sdists) shall tell the place of
        a wheel in pip's cache.
      - This asks the environment's own pip, with the settings of the user, and lets it read its index. Nothing is downloaded
        but pages of the index, and nothing is written.
    type: list
    elements: str
    default: []
  packages:
    description:
      - Requirements (PEP 508) of known packages, for which M(airgap.torch_extensions.wheel_plan) or the lookup
        P(airgap.torch_extensions.wheel#lookup) will choose wheels by RV(environment). What they need for it is asked for, as if it stood
        in O(distributions) and O(sdists).
    type: list
    elements: str
    default: []
  mode:
    description:
      - How the wheels of O(packages) will be installed, as in O(airgap.torch_extensions.torch_extension#module:mode). With
        V(pip_cache), each of O(packages) that pins a version is asked for as in O(sdists).
    type: str
    choices: [install, pip_cache, find_links]
    default: install
  sdist_url:
    description:
      - The address of the sdists of O(packages), as in O(airgap.torch_extensions.wheel_plan#module:sdist_url). Those that have one
        are not asked for as in O(sdists).
    type: raw
  stage_dir:
    description:
      - The folder on the node that M(airgap.torch_extensions.torch_extension) brings wheels to. RV(staged) tells what is in it.
    type: path
notes:
  - A user who cannot read the environment is told so. Set C(become_user) to one who can.
  - The folder of pip's cache depends on the user. Ask as the user who will run pip.
seealso:
  - plugin: airgap.torch_extensions.wheel
    plugin_type: lookup
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Look at a venv
  airgap.torch_extensions.torch_info:
    python: /opt/venv
    distributions: [flash-attn]
  register: probe

- name: Show what was found
  ansible.builtin.debug:
    msg: "torch {{ probe.environment.torch.version }}, CUDA {{ probe.environment.torch.cuda }}"

- name: Look at several environments of one node
  airgap.torch_extensions.torch_info:
    python:
      - /opt/train
      - /opt/conda/envs/serve
      - /usr/bin/python3.11
"""

RETURN = r"""
environment:
  description:
    - The environment that O(python) names; the first one where it names several.
    - A key whose truth cannot be had is null, with a warning that says why.
  returned: success
  type: dict
  contains:
    python:
      description:
        - The interpreter. C(tag) and C(abi) are its tags (PEP 425);
          C(externally_managed) tells that the operating system owns the environment (PEP 668);
          C(site_packages) is the folder that installers write to; C(program) is the file that runs, to which C(executable) may be a
          link or which it may start.
        - C(search_path) holds the folders in which Python looks for packages, in its order. C(owner) is V(environment); V(system) for the
          Python that a venv is made of; V(user) for one user's own packages; V(variable) for C(PYTHONPATH); or V(added) for what a
          C(.pth) file or C(sitecustomize) has added.
        - C(access) tells who asked, whose C(site_packages) and the environment are, whether it can be written to, and in C(locked),
          if there is any reason, why what is installed there can neither be replaced nor removed by this user.
      returned: success
      type: dict
      sample:
        executable: /opt/venv/bin/python
        version: 3.11.2
        tag: cp311
        abi: cp311
        implementation: cpython
        externally_managed: false
        prefix: /opt/venv
        program: /usr/bin/python3.11
        site_packages: /opt/venv/lib/python3.11/site-packages
        search_path: [{folder: /opt/venv/lib/python3.11/site-packages, owner: environment}]
        access:
          {user: trainer, owner: trainer, is_owner: true, writable: true, read_only: false, environment_owner: trainer, locked: null}
    platform:
      description:
        - Operating system, processor, C library, and the highest C(GLIBCXX) version of the C++ library.
        - They are those of the environment's interpreter, which may have others than the system.
      returned: success
      type: dict
      sample:
        system: linux
        machine: x86_64
        libc: {name: glibc, version: "2.36"}
        libstdcxx: 3.4.30
    torch:
      description:
        - The torch that Python would import, or null if there is none.
        - C(cxx11_abi) comes from the symbols of C(libc10.so).
      returned: success
      type: dict
      sample:
        version: 2.2.0+cu121
        cuda: "12.1"
        hip:
        cxx11_abi: false
        path: /opt/venv/lib/python3.11/site-packages/torch
    installers:
      description: Versions of the environment's pip and of the user's uv, or null. Where there is neither, C(reason) says why.
      returned: success
      type: dict
      sample: {pip: "24.0", uv: null, reason: null}
    pip_cache:
      description:
        - The folder of pip's cache, whether pip would use it, and the reason if not.
        - C(only_binary) and C(no_binary) are the packages, or C(:all:), that these settings of pip name.
      returned: success
      type: dict
      sample: {dir: /home/user/.cache/pip, usable: true, reason: null, only_binary: [], no_binary: []}
    sdists:
      description:
        - For each requirement in O(sdists), by the name of the package, the sdist that the environment's pip would take and the
          folder in its cache where it looks for a wheel of that; or the C(error) that says why it cannot be told.
        - C(url) has the hash that pip's index gives, and no credentials.
      returned: success
      type: dict
      sample:
        flash-attn:
          requirement: flash-attn==2.5.3
          url: http://index.example/packages/flash_attn-2.5.3.tar.gz#sha256=5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda
          folder: /home/user/.cache/pip/wheels/f8/eb/b2/22d0e7bc9d0cf73f3fb374c5dfcfbc43a9d73a37565e2c117b
          error:
    gpus:
      description: NVIDIA's GPUs.
      returned: success
      type: list
      elements: dict
      sample: [{name: NVIDIA H200, compute_capability: "9.0", memory_mib: 143771}]
    driver:
      description: NVIDIA's driver and the newest CUDA that it serves, or null if there is none.
      returned: success
      type: dict
      sample: {version: 580.159.03, cuda: "13.0"}
    variables:
      description: Those environment variables that are set and change what a package's C(setup.py) guesses.
      returned: success
      type: dict
      sample: {}
    distributions:
      description:
        - Versions of the distributions in O(distributions), or null for one that is not installed. The copy counts that Python would
          import, and of several records the one whose files are there.
      returned: success
      type: dict
      sample: {flash-attn: 2.8.3, einops: null}
    origins:
      description: The files from which these distributions were installed, where the installer recorded it (PEP 610).
      returned: success
      type: dict
      sample:
        flash-attn:
          filename: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
          sha256: 5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda
    damage:
      description:
        - Those of the extensions that O(distributions) names which are installed in C(python.site_packages) and not whole, with the
          paths of their files in this folder. C(missing) are gone; C(changed) have another size than C(RECORD) tells, or are newer than
          it and have another hash.
        - Files that are older are not read; M(airgap.torch_extensions.torch_verify) reads all. What Python compiles does not count.
          Nor does C(RECORD) count where conda has installed the extension, for it edits files afterwards.
      returned: success
      type: dict
      sample:
        flash-attn:
          missing: []
          changed: [flash_attn/__init__.py]
    shadows:
      description:
        - Copies of extensions that Python finds before C(python.site_packages), by the name of the distribution. What is installed
          there would not be imported. C(version) is null where nothing is recorded beside the copy.
      returned: success
      type: dict
      sample:
        flash-attn:
          module: flash_attn
          file: /home/trainer/.local/lib/python3.11/site-packages/flash_attn/__init__.py
          version: 2.7.3
          place: one user's own packages
    leftovers:
      description:
        - What runs that broke off have left of the extensions in the folder of packages, records of older versions among it, which
          M(airgap.torch_extensions.torch_extension) clears away.
      returned: success
      type: list
      elements: str
      sample: [~lash_attn]
environments:
  description: The environments that O(python) names, in its order, each as RV(environment).
  returned: success
  type: list
  elements: dict
staged:
  description: The wheels in O(stage_dir), and the parts of wheels that runs have left there which were lost on the way.
  returned: with O(stage_dir)
  type: list
  elements: str
  sample: [.flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl.5a176a0589635270.part]
"""

import gc
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environments


def main():
    gc.freeze()  # what Ansible has loaded: to search that for garbage takes long, and this process ends soon
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "list", "elements": "str", "default": ["python3"]},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "distributions": {"type": "list", "elements": "str", "default": []},
            "sdists": {"type": "list", "elements": "str", "default": []},
            "stage_dir": {"type": "path"},
            # the action's, which makes distributions and sdists of them
            "packages": {"type": "list", "elements": "str", "default": []},
            "mode": {"type": "str", "choices": ["install", "pip_cache", "find_links"], "default": "install"},
            "sdist_url": {"type": "raw"},
        },
        supports_check_mode=True,
    )
    if not module.params["python"]:
        module.fail_json(msg="python is an empty list. Name at least one interpreter or environment.")
    try:
        environments, warnings = describe_environments(
            module.params["python"],
            module.params["distributions"],
            run=lambda command: module.run_command(list(command), environ_update={"LC_ALL": "C"}),
            environ=os.environ,
            sdists=module.params["sdists"],
            trusted_owners=module.params["trusted_owners"],
        )
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc))
    for warning in warnings:
        module.warn(warning)
    stage_dir = module.params["stage_dir"]
    staged = {"staged": staging.list_staged(stage_dir)} if stage_dir else {}
    module.exit_json(changed=False, environment=environments[0], environments=environments, **staged)


if __name__ == "__main__":
    main()

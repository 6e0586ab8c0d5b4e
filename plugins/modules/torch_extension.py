#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: torch_extension
short_description: Deliver and install wheels of PyTorch extensions, offline
version_added: 0.1.0
description:
  - Brings wheels to a node and installs them into a Python environment, with the environment's own pip (or uv, where there
    is no pip), without index, build or dependency resolution.
  - Every wheel is checked first (hash, name, version and tags), and tried out from a scratch place; imported, and where there
    are GPUs, run on each of them. Only what works is installed; otherwise the environment stays as it was.
  - What has shown that it works is put in place by renames, so that a run that is killed leaves the old version or the new
    one. Where a package has scripts, or shares a folder with others, the installer does that in its own way.
  - What a killed run has left is finished or removed first, also where nothing else has to be done.
  - A wheel of the wanted version that was built for another torch than the plan's is replaced.
  - With O(mode=pip_cache) the wheels are put where the environment's pip looks for wheels that it built itself.
  - With O(mode=find_links) they are kept in a folder of the environment, which its pip is told to look into.
  - With O(state=absent) it removes packages, and what it has brought with them and nothing else needs.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._delivery
  - airgap.torch_extensions._environment
  - airgap.torch_extensions._verify
  - airgap.torch_extensions._attributes
options:
  python:
    required: true
  state:
    description:
      - V(present) has O(wheels) be there, V(absent) has O(packages) not be there. For the latter neither torch nor any file is needed.
      - With V(absent) and O(mode=install), what the packages have recorded as theirs is removed by renames, so that a run that is
        killed leaves them whole or is finished by the next one; what another distribution has recorded, too, stays. A package
        without such a record, as C(setup.py install) leaves it, is removed by the environment's own installer. Copies in other
        folders of the search path are left alone, and RV(stays) tells them.
      - So are removed those of their requirements that came with them, unless any distribution on the search path requires them,
        be it for an extra or another machine alone. A requirement has come with a package if it was installed from a file and
        nobody has asked for it, which pip and uv record (C(direct_url.json), C(REQUESTED)). What this module had installed before
        it kept to that counts as asked for, and stays.
      - With O(mode=find_links), the wheels of the packages and those of what they alone require are removed from the folder of the
        environment. With the last of them go the folder, its mention in C(pip.conf), and a C(pip.conf) that says nothing else.
      - With O(mode=pip_cache), what this module has put into the cache of the current user is removed. What pip itself has
        built stays.
    type: str
    choices: [present, absent]
    default: present
  packages:
    description:
      - Names of the packages to remove, in whatever version. Needed with O(state=absent).
    type: list
    elements: str
  wheels:
    description:
      - The wheels that shall be there, each as the lookup P(airgap.torch_extensions.wheel#lookup) returns it. What else that
        tells of a wheel is not sent to the node.
      - Needed with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the distribution.
        type: str
        required: true
      version:
        description: Its version, without local label.
        type: str
        required: true
      filename:
        description: File name of the wheel, with the local label that tells for which torch it is.
        type: str
        required: true
      imports:
        description: Names of the modules to import as a proof that the wheel works.
        type: list
        elements: str
        required: true
      sha256:
        description: SHA-256 of the file. It is checked if given.
        type: str
      subfolder:
        description:
          - Folder in O(folder) or O(shared_folder) that holds the file. With O(files) it is set here, for O(delivery.ways=shared).
        type: str
        default: ""
      pip_cache_path:
        description: Where pip looks for the wheel. Needed with O(mode=pip_cache).
        type: str
      sdist_url:
        description: URL of the sdist that the wheel stands for. Needed with O(mode=pip_cache).
        type: str
      conflicts:
        description: Why the wheel cannot serve the node. A wheel that has any is refused.
        type: list
        elements: str
        default: []
  requirements:
    description:
      - Wheels of other distributions that O(wheels) require. Those that are installed already, in whatever version, are left
        alone.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the distribution.
        type: str
        required: true
      filename:
        description: File name of the wheel.
        type: str
        required: true
      sha256:
        description: SHA-256 of the file. It is checked if given.
        type: str
      subfolder:
        description: As in O(wheels).
        type: str
        default: ""
  files:
    description:
      - Paths on the control node of these files, to be brought to the node first, as O(delivery) says; without it, over Ansible's
        own connection. What is there already, whole or from the front, is not sent again.
      - Without them, the files must be there.
    type: list
    elements: path
    default: []
  facts:
    description:
      - What the binaries of wheels need, by the wheel's SHA-256, as M(airgap.torch_extensions.wheel_fetch) returns it. The node proves
        first that it has all that O(wheels) need, as with M(airgap.torch_extensions.wheel_proof); a wheel that does not fit is refused
        before anything is brought. O(verify=none) leaves that out.
    type: dict
    default: {}
  tell_unfit:
    description:
      - Whether a wheel that by O(facts) does not fit the node is no failure. RV(unfit) tells then, for M(airgap.torch_extensions.wheel_plan)
        to choose the next one, and nothing is done.
    type: bool
    default: false
  environment:
    description:
      - For O(facts) and in check mode, what M(airgap.torch_extensions.torch_info) has just returned, which is then not asked for
        again.
    type: dict
  errors:
    description:
      - Why M(airgap.torch_extensions.wheel_fetch) could not get what the node wants. If there is any reason, the task fails with it
        and does nothing.
    type: list
    elements: str
    default: []
  served:
    description:
      - For O(delivery.ways=slurm), what M(airgap.torch_extensions.wheel_broadcast) tells of this node.
    type: dict
  cache_dir:
    description:
      - Folder on the control node in which processes see to it that one of them at a time writes to a shared file system or a
        server. Without it, as in M(airgap.torch_extensions.wheel_fetch).
    type: path
  folder:
    description:
      - The folder on the node that holds the files of O(wheels) and O(requirements), each under its C(filename) in its
        C(subfolder). With O(files) it is made, for the user alone, if it is not there.
      - Where others than the user, root and O(trusted_owners) could exchange files, these are copied to where nobody else gets to, and
        must have a C(sha256).
      - Not needed in check mode, nor where nothing has to be done.
    type: path
  shared_folder:
    description:
      - The folder on the node that holds these files, where others read them, too. Then nothing is looked for in O(folder), which is
        only cleared, and nothing is removed here.
    type: path
  keep_files:
    description:
      - Whether these files stay. If not, they are removed in the end, and O(folder) if nothing else is in it, also after an
        error, and also where the control node has gone away meanwhile.
    type: bool
    default: true
  staged:
    description:
      - Names of files in O(folder) that earlier runs have left, as RV(airgap.torch_extensions.wheel_plan#module:staged) tells. They are
        removed in the end; wheels that are whole only with O(keep_files=false).
      - With O(state=absent) they need not be named; they are parts of any wheel and, with O(keep_files=false), wheels of O(packages).
    type: list
    elements: str
    default: []
  mode:
    description:
      - V(install) installs the wheels into the environment.
      - V(pip_cache) puts them into pip's cache of the current user, so that a plain C(pip install) on the node takes them
        from there. Any pip from 9 on is served. Other wheels in the same folder of the cache, which were built from the same
        sdist for another torch, are removed, because pip would choose among them by name.
      - V(find_links) keeps them, and O(requirements) that are not installed, in the folder RV(find_links) of the environment,
        under names that pip accepts there, and adds this folder to C(find-links) in the C(pip.conf) of the environment, so
        that a plain C(pip install) takes them from there, with or without an index. Other wheels of the same distribution
        in this folder are removed. uv reads no file of an environment; it has to be told of the folder (C(--find-links)).
    type: str
    choices: [install, pip_cache, find_links]
    default: install
  reinstall:
    description:
      - Whether O(wheels) that are there are replaced all the same, which changes the node in each run. O(requirements) that are there
        stay.
      - A wheel that is installed and of which a file is missing, has another size or was changed after the installation is replaced
        in any case with O(mode=install).
    type: bool
    default: false
  verify:
    description:
      - How O(wheels) are tried out in a scratch place before the environment changes. Where nothing has to be installed, nothing is
        tried out; M(airgap.torch_extensions.torch_verify) does that with what is installed.
      - V(gpu) imports them and runs a forward and a backward pass on every GPU that torch sees, against torch's own operators
        and within the tolerances of the packages' own tests. Without a GPU it fails before anything changes. A package for
        which no such check is known is imported.
      - V(import) imports O(wheels[].imports).
      - V(none) does not.
      - V(auto) is V(gpu) where C(nvidia-smi) names a GPU, else V(import).
      - It has no effect with O(mode=pip_cache) and O(mode=find_links).
notes:
  - An environment that belongs to the operating system (PEP 668) is refused. Use a venv.
  - Run it as the user who owns the environment, or the cache (C(become_user)). Root runs another user's environment only if
    O(trusted_owners) names that user; what root changes there stays that user's, and what would take more than renames, or would lead
    out of the environment by a link, is refused.
seealso:
  - plugin: airgap.torch_extensions.wheel
    plugin_type: lookup
  - module: airgap.torch_extensions.torch_info
"""

EXAMPLES = r"""
- name: Plan
  airgap.torch_extensions.wheel_plan:
    packages: [flash-attn==2.8.3]
    python: /opt/venv
  register: planned

- name: Download
  airgap.torch_extensions.wheel_fetch:
    plans: "{{ {inventory_hostname: planned} }}"
  register: fetched

- name: Bring it to the node and install it
  airgap.torch_extensions.torch_extension:
    python: /opt/venv
    wheels: "{{ fetched.nodes[inventory_hostname].wheels }}"
    requirements: "{{ fetched.nodes[inventory_hostname].requirements }}"
    files: "{{ fetched.nodes[inventory_hostname].files }}"
    facts: "{{ fetched.facts }}"
    folder: ~/.cache/airgap.torch_extensions
    keep_files: false

- name: Install a wheel that is on the node
  airgap.torch_extensions.torch_extension:
    python: /opt/venv
    wheels:
      - name: flash-attn
        version: 2.8.3
        filename: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
        imports: [flash_attn]
    requirements:
      - name: einops
        filename: einops-0.8.1-py3-none-any.whl
    folder: /root/wheels

- name: Remove what it has installed
  airgap.torch_extensions.torch_extension:
    python: /opt/venv
    state: absent
    packages: [flash-attn]

- name: Tell whether the planned wheels are installed, changing nothing
  airgap.torch_extensions.torch_extension:
    python: /opt/venv
    wheels: "{{ plan }}"
  check_mode: true
  register: state
"""

RETURN = r"""
wheels:
  description: What was done, or would be done in check mode, with each of O(wheels), in its order.
  returned: with O(state=present)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the distribution.
      type: str
      returned: success
      sample: flash-attn
    version:
      description: Its version.
      type: str
      returned: success
      sample: 2.8.3
    filename:
      description: File name of the wheel.
      type: str
      returned: success
      sample: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
    action:
      description: V(keep), V(install) or V(replace).
      type: str
      returned: success
      sample: install
    reason:
      description: Why.
      type: str
      returned: success
      sample: flash-attn is not installed
    verify:
      description: V(gpu), V(import) or V(none); how it was tried out, or would be.
      type: str
      returned: with O(mode=install), where it had to be installed
      sample: gpu
    gpus:
      description:
        - What was found on each GPU. C(seconds) are those of the computation, C(max_error) is the largest error against torch in
          float32, in proportion where values are above 1.
        - Empty where it was not tried out on GPUs.
      type: list
      elements: dict
      returned: with O(mode=install), where it had to be installed
      sample:
        - device: cuda:0
          name: NVIDIA H200
          compute_capability: "9.0"
          seconds: 0.8
          max_error: 0.0074
          failure:
packages:
  description: What was done, or would be done in check mode, with each of O(packages), in its order.
  returned: with O(state=absent)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      type: str
      sample: flash-attn
    version:
      description: The version that was there, or null.
      type: str
      sample: 2.8.3
    action:
      description: V(remove), or V(keep) where it is not there.
      type: str
      sample: remove
    reason:
      description: Why.
      type: str
      sample: flash-attn 2.8.3 is installed
stays:
  description: What one may think that it goes, and stays, and why, in words.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: ["einops 0.8.1 (timm 1.0.3 needs it)"]
environment:
  description: As in RV(airgap.torch_extensions.torch_info#module:environment), without GPUs and driver.
  returned: with O(state=absent), in check mode
  type: dict
requirements:
  description:
    - File names of those O(requirements) that were installed or put in place, or would be.
    - With O(state=absent), what came with the packages and was removed, or would be; names and versions, or with
      O(mode=find_links) names of files.
  returned: success
  type: list
  elements: str
  sample: [einops-0.8.1-py3-none-any.whl]
leftovers:
  description:
    - What killed runs had left where this one installs, and was finished or removed, or would be. These are names in the folder of
      packages, or paths with O(mode=find_links) and O(mode=pip_cache).
  returned: success
  type: list
  elements: str
  sample: [~lash_attn]
cleared:
  description: Those of O(staged), or what O(state=absent) takes for these, that were not wanted any more and were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: [.flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl.5a176a0589635270.part]
delivery:
  description:
    - How the files have come to the node. C(way) is one of O(delivery.ways), C(folder) is where they are read, C(sent) says whether the
      control node has sent any of them.
    - With V(shared), each lies there in a folder that is named after its hash, and C(file_system) is the word by which the file
      system is known again; with V(pull), C(url) is where they are fetched from.
  returned: with O(files), where these had to be there
  type: dict
  sample:
    way: shared
    folder: /scratch/airgap.torch_extensions
    sent: false
    file_system: 6f4b1c5e-5a0c-4c2b-a3b8-0d6f5c7f2f60
unfit:
  description: With O(tell_unfit), the wheels that do not fit the node. If there are any, nothing was done.
  returned: success
  type: list
  elements: dict
  contains:
    url:
      description: Where the wheel is.
      type: str
      sample: https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.3/flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
    filename:
      description: File name of the wheel.
      type: str
      sample: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
    reason:
      description: Why it does not fit.
      type: str
      sample: it needs GLIBC_2.32 of libc.so.6, this node has glibc 2.31
proofs:
  description: As in RV(airgap.torch_extensions.wheel_proof#module:proofs).
  returned: with O(facts) of any of O(wheels), also where one of them does not fit
  type: list
  elements: dict
report:
  description: What was done, or would be, in words for people, a line a fact.
  returned: success
  type: list
  elements: str
  sample: ["flash-attn 2.8.3: installed (found: flash-attn is not installed)", "tried out: imported"]
find_links:
  description: The folder that holds the wheels.
  returned: with O(mode=find_links)
  type: str
  sample: /opt/venv/share/airgap.torch_extensions/wheels
"""

import gc

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import options
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.removal_task import RemovalTask
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.task import MisfitError, Task
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import (
    ABSENT,
    FILE,
    INSTALL,
    MODES,
    PRESENT,
    STATES,
    WHEEL,
)

_ARGUMENTS = {
    "python": {"type": "str", "required": True},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": STATES, "default": PRESENT},
    "packages": {"type": "list", "elements": "str"},
    "wheels": {"type": "list", "elements": "dict", "options": WHEEL},
    "requirements": {"type": "list", "elements": "dict", "default": [], "options": FILE},
    "facts": {"type": "dict", "default": {}},
    "environment": {"type": "dict"},
    # from here to errors they are the action's, which deals with them before the module runs
    "delivery": {"type": "dict", "options": options.OPTIONS},
    "served": {"type": "dict"},
    "cache_dir": {"type": "path"},
    "files": {"type": "list", "elements": "path", "default": []},
    "errors": {"type": "list", "elements": "str", "default": []},
    "tell_unfit": {"type": "bool", "default": False},
    "folder": {"type": "path"},
    "shared_folder": {"type": "path"},
    "keep_files": {"type": "bool", "default": True},
    "staged": {"type": "list", "elements": "str", "default": []},
    "mode": {"type": "str", "choices": MODES, "default": INSTALL},
    "reinstall": {"type": "bool", "default": False},
    "verify": {"type": "str", "choices": trial.METHODS, "default": "auto"},
    "devices": {"type": "list", "elements": "str", "default": []},
}


def main():
    gc.freeze()  # what Ansible has loaded: to search that for garbage takes long, and this process ends soon
    required = [("state", PRESENT, ["wheels"]), ("state", ABSENT, ["packages"])]
    module = AnsibleModule(argument_spec=_ARGUMENTS, required_if=required, supports_check_mode=True)

    def run(command):
        return module.run_command(list(command), environ_update={"LC_ALL": "C", "LD_BIND_NOW": "1"})

    make_task = RemovalTask if module.params["state"] == ABSENT else Task
    task = make_task(module.params, module.check_mode, run, module.warn)
    damaged = []
    try:
        try:
            result = task.perform()
        except TorchExtensionError:
            damaged = task.discard_damaged()
            raise
        finally:
            task.remove_files()
    except MisfitError as exc:
        module.fail_json(msg=str(exc), proofs=exc.proofs)
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc), damaged=damaged)
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename}: {exc.strerror}. Nothing was installed.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()

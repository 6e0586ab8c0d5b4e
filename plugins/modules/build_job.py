#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_job
short_description: Build a wheel on a machine without network
version_added: 0.1.0
description:
  - Compiles the sdist of a CUDA extension into a wheel, in a process of its own that goes on when the connection is lost. The role
    uses it where no wheel exists; what a build needs is put together and brought by the control node.
  - A build has a folder of its own below O(folder), named after O(job.id). A virtual environment in it stands over the environment of
    O(python), which stays untouched. Fronts of the compilers hold each package to the architectures of O(job.archs).
  - A build that was killed or has failed goes on from what is compiled. Of two that are started at once one builds.
  - C(setup.py) runs as the task's user, with an environment made for it and without any index.
  - The module needs Python; a build needs a C++ compiler and the headers of the environment's Python besides.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  step:
    description:
      - What to do.
      - V(probe) tells what the machine is, V(poll) what has become of a build. Both change nothing.
      - V(start) checks what can be checked first, and starts the build, unless it runs or its wheel is there.
      - V(stop) ends it; what is compiled stays.
      - V(clear) removes its folder, and the files that were brought for it and for no other build; but nothing as long as another
        O(job.taker) waits for the wheel.
    type: str
    choices: [probe, start, poll, stop, clear]
    required: true
  python:
    description:
      - The environment whose torch is compiled against; an interpreter, a command on the C(PATH), or the folder of a venv or conda
        environment.
    type: str
    default: python3
  folder:
    description:
      - The folder of all builds. A path on a file system from which programs may be run, of letters, digits and C(./_+-@=~).
    type: str
    default: ~/.cache/airgap.torch_extensions.build
  module:
    description:
      - An environment module (Lmod, Environment Modules) to load first, with compilers or CUDA.
    type: str
    default: ""
  wait:
    description:
      - With V(poll), for how many seconds at most to wait for the end of a build that runs.
    type: int
    default: 0
  job:
    description:
      - The build. Files of it lie in C(files/HASH/FILENAME) below O(folder), with the first 16 digits of their SHA-256.
      - V(probe) needs none, V(poll), V(stop) and V(clear) its O(job.id) alone.
    type: dict
    suboptions:
      id:
        description: Name of its folder. Whoever builds the same gives the same.
        type: str
        required: true
      name:
        description: Name of the package.
        type: str
      version:
        description: Version of the package.
        type: str
      sdist:
        description: The sdist, or an archive of a repository (C(.tar.gz), C(.zip)).
        type: dict
        suboptions: &file
          filename:
            description: Name of the file.
            type: str
            required: true
          sha256:
            description: Its SHA-256, in hexadecimal.
            type: str
            required: true
      requirements:
        description: Wheels for the environment of the build, pip's own among them.
        type: list
        elements: dict
        default: []
        suboptions: *file
      torch:
        description:
          - Wheels of torch and what it requires, to compile against instead of the torch of O(python).
        type: list
        elements: dict
        default: []
        suboptions: *file
      toolchain:
        description:
          - NVIDIA's compiler, one of the three. Without it nothing is compiled for GPUs.
        type: dict
        suboptions:
          home:
            description: The folder of a CUDA toolkit on the machine.
            type: str
          wheels:
            description: Wheels of the compiler and its parts.
            type: list
            elements: dict
            suboptions: *file
          archives:
            description: NVIDIA's redistributable archives of the compiler and its parts.
            type: list
            elements: dict
            suboptions: *file
      archs:
        description: Architectures of GPUs to compile for, such as V(9.0) or V(12.0+PTX).
        type: list
        elements: str
        default: []
      cxx_standard:
        description: The C++ standard that takes the place of an older one, such as V(c++20).
        type: str
      environ:
        description: Variables for C(setup.py).
        type: dict
        default: {}
      epoch:
        description: Time of the files in the wheel, in seconds since 1970 (C(SOURCE_DATE_EPOCH)).
        type: int
        default: 315619200
      time_limit:
        description: Seconds that it may take.
        type: int
        default: 14400
      jobs:
        description: How many compilers run at once; V(0) for as many as cores and memory allow.
        type: int
        default: 0
      memory_per_job_mib:
        description: Memory that one compiler needs.
        type: int
        default: 0
      disk_mib:
        description: Room that the build needs.
        type: int
        default: 0
      label:
        description: A local label for the version in the wheel's file name, such as V(cu13torch2.14cxx11abiTRUE).
        type: str
      taker:
        description:
          - Who waits for the wheel, by a name of its own, such as a control node. With V(poll) it is noted, and counts for ten minutes; with
            V(clear) it waits no longer.
        type: str
      slurm:
        description: Have Slurm allocate the machine on which it runs. All machines of the cluster must see O(folder).
        type: dict
        suboptions:
          options:
            description: Options for C(sbatch).
            type: list
            elements: str
            default: []
seealso:
  - module: airgap.torch_extensions.wheel_plan
"""

EXAMPLES = r"""
- name: Look at a builder
  airgap.torch_extensions.build_job:
    step: probe
    python: /opt/train
  register: probed

- name: Start a build whose files are there
  airgap.torch_extensions.build_job:
    step: start
    python: /opt/train
    job:
      id: causal-conv1d-1.7.0-4f9c2a7be1d05836
      name: causal-conv1d
      version: 1.7.0
      sdist:
        filename: causal_conv1d-1.7.0.tar.gz
        sha256: 0c1e6fe9ad5d4a90e02a3ba6f3d0c0f5a5a2f9a2a9ce93c5a8b3c4a4a9d7c8e1
      requirements: "{{ build_requirements }}"
      toolchain:
        home: /usr/local/cuda
      archs: ["9.0"]
      environ:
        CAUSAL_CONV1D_FORCE_BUILD: "TRUE"
      memory_per_job_mib: 4096
      disk_mib: 2000

- name: See how far it is
  airgap.torch_extensions.build_job:
    step: poll
    job:
      id: causal-conv1d-1.7.0-4f9c2a7be1d05836
  register: polled
  until: polled.job.state != 'running'
  retries: 240
  delay: 60
"""

RETURN = r"""
machine:
  description: What the machine is.
  returned: with O(step=probe)
  type: dict
  contains:
    cores:
      description: Cores that the user may use, by affinity and cgroups.
      type: int
      sample: 16
    load:
      description: How many processes have wanted a core in the last minute.
      type: float
      sample: 0.5
    memory_mib:
      description: Memory that is free, within the limits of cgroups.
      type: int
      sample: 120000
    free_mib:
      description: Room on the disk of O(folder).
      type: int
      sample: 50000
    folder:
      description: O(folder) as an absolute path without links.
      type: str
      sample: /home/trainer/.cache/airgap.torch_extensions.build
    cxx:
      description: C(path) and C(version) of the C++ compiler; null if there is none.
      type: dict
      sample: {"path": "/usr/bin/g++", "version": "12.2.0"}
    cc:
      description: The same of the C compiler.
      type: dict
      sample: {"path": "/usr/bin/gcc", "version": "12.2.0"}
    nvcc:
      description:
        - C(path), C(home) and C(version) of NVIDIA's compiler, and the newest major version of gcc that it takes (C(max_gcc), null if it
          does not tell); null if there is none.
      type: dict
      sample: {"path": "/usr/local/cuda/bin/nvcc", "home": "/usr/local/cuda", "version": "13.0", "max_gcc": 15}
    python_headers:
      description: Whether the headers of the environment's Python are there.
      type: bool
      sample: true
    python:
      description: The environment's Python.
      type: dict
      sample: {"executable": "/opt/train/bin/python", "tag": "cp311", "abi": "cp311", "prefix": "/opt/train", "version": "3.11.2"}
    torch:
      description: The environment's torch; null if there is none.
      type: dict
      sample: {"version": "2.14.1+cu130", "cuda": "13.0", "cxx11_abi": true}
    libc:
      description: Version of glibc; null with another C library.
      type: str
      sample: "2.36"
    machine:
      description: As C(uname -m) writes it.
      type: str
      sample: x86_64
    slurm:
      description: Whether there is C(sbatch).
      type: bool
      sample: false
job:
  description: What has become of the build.
  returned: with O(step=poll)
  type: dict
  contains:
    state:
      description:
        - C(absent) if nothing is known of it, C(running), C(finished) or C(failed). C(lost) if it has ended without a word, as what is
          killed does.
      type: str
      sample: running
    step:
      description: How many steps of the compilers are done, as ninja counts; 0 before it begins.
      type: int
      sample: 12
    steps:
      description: How many there are.
      type: int
      sample: 72
    seconds:
      description: Since when it runs, or how long it took.
      type: float
      sample: 340.2
    message:
      description: What it does; or why there is no wheel, the first error of the compiler above all, in words that follow a colon.
      type: str
      sample: compiles
    log:
      description: Path of the whole log.
      type: str
      sample: /home/trainer/.cache/airgap.torch_extensions.build/causal-conv1d-1.7.0-4f9c2a7be1d05836/build.log
    wheel:
      description: C(filename), C(path), C(sha256) and C(size) of the wheel; null until it is finished.
      type: dict
      sample: null
    compilers:
      description: Versions of the C++ compiler (C(cxx)) and of C(nvcc), which is null where nothing is compiled for GPUs.
      type: dict
      sample: {"cxx": "12.2.0", "nvcc": "13.0.88"}
    core_seconds:
      description: Time of cores that it has used, of earlier attempts included as far as they have ended by themselves.
      type: float
      sample: 640.1
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import builder, job_control, takers
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import (
    JobFolder,
    resolve_folder,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_FILE = {"filename": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}}
_FILES = {"type": "list", "elements": "dict", "options": _FILE}
_JOB = {
    "id": {"type": "str", "required": True},
    "name": {"type": "str"},
    "version": {"type": "str"},
    "sdist": {"type": "dict", "options": _FILE},
    "requirements": {**_FILES, "default": []},
    "torch": {**_FILES, "default": []},
    "toolchain": {"type": "dict", "options": {"home": {"type": "str"}, "wheels": _FILES, "archives": _FILES}},
    "archs": {"type": "list", "elements": "str", "default": []},
    "cxx_standard": {"type": "str"},
    "environ": {"type": "dict", "default": {}},
    "epoch": {"type": "int", "default": 315619200},
    "time_limit": {"type": "int", "default": 14400},
    "jobs": {"type": "int", "default": 0},
    "memory_per_job_mib": {"type": "int", "default": 0},
    "disk_mib": {"type": "int", "default": 0},
    "label": {"type": "str"},
    "taker": {"type": "str"},
    "slurm": {"type": "dict", "options": {"options": {"type": "list", "elements": "str", "default": []}}},
}
_FOR_START = ("name", "version", "sdist", "requirements")
_ARCH = re.compile(r"\d+\.\d[af]?(\+PTX)?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def main():
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["probe", "start", "poll", "stop", "clear"], "required": True},
            "python": {"type": "str", "default": "python3"},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "folder": {"type": "str", "default": "~/.cache/airgap.torch_extensions.build"},
            "module": {"type": "str", "default": ""},
            "wait": {"type": "int", "default": 0},
            "job": {"type": "dict", "options": _JOB},
        },
        required_if=[("step", step, ("job",)) for step in ("start", "poll", "stop", "clear")],
        supports_check_mode=True,
    )
    try:
        result = _run(module.params, module.check_mode)
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        where = exc.filename or module.params["folder"]
        module.fail_json(msg=f"{where} on this node cannot be used ({exc.strerror}). Set torch_extension_build_dir.")
    module.exit_json(**result)


def _run(params, check_mode):
    step, folder = params["step"], resolve_folder(params["folder"])
    if step == "probe":
        found = builder.look_at(params["python"], params["module"], os.environ, params["trusted_owners"])
        return {"changed": False, "machine": builder.describe(found, folder)}
    job_folder = JobFolder(folder, params["job"]["id"])
    job_control.check_folder(job_folder, params["trusted_owners"])
    if step == "poll" and params["job"]["taker"] and not check_mode:
        takers.note_taker(job_folder.takers, params["job"]["taker"])
    if step == "poll":
        return {"changed": False, "job": job_control.wait(job_folder, params["wait"])}
    if step == "stop":
        return {"changed": job_control.stop(job_folder, check_mode)}
    if step == "clear":
        return {"changed": job_control.clear(job_folder, params["job"], check_mode)}
    job = {**_check_job(params["job"]), **{name: params[name] for name in ("python", "module", "trusted_owners")}}
    return {"changed": job_control.start(job_folder, job, check_mode)}


def _check_job(job):
    missing = [name for name in _FOR_START if not job[name]]
    if missing:
        raise TorchExtensionError(f"job lacks {', '.join(missing)}, which step start needs.")
    for arch in job["archs"]:
        if not _ARCH.fullmatch(arch):
            raise TorchExtensionError(
                f"{arch!r} is not an architecture of GPUs, wanted is one such as 9.0, 9.0a or 12.0+PTX. Set torch_extension_build_archs."
            )
    if job["toolchain"] and not job["archs"]:
        raise TorchExtensionError("job has a toolchain and no archs to compile for. Set torch_extension_build_archs.")
    for name in job["environ"]:
        if not _VARIABLE.fullmatch(name):
            raise TorchExtensionError(f"job.environ has {name!r}, which is not the name of a variable.")
    return {**job, "environ": {name: str(value) for name, value in job["environ"].items()}}


if __name__ == "__main__":
    main()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: wheel
short_description: The wheel of a PyTorch extension for a node
version_added: 0.1.0
description:
  - Tells which prebuilt wheel of flash-attn and its kin a node needs, where it is, and where the node's pip would look for it.
  - It asks the O(source) what wheels there are and chooses for the O(environment) alone; it looks at nothing else of any
    machine.
  - A wheel fits when all that its name states fits. That is torch (as much of the version as the name has), the major version of
    CUDA, the C++11 ABI, and the tags of Python and platform.
  - Of those that fit, the newest version counts that the requirement allows. Of several of one version, first comes one for
    torch's own CUDA minor, then for the nearest older one, then one whose name does not tell, then for a newer one; then one whose
    name tells the C++11 ABI; then one whose name tells more of torch's version; then the more specific tag, as pip ranks them;
    then the newer release.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging
  - requests
  - jmespath
options:
  _terms:
    description:
      - Requirements (PEP 508) of known packages, as in V(flash-attn==2.8.3), V(flash-attn>=2.7,<2.9) or V(flash-attn).
      - One that leaves a choice means the newest version that has a wheel that fits.
    type: list
    elements: str
    required: true
  environment:
    description:
      - What M(airgap.torch_extensions.torch_info) returned for the node, RV(airgap.torch_extensions.torch_info#module:environment).
    type: dict
    required: true
  source:
    description:
      - Where wheels come from, in this order; the first that has one that fits answers. Each is a word, or a word and a place.
      - V(release) is what the project's own release on GitHub really holds, as GitHub's API tells it, with size and, for files
        uploaded since June 2025, SHA-256. If the API cannot be asked and has not been before, V(guess) takes its place, with a
        warning, for a requirement that pins one version.
      - V(github:OWNER/NAME) is all releases of a repository of others, such as
        V(github:mjun0812/flash-attention-prebuild-wheels). A wheel whose name tells no C++11 ABI counts as built for torch as
        the package index has it.
      - V(index:URL) is an index (PEP 503, PEP 691), its page for the package, or any page with links to wheels.
      - V(directory:PATH) is a folder on the control node.
      - V(bundle:PATH) is a folder or tar that M(airgap.torch_extensions.wheel_bundle) has made.
      - V(guess) is the URL that C(setup.py) of this very version would guess, without network. It is faithful, upstream's
        mistakes included; RV(_list[].conflicts) tells where such a wheel cannot work. It does not know whether the file exists,
        and it needs a requirement that pins one version.
    type: list
    elements: str
    default: [release]
  lock:
    description:
      - Path of a lock on the control node, as M(airgap.torch_extensions.wheel_lock) writes it. With it, nothing is asked; what is not
        in it is refused, and O(source) does not count.
    type: path
  github_url:
    description:
      - Where GitHub is, or a mirror of it with the same paths.
      - Credentials do not belong here. Put them in C(~/.netrc) of the control node.
    type: str
    default: https://github.com
  github_api_url:
    description:
      - Where GitHub's API is, or that of a GitHub Enterprise (V(https://ghe.example/api/v3)) or a mirror.
    type: str
    default: https://api.github.com
  github_token:
    description:
      - A token for the API, which raises its limit of requests. It needs no permissions. It is sent to the host of O(github_api_url)
        alone.
      - When empty, the environment variable C(GITHUB_TOKEN) of C(ansible-playbook) counts.
    type: str
    default: ""
  proxy:
    description:
      - Proxy for what is asked, as in V(http://proxy.example:3128). When empty, C(https_proxy) and C(http_proxy) count, and
        C(no_proxy) always.
    type: str
    default: ""
  ca_path:
    description:
      - File of CA certificates (PEM) to trust instead of the usual ones.
    type: path
  cache_dir:
    description:
      - Folder that keeps the answers. When empty, C($XDG_CACHE_HOME/airgap.torch_extensions) or
        C(~/.cache/airgap.torch_extensions).
    type: path
  max_age:
    description:
      - For how many seconds an answer serves before the place is asked again. An older one is still used, with a warning, where
        the place cannot be asked.
    type: int
    default: 600
  sdist_url:
    description:
      - File URL of the package's sdist on the index that the node uses, C(#sha256=…) included, as it stands on the index page.
        With it, RV(_list[].pip_cache_path) is told.
      - With several terms, a dictionary from the package's name to its URL.
      - Without it, RV(_list[].pip_cache_path) follows from what the node's own pip said, where
        O(airgap.torch_extensions.torch_info#module:sdists) asked it.
    type: raw
  pip_cache:
    description:
      - Whether the wheel is wanted in the pip cache of the node. If so, it counts as a conflict where pip would not use its
        cache, or where RV(_list[].pip_cache_path) cannot be told.
    type: bool
    default: false
  sha256:
    description:
      - Known SHA-256 hashes of wheels, by file name. One that contradicts the O(source) is a conflict.
    type: dict
    default: {}
  require_sha256:
    description:
      - Whether a wheel whose hash neither its source nor O(sha256) tells is a conflict.
    type: bool
    default: false
  strict:
    description:
      - Whether a requirement without an answer is an error. If not, it comes back with RV(_list[].url) null and the reason
        in RV(_list[].conflicts).
    type: bool
    default: true
seealso:
  - module: airgap.torch_extensions.torch_info
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Probe the node
  airgap.torch_extensions.torch_info:
    python: /opt/venv
    distributions: [flash-attn]
  register: probe

- name: Show the URL of the wheel that the node needs
  ansible.builtin.debug:
    msg: "{{ lookup('airgap.torch_extensions.wheel', 'flash-attn==2.5.3', environment=probe.environment, source='guess').url }}"

- name: Show where pip would look for it, with the sdist on a given index
  vars:
    sdist_url: "https://pypi.tuna.tsinghua.edu.cn/packages/b9/ec/\
      953adfbd9d95b0e9385d3946b81c0446ae723f70fafcb0b5c40e10f5d7f2/flash_attn-2.5.3.tar.gz\
      #sha256=5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda"
    wheel: "{{ lookup('airgap.torch_extensions.wheel', 'flash-attn==2.5.3', environment=probe.environment, source='guess',
                     sdist_url=sdist_url) }}"
  ansible.builtin.debug:
    msg: "{{ wheel.pip_cache_path }}"

- name: Show the newest wheel below 2.9 that exists for the node, official or not, and why it was taken
  vars:
    sources: [release, "github:mjun0812/flash-attention-prebuild-wheels"]
    wheel: "{{ lookup('airgap.torch_extensions.wheel', 'flash-attn<2.9', environment=probe.environment, source=sources) }}"
  ansible.builtin.debug:
    msg: "{{ wheel.filename }} since {{ wheel.ground }}"

- name: Let the node's own pip find the sdist on its index
  airgap.torch_extensions.torch_info:
    python: /opt/venv
    distributions: [flash-attn]
    sdists: [flash-attn==2.5.3]
  register: asked

- name: Show where it would look for the wheel
  ansible.builtin.debug:
    msg: "{{ lookup('airgap.torch_extensions.wheel', 'flash-attn==2.5.3', environment=asked.environment, source='guess',
                   pip_cache=true).pip_cache_path }}"
"""

RETURN = r"""
_list:
  description: One dictionary for each requirement.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package, normalised.
      type: str
      sample: flash-attn
    requirement:
      description: The term that this answers.
      type: str
      sample: flash-attn<2.6
    version:
      description: Its version.
      type: str
      sample: 2.5.3
    filename:
      description:
        - File name of the wheel, under which pip takes it. A second C(+) of upstream's name is a dot here, for no pip since 24.1
          takes two.
      type: str
      sample: flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
    url:
      description: Where it is.
      type: str
      sample: >-
        https://github.com/Dao-AILab/flash-attention/releases/download/v2.5.3/flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
    source:
      description: The O(source) that told it, as it is written there.
      type: str
      sample: release
    release:
      description: Tag of the release that holds it, or null.
      type: str
      sample: v2.5.3
    ground:
      description: Why this wheel, in a sentence.
      type: str
      sample: its name says torch 2.2, CUDA 12.2, C++11 ABI FALSE, cp311-cp311-linux_x86_64; 1 of 48 wheels of 2.5.3 fit
    refused:
      description: The other wheels of this version that the source has. For each RV(ignore:filename) and RV(ignore:reasons).
      type: list
      elements: dict
      sample:
        - filename: flash_attn-2.5.3+cu118torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
          reasons: ["it is for CUDA 11, this node has CUDA 12.1"]
    newer:
      description: Newer versions that the requirement allows and that have no wheel for the node. For each RV(ignore:version) and
        RV(ignore:reason).
      type: list
      elements: dict
      sample: []
    warnings:
      description: What the operator should know of the answer, such as that the API could not be asked.
      type: list
      elements: str
      sample: []
    requirements:
      description: From a O(lock) or a bundle, the wheels of what this one requires beside torch; else null.
      type: list
      elements: dict
      sample:
    sha256:
      description: Its SHA-256, from the source, the O(lock) or O(sha256), or null.
      type: str
      sample:
    size:
      description: Its size in bytes, or null where the source does not tell.
      type: int
      sample:
    imports:
      description: The modules to import as a proof that it works.
      type: list
      elements: str
      sample: [flash_attn]
    sdist_url:
      description: The package's O(sdist_url), or the URL that the node's pip told, or null.
      type: str
      sample:
    pip_cache_path:
      description: Where on the node its pip looks for the wheel, or null if neither O(sdist_url) nor the node's pip told it.
      type: str
      sample: "/home/user/.cache/pip/wheels/0b/b5/fb/4eb31ffcf262c7b78dd3ae076329e02560008d5bb11c6c6f6d/\
        flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    conflicts:
      description: Why this wheel cannot serve the node.
      type: list
      elements: str
      sample: ["the wheel is built for CUDA 12, torch for CUDA 13.0"]
    action:
      description:
        - What has to be done on the node. V(install), V(replace) or V(keep); V(examine) where the environment does not tell
          and M(airgap.torch_extensions.torch_extension) in check mode would; V(refuse) where there are
          RV(_list[].conflicts).
      type: str
      sample: install
    reason:
      description: Why.
      type: str
      sample: flash-attn is not installed
"""

import os

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._decision import Settings, decide
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._download import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._http import proxied
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import Access

display = Display()


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        option = self.get_option
        access = Access(
            cache=option("cache_dir") or default_cache(),
            github_url=option("github_url"),
            github_api_url=option("github_api_url"),
            github_token=option("github_token") or os.environ.get("GITHUB_TOKEN"),
            ca_path=option("ca_path"),
            max_age=option("max_age"),
        )
        settings = Settings(
            access,
            sources=option("source"),
            lock=option("lock"),
            sdist_url=option("sdist_url"),
            sha256=option("sha256"),
            require_sha256=option("require_sha256"),
            pip_cache=option("pip_cache"),
        )
        try:
            with proxied(option("proxy")):
                answers = [
                    decide(str(term), option("environment"), settings, strict=option("strict"))
                    for term in self._flatten(terms)
                ]
        except TorchExtensionError as exc:
            raise AnsibleLookupError(str(exc)) from exc
        for warning in dict.fromkeys(warning for answer in answers for warning in answer["warnings"]):
            display.warning(warning)
        return answers

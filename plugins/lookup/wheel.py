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
  - A wheel fits when all that its name, its address and its METADATA state fits, and agrees. That is torch (as much of the version
    as the name has), the major version of CUDA, the C++11 ABI, and the tags of Python and platform.
  - Of those that fit, the newest version counts that the requirement allows. Of several of one version, first comes one for
    torch's own CUDA minor, then for the nearest older one, then one whose name does not tell, then for a newer one; then one whose
    name tells the C++11 ABI; then one whose name tells more of torch's version; then the more specific tag of Python; then one that
    promises the system that it needs (C(manylinux)); then the higher build number; then the newer release.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
requirements:
  - packaging
  - requests
  - jmespath
extends_documentation_fragment:
  - airgap.torch_extensions._control_node
  - airgap.torch_extensions._sources
options:
  _terms:
    description:
      - Requirements (PEP 508) of known packages, as in V(flash-attn==2.8.3), V(flash-attn>=2.7,<2.9) or V(flash-attn).
      - One that leaves a choice means what is installed, if it meets it and is for the torch that is there; otherwise the newest
        version that has a wheel that fits.
    type: list
    elements: str
    required: true
  environment:
    description:
      - What M(airgap.torch_extensions.torch_info) returned for the node, RV(airgap.torch_extensions.torch_info#module:environment).
    type: dict
    required: true
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
      description: Where it is; null if what is installed stays.
      type: str
      sample: >-
        https://github.com/Dao-AILab/flash-attention/releases/download/v2.5.3/flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
    other_urls:
      description:
        - Further links to this file that the source has, in their order. Where RV(_list[].url) does not give it (such as a page for
          people, or 404), these are tried.
      type: list
      elements: str
      sample: []
    source:
      description: The O(source) that told it, as it is written there; V(installed) if what is installed stays.
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
      description:
        - Why the other wheels of this version that the source has are not taken, the most frequent reason first. For each
          RV(ignore:reason), to how many it applies (RV(ignore:count)), and one of them (RV(ignore:filename)). A wheel with several
          reasons counts for the first.
      type: list
      elements: dict
      sample:
        - reason: it is for CUDA 11, this node has CUDA 12.1
          count: 24
          filename: flash_attn-2.5.3+cu118torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
    newer:
      description: Newer versions that the requirement allows and that have no wheel for the node. For each RV(ignore:version) and
        RV(ignore:reason).
      type: list
      elements: dict
      sample: []
    build:
      description:
        - With O(source) V(build), what a wheel has to be built from, and for which nodes; C(sdist), C(kind), C(libc) and C(architectures).
      type: dict
      sample:
    built:
      description:
        - How a wheel was built that comes from O(source) V(build); C(sdist), C(sdist_sha256), C(torch), C(architectures), C(compilers) and
          C(builder).
      type: dict
      sample:
    provable:
      description:
        - With O(match=proven), wheels that may serve and would be tried before this one, or where no wheel fits, in the order in
          which to try them, each with the same keys. M(airgap.torch_extensions.wheel_plan) takes the first of which a node has what
          it needs.
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

import typing as t

from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.outcome import answer_lookup
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import (
    choose_wheel,
    read_settings,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.requirement_list import (
    whole_requirements,
)

display = Display()


class LookupModule(LookupBase):
    def run(
        self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)

        def look_up() -> list[dict[str, t.Any]]:
            settings = read_settings(self.get_option)._replace(pip_cache=self.get_option("pip_cache"))
            with use_proxy(self.get_option("proxy")):
                return [
                    choose_wheel(term, self.get_option("environment"), settings, strict=self.get_option("strict"))
                    for term in whole_requirements([str(term) for term in self._flatten(terms)])
                ]

        answers = answer_lookup("wheel", look_up)
        for warning in dict.fromkeys(warning for answer in answers for warning in answer["warnings"]):
            display.warning(warning)
        return answers

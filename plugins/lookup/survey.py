# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: survey
short_description: What the nodes inside a gap have
version_added: 0.1.0
description:
  - Reads the file that the playbook C(airgap.torch_extensions.survey) has written, on the control node outside the gap.
  - The file is not trusted. It is refused if it has YAML aliases, keys that stand there twice, types other than texts, numbers, lists
    and dictionaries, or more than 16 MiB or 200,000 values.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
options:
  _terms:
    description: The paths of surveys. A relative one is relative to the folder in which Ansible was started.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Show which nodes a survey has
  ansible.builtin.debug:
    msg: "{{ (lookup('airgap.torch_extensions.survey', 'environments.yml')).environments | map(attribute='nodes') | flatten }}"
"""

RETURN = r"""
_list:
  description: A dictionary for each path.
  type: list
  elements: dict
  contains:
    survey_version:
      description: The version of the format.
      type: int
      sample: 1
    environments:
      description:
        - For each kind of nodes, the names of its C(nodes), the C(packages) that are wanted there, and its C(environment), as
          M(airgap.torch_extensions.torch_info) returned it.
      type: list
      elements: dict
      sample: [{nodes: [n1, n2], packages: [flash-attn], environment: {}}]
"""

import typing as t

from ansible.plugins.lookup import LookupBase

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.outcome import answer_lookup
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.survey_file import read_survey


class LookupModule(LookupBase):
    def run(
        self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        return answer_lookup("survey", lambda: [read_survey(str(term)) for term in self._flatten(terms)])

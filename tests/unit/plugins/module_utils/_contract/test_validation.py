# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import (
    check_environment,
    check_facts,
)


def test_an_environment_with_further_keys_is_accepted(environment):
    check_environment(environment)
    check_environment({**environment, "more": 1})


@pytest.mark.parametrize("missing", ["python", "origins"])
def test_an_incomplete_environment_is_refused_with_the_missing_key_and_where_to_get_it(missing, environment):
    rest = {key: value for key, value in environment.items() if key != missing}
    with pytest.raises(TorchExtensionError, match=f"environment lacks {missing}: wanted is .* torch_info returns"):
        check_environment(rest)


@pytest.mark.parametrize(
    "damage",
    [["flash-attn"], {"flash-attn": ["a"]}, {"flash-attn": {"missing": ["a"]}}, {"a": {"missing": [], "changed": [1]}}],
)
def test_damage_in_another_form_is_refused(damage, environment):
    check_environment({**environment, "damage": {"flash-attn": {"missing": ["a"], "changed": []}}})
    with pytest.raises(TorchExtensionError, match=r"damage in environment does not list files .* torch_info returns"):
        check_environment({**environment, "damage": damage})


class TaggedList(list):
    """As ansible-core makes one."""


def test_facts_that_are_not_a_dictionary_are_refused():
    check_facts({})
    with pytest.raises(TorchExtensionError, match="facts is list, wanted is the dictionary 'facts' that wheel_fetch"):
        check_facts(TaggedList([{"filename": "a.whl"}]))

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.module_utils.common.validation import check_type_list

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import parse_requirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.requirement_list import (
    whole_requirements,
)


@pytest.mark.parametrize("operator", ["<", "<=", "!=", "==", ">=", ">", "~=", "==="])
def test_a_string_that_ansible_splits_at_each_comma_has_the_requirements_that_were_written(operator):
    written = f"flash-attn>=2.7,{operator}2.8 , causal-conv1d"
    whole = whole_requirements(check_type_list(written))
    assert whole == [f"flash-attn>=2.7,{operator}2.8", "causal-conv1d"]
    flash_attn, causal_conv1d = map(parse_requirement, whole)
    assert (len(flash_attn.specifier), len(causal_conv1d.specifier)) == (2, 0)


def test_a_list_is_taken_as_it_is():
    for written in (["flash-attn>=2.7, <2.8", "flash-attn (>=2.7,<2.8)", "Flash_Attn==2.8.3"], ["flash-attn"], []):
        assert whole_requirements(written) == written


def test_names_of_extras_stay_together_so_that_the_refusal_has_them_all():
    (whole,) = whole_requirements(check_type_list("transformer-engine-torch[a,b]>=2,<3"))
    assert whole == "transformer-engine-torch[a,b]>=2,<3"


@pytest.mark.parametrize("written", ["", "<2.8", "flash-attn,,causal-conv1d", "flash-attn,"])
def test_what_is_no_requirement_is_left_for_the_plan_to_refuse(written):
    whole = whole_requirements(check_type_list(written))
    assert ",".join(whole) == written
    assert whole

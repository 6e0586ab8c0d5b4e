# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical, join_names


@pytest.mark.parametrize("name", ["flash-attn", "flash_attn", "Flash.Attn", "FLASH-_.attn"])
def test_all_spellings_of_a_name_have_one_canonical_form(name):
    assert canonical(name) == "flash-attn"


@pytest.mark.parametrize(("limit", "text"), [(3, "a, b, c"), (2, "a, b and 1 more")])
def test_of_many_names_a_sentence_has_the_first_and_the_number_of_the_others(limit, text):
    assert join_names(["a", "b", "c"], limit) == text

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical


@pytest.mark.parametrize("name", ["flash-attn", "flash_attn", "Flash.Attn", "FLASH-_.attn"])
def test_all_spellings_of_a_name_have_one_canonical_form(name):
    assert canonical(name) == "flash-attn"

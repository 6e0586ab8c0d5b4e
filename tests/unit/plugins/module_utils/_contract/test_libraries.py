# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library

MISSING = ImportError("No module named 'tqdm'")
FACT = "The Python that runs Ansible on the control node lacks tqdm (No module named 'tqdm')."


def test_a_library_that_was_imported_is_no_error():
    require_library("tqdm", None)


@pytest.mark.parametrize(
    ("alternative", "advice"),
    [
        ("", "Install the collection's requirements.txt into it."),
        ("do without", "Install the collection's requirements.txt into it, or do without."),
    ],
)
def test_a_missing_library_is_an_error_that_says_what_to_do(alternative, advice):
    with pytest.raises(TorchExtensionError) as raised:
        require_library("tqdm", MISSING, alternative)
    assert str(raised.value) == f"{FACT} {advice}"

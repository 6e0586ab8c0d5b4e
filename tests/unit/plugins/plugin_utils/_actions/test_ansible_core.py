# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import require_ansible_core


@pytest.mark.parametrize("version", ["2.9.27", "2.15.13"])
def test_an_ansible_core_that_is_too_old_is_refused(version):
    words = f"The control node runs ansible-core {version}, wanted is 2.16 or newer. Nothing was changed."
    with pytest.raises(TorchExtensionError, match=re.escape(words)):
        require_ansible_core(version)


@pytest.mark.parametrize("version", ["2.16.0", "2.22.0.dev0", "3.0.0rc1"])
def test_an_ansible_core_that_is_new_enough_is_not(version):
    require_ansible_core(version)
    require_ansible_core()

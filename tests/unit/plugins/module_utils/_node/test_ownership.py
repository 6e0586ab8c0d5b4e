# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import check_ownership


def test_an_environment_of_the_user_may_be_changed(environment, tmp_path):
    check_ownership(environment, [str(tmp_path)])


def test_an_environment_of_the_operating_system_is_refused(environment, tmp_path):
    environment["python"]["externally_managed"] = True
    with pytest.raises(TorchExtensionError, match=r"python belongs to the operating system .*PEP 668.*Make a venv"):
        check_ownership(environment, [str(tmp_path)])


@pytest.mark.parametrize("folder", ["/proc/none", None])
def test_a_folder_that_the_user_cannot_write_to_is_refused(folder, environment, tmp_path):
    with pytest.raises(TorchExtensionError, match=f"User id {os.geteuid()} cannot write to {folder}.*become_user"):
        check_ownership(environment, [str(tmp_path), folder])

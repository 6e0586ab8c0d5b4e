# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    environment_of_entry,
    kind_of_node,
)


@pytest.mark.parametrize("value", [None, {}, {"python": {}}, "text", {"distributions": None}, {"distributions": ...}])
def test_anything_but_an_environment_is_an_error(value, environment):
    if isinstance(value, dict) and "distributions" in value:
        value = {**environment, **value}
    with pytest.raises(TorchExtensionError, match="torch_info returns"):
        kind_of_node(value)


@pytest.mark.parametrize(("tag", "version"), [("cp38", "3.8"), ("cp311", "3.11"), ("py3", "3.0")])
def test_a_locked_environment_has_what_a_choice_by_tags_needs(tag, version):
    node = environment_of_entry({"python": tag, "abi": tag, "machine": "aarch64", "libc": "glibc 2.36"})
    assert node["python"] == {"tag": tag, "abi": tag, "version": version}
    assert node["platform"] == {"machine": "aarch64", "libc": {"name": "glibc", "version": "2.36"}}
    assert environment_of_entry({"python": tag, "abi": tag, "machine": "a", "libc": None})["platform"]["libc"] is None

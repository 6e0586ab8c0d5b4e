# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache


def test_the_cache_is_where_the_desktop_specification_wants_it(home, monkeypatch):
    assert default_cache() == f"{home}/.cache/airgap.torch_extensions"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache() == "/x/airgap.torch_extensions"

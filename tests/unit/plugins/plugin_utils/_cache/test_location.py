# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache_dir


def test_the_default_cache_folder_follows_the_xdg_base_directory_specification(home, monkeypatch):
    assert default_cache_dir() == f"{home}/.cache/airgap.torch_extensions"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_dir() == "/x/airgap.torch_extensions"

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from other_users import OWNER, as_user, needs_root

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache


def test_the_default_cache_folder_follows_the_xdg_base_directory_specification(home, monkeypatch):
    assert locate_cache(None) == locate_cache("") == f"{home}/.cache/airgap.torch_extensions"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert locate_cache(None) == "/x/airgap.torch_extensions"


def test_a_folder_of_the_user_is_taken_by_way_of_a_link_too(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("cache")
    assert locate_cache(f"{tmp_path}/link") == f"{tmp_path}/link"


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused_with_its_owner_and_mode(mode, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    words = (
        rf"{tmp_path}/cache .*: everybody may write to {tmp_path}/cache \(owner root, mode {mode:04o}\)\. Wanted .* nobody but root"
        rf" can change\. .*chmod o-w {tmp_path}/cache.*set torch_extension_cache_dir"
    )
    with pytest.raises(TorchExtensionError, match=words):
        locate_cache(f"{tmp_path}/cache")


@needs_root
@pytest.mark.parametrize("whose", ["above", "above/cache"])
def test_a_folder_of_another_user_or_below_one_is_refused(whose, open_folder):
    (open_folder / "above/cache").mkdir(parents=True)
    os.chown(open_folder / whose, OWNER, OWNER)
    with pytest.raises(TorchExtensionError, match=rf"{open_folder}/{whose} belongs to {OWNER} \(mode"):
        locate_cache(f"{open_folder}/above/cache")
    os.chown(open_folder / "above", 0, 0)
    os.chown(open_folder / "above/cache", OWNER, OWNER)
    with as_user(OWNER):
        assert locate_cache(f"{open_folder}/above/cache")

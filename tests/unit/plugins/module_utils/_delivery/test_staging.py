# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

from other_users import OWNER, needs_root

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.staging import clear_staged


def test_files_go_and_the_folder_if_nothing_else_is_in_it(tmp_path):
    folder = tmp_path / "stage"
    folder.mkdir()
    for name in ("a.whl", "b.whl"):
        (folder / name).touch()
    clear_staged(str(folder), ["a.whl", "none.whl"])
    assert os.listdir(folder) == ["b.whl"]
    clear_staged(str(folder), [f"{tmp_path}/b.whl"])
    assert not folder.exists()
    clear_staged(str(folder), ["a.whl"])


@needs_root
def test_root_removes_nothing_where_another_user_can_have_a_path_lead(open_folder):
    (open_folder / "roots").mkdir()
    (open_folder / "roots/a.whl").touch()
    (open_folder / "theirs").mkdir()
    (open_folder / "theirs/stage").symlink_to(open_folder / "roots")
    os.chown(open_folder / "theirs", OWNER, OWNER)
    clear_staged(f"{open_folder}/theirs/stage", ["a.whl"])
    assert (open_folder / "roots/a.whl").exists()
    clear_staged(f"{open_folder}/theirs/stage", ["a.whl"], [str(OWNER)])
    assert not (open_folder / "roots/a.whl").exists()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

from other_users import OWNER, needs_root

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging

NAME = "flash_attn-2.8.3-py3-none-any.whl"


def test_a_part_that_somebody_writes_is_not_abandoned(tmp_path):
    parts = [staging.part_name(NAME, digit * 64) for digit in "01"]
    for name in (NAME, *parts):
        (tmp_path / name).touch()
    code = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, tmp_path / parts[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert staging.list_abandoned(str(tmp_path)) == [parts[1], NAME]
        process.kill()
    assert staging.list_abandoned(str(tmp_path)) == [*parts, NAME]


def test_files_go_and_the_folder_if_nothing_else_is_in_it(tmp_path):
    folder = tmp_path / "stage"
    folder.mkdir()
    for name in ("a.whl", "b.whl"):
        (folder / name).touch()
    staging.clear_staged(str(folder), ["a.whl", "none.whl"])
    assert os.listdir(folder) == ["b.whl"]
    staging.clear_staged(str(folder), [f"{tmp_path}/b.whl"])
    assert not folder.exists()
    staging.clear_staged(str(folder), ["a.whl"])


@needs_root
def test_root_removes_nothing_where_another_user_can_have_a_path_lead(open_folder):
    (open_folder / "roots").mkdir()
    (open_folder / "roots/a.whl").touch()
    (open_folder / "theirs").mkdir()
    (open_folder / "theirs/stage").symlink_to(open_folder / "roots")
    os.chown(open_folder / "theirs", OWNER, OWNER)
    staging.clear_staged(f"{open_folder}/theirs/stage", ["a.whl"])
    assert (open_folder / "roots/a.whl").exists()
    staging.clear_staged(f"{open_folder}/theirs/stage", ["a.whl"], [str(OWNER)])
    assert not (open_folder / "roots/a.whl").exists()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from other_users import OWNER, needs_root
from wheels import as_wanted, build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.delivered import (
    are_exchangeable,
    copy_files,
)

pytestmark = needs_root


@pytest.fixture
def folder(open_folder):
    path = open_folder / "above" / "delivered"
    path.mkdir(parents=True)
    for each in (path.parent, path):
        each.chmod(0o755)
    return path


@pytest.fixture
def wheel(folder):
    return as_wanted(build_wheel(folder))


def test_what_is_roots_alone_is_used_as_it_lies_there(wheel, folder):
    assert not are_exchangeable([wheel], str(folder), ())
    assert not are_exchangeable([{**wheel, "sha256": None}], str(folder), ())


@pytest.mark.parametrize("place", ["..", ".", "file"])
def test_what_another_user_can_exchange_is_copied_and_needs_a_hash(place, wheel, folder):
    path = folder / (wheel["filename"] if place == "file" else place)
    os.chown(path, OWNER, OWNER)
    assert are_exchangeable([wheel], str(folder), ())
    assert not are_exchangeable([wheel], str(folder), [str(OWNER)])
    unknown = {**wheel, "sha256": None}
    words = rf"{path.resolve()} belongs to {OWNER} .* no sha256 is given.*trusted_owners"
    with pytest.raises(TorchExtensionError, match=words):
        are_exchangeable([unknown], str(folder), ())
    assert not are_exchangeable([unknown], str(folder), [str(OWNER)])


def test_copies_are_this_users_alone_and_have_the_wanted_hash(wheel, folder, tmp_path):
    in_subfolder = {**wheel, "subfolder": "0123456789abcdef"}
    (folder / "0123456789abcdef").mkdir()
    (folder / wheel["filename"]).rename(folder / "0123456789abcdef" / wheel["filename"])
    assert copy_files([in_subfolder], str(folder), f"{tmp_path}/files") == f"{tmp_path}/files"
    copied = tmp_path / "files" / "0123456789abcdef" / wheel["filename"]
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "files").stat().st_mode) & 0o022 == 0
    (folder / "0123456789abcdef" / wheel["filename"]).write_bytes(b"planted")
    with pytest.raises(TorchExtensionError, match="has sha256"):
        copy_files([in_subfolder], str(folder), f"{tmp_path}/others")


def test_a_pipe_in_the_place_of_a_wheel_keeps_nobody_waiting(wheel, folder, tmp_path):
    (folder / wheel["filename"]).unlink()
    os.mkfifo(folder / wheel["filename"])
    with pytest.raises(TorchExtensionError, match=r"cannot be copied .* it is no regular file"):
        copy_files([wheel], str(folder), f"{tmp_path}/files")

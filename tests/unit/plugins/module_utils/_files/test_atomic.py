# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic


def test_a_file_is_written_with_its_mode_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "pip.conf"
    path.write_text("old")
    atomic.write_bytes(str(path), b"new", 0o640)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)
    assert os.listdir(tmp_path) == ["pip.conf"]


def test_a_file_is_copied_whole(tmp_path):
    data = os.urandom((1 << 20) + 1)
    (tmp_path / "source").write_bytes(data)
    atomic.copy_file(str(tmp_path / "source"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data


def test_a_copy_with_another_hash_than_the_wanted_one_is_refused_and_leaves_the_old_file(tmp_path):
    (tmp_path / "source").write_bytes(b"wheel")
    (tmp_path / "a.whl").write_bytes(b"old")
    digest = hashlib.sha256(b"wheel").hexdigest()
    with pytest.raises(TorchExtensionError, match=f"has sha256 {digest}, wanted is {'0' * 64}"):
        atomic.copy_file(str(tmp_path / "source"), str(tmp_path / "a.whl"), sha256="0" * 64)
    assert (tmp_path / "a.whl").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.whl", "source"]
    assert atomic.copy_file(str(tmp_path / "source"), str(tmp_path / "a.whl"), sha256=digest.upper()) == digest
    assert (tmp_path / "a.whl").read_bytes() == b"wheel"


def test_a_copy_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.whl"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        atomic.copy_file(str(tmp_path / "none"), str(path))
    assert os.listdir(tmp_path) == ["a.whl"]
    assert path.read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_gives_a_file_the_owner_of_another(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)
    path = tmp_path / "theirs" / "pip.conf"
    atomic.write_bytes(str(path), b"", like=(tmp_path / "theirs").stat())
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_another_user_puts_in_place_of_a_file_that_is_written_is_not_given_away(tmp_path, monkeypatch):
    victim = tmp_path / "of root"
    victim.touch(mode=0o600)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)

    def swap(handle):
        (half,) = (tmp_path / "theirs").iterdir()
        half.unlink()
        half.symlink_to(victim)

    monkeypatch.setattr(os, "fsync", swap)
    atomic.write_bytes(str(tmp_path / "theirs/pip.conf"), b"", 0o644, (tmp_path / "theirs").stat())
    assert (stat.S_IMODE(victim.stat().st_mode), victim.stat().st_uid) == (0o600, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_folder_is_made_for_the_owner_of_another_whatever_the_umask(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)
    before = os.umask(0o077)
    try:
        atomic.make_folder(str(tmp_path / "theirs/share"), 0o755, (tmp_path / "theirs").stat())
    finally:
        os.umask(before)
    status = (tmp_path / "theirs/share").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 1234, 1234)

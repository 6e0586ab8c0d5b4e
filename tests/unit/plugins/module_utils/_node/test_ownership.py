# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import re

import pytest
from other_users import OWNER, STRANGER, as_user, give, needs_root

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    check_ownership,
    check_same_owner,
    check_unlocked,
    check_writable,
    describe_access,
    explain_locked,
    explain_missing_installer,
    explain_obstacle,
    give_to_owner,
)


@pytest.fixture
def environment(environment, tmp_path):
    environment["python"]["prefix"] = str(tmp_path)
    return environment


def test_an_environment_of_the_user_may_be_changed(environment, tmp_path):
    check_ownership(environment, [str(tmp_path)])


def test_an_environment_of_the_operating_system_is_refused(environment, tmp_path):
    environment["python"]["externally_managed"] = True
    with pytest.raises(TorchExtensionError, match=r"python belongs to the operating system .*PEP 668.*Make a venv"):
        check_ownership(environment, [str(tmp_path)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"is_owner": False, "owner": "svc", "writable": False},
            r"User trainer cannot write to /env, which belongs to svc. Set become: true and become_user: svc.*make a venv",
        ),
        ({"writable": False}, r"User trainer, whose /env is, may not write to it.*chmod"),
        ({"writable": False, "read_only": True}, r"/env is on a file system that is mounted read-only"),
    ],
    ids=["somebody else's", "without the right", "read-only"],
)
def test_why_a_folder_cannot_be_changed_is_told_as_it_is(changes, words, environment):
    python = environment["python"]
    obstacle = explain_obstacle(python, "/env", {**python["access"], **changes})
    assert re.match(words, obstacle)
    assert explain_obstacle(python, "/env", python["access"]) is None


def test_root_is_not_told_to_become_root_where_a_server_makes_it_nobody(environment):
    squashed = {"user": "root", "owner": "alice", "is_owner": False, "writable": False, "read_only": False}
    assert "become_user: alice" in explain_obstacle(environment["python"], "/nfs/alice/venv", squashed)


def test_access_is_described_as_the_file_system_has_it(tmp_path):
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert describe_access(str(tmp_path)) == {
        "user": user,
        "owner": user,
        "is_owner": True,
        "writable": True,
        "read_only": False,
        "environment_owner": user,
        "locked": None,
    }
    assert describe_access("/proc/none") is None
    assert describe_access(None) is None


@pytest.mark.parametrize("folder", ["/proc/none", None])
def test_an_environment_without_a_folder_of_packages_is_refused(folder, environment, tmp_path):
    with pytest.raises(TorchExtensionError, match=f"has no folder of packages .{folder}.*Make a venv"):
        check_ownership(environment, [str(tmp_path), folder])


@needs_root
def test_what_root_makes_is_given_to_the_owner_of_the_environment_without_following_links(tmp_path):
    environment, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    environment.mkdir()
    os.chown(environment, 1234, 1234)
    elsewhere.write_text("of root")
    tree = environment / ".scratch" / "new"
    (tree / "package" / "sub").mkdir(parents=True)
    (tree / "package" / "sub" / "a.py").touch()
    (tree / "link").symlink_to(elsewhere)
    give_to_owner(str(tree), str(environment))
    for path in (tree / "package", tree / "package/sub", tree / "package/sub/a.py", tree / "link"):
        assert path.lstat().st_uid == 1234
    assert tree.stat().st_uid == 1234
    assert elsewhere.stat().st_uid == 0
    with pytest.raises(TorchExtensionError, match=r"belongs to 1234.*become_user: 1234"):
        check_same_owner(str(environment))


def test_an_environment_without_pip_and_uv_is_told_how_to_get_one(environment):
    assert explain_missing_installer(environment) is None
    environment["installers"] = {"pip": None, "uv": None, "reason": "this node has no uv (looked in /a)"}
    assert (
        "no pip, and this node has no uv (looked in /a). Run /opt/venv/bin/python -m ensurepip"
        in explain_missing_installer(environment)
    )


@needs_root
def test_folders_of_root_in_an_environment_are_named_with_whose_they_are_and_the_command(open_folder):
    names = ["a-1.dist-info", "a", "a/b", "a/b/c", "d"]
    for name in names:
        (open_folder / name).mkdir()
        (open_folder / name / "file").touch()
    give(open_folder, OWNER)
    give(open_folder / "a-1.dist-info", 0)
    paths = [str(open_folder / name) for name in ("a-1.dist-info", "a", "d", "none")]
    assert explain_locked(paths, str(open_folder)) is None, "to root"
    advice = f"As root, chown -R {OWNER}: {open_folder} gives all of it to {OWNER}."
    with as_user(OWNER):
        assert explain_locked(paths, str(open_folder)) == (
            f"{open_folder}/a-1.dist-info belongs to root, and user {OWNER} cannot change what is in it. {advice}"
        )
        with pytest.raises(TorchExtensionError, match=r"belongs to root.* Nothing was changed\."):
            check_unlocked(paths, str(open_folder))
    for name in names:
        os.chown(open_folder / name, 0, 0)
    with as_user(OWNER):
        assert explain_locked(paths, str(open_folder)) == (
            f"{open_folder}/a-1.dist-info, {open_folder}/a, {open_folder}/a/b and 2 more folders belong to root, and user {OWNER}"
            f" cannot change what is in them. {advice}"
        )
    give(open_folder, OWNER)
    os.chown(open_folder / "a" / "file", 0, 0)  # whose a file is does not matter
    with as_user(OWNER):
        assert explain_locked(paths, str(open_folder)) is None
        (open_folder / "d").chmod(0o500)
        assert "chmod -R u+w" in explain_locked(paths, str(open_folder))
    with as_user(STRANGER):
        assert f"Set become: true and become_user: {OWNER}." in explain_locked(paths, str(open_folder))


@needs_root
def test_a_folder_of_packages_that_is_roots_in_somebodys_environment_is_to_be_given_to_its_owner(
    environment, open_folder
):
    packages = open_folder / "lib"
    packages.mkdir()
    give(open_folder, OWNER)
    give(packages, 0)
    environment["python"]["prefix"] = str(open_folder)
    with (
        as_user(OWNER),
        pytest.raises(
            TorchExtensionError,
            match=rf"cannot write to {packages}, which belongs to root, though.*chown -R {OWNER}: {open_folder}",
        ),
    ):
        check_ownership(environment, [str(packages)])
    with as_user(STRANGER), pytest.raises(TorchExtensionError, match=r"Set become: true and become_user: root"):
        check_ownership(environment, [str(packages)])
    give(packages, OWNER)
    with as_user(OWNER):
        check_ownership(environment, [str(packages)])


@needs_root
def test_what_is_locked_in_a_folder_is_an_obstacle_before_anything_is_brought(environment, open_folder):
    (open_folder / "flash_attn-2.8.3.dist-info").mkdir()
    os.chown(open_folder, OWNER, OWNER)
    with as_user(OWNER):
        access = describe_access(str(open_folder), str(open_folder), ["flash_attn-2.8.3.dist-info"])
    assert "dist-info belongs to root" in explain_obstacle(environment["python"], str(open_folder), access)


@needs_root
def test_where_a_folder_does_not_exist_yet_the_one_above_it_has_to_be_writable(open_folder):
    (open_folder / "wheels").mkdir()
    os.chown(open_folder, OWNER, OWNER)
    with as_user(OWNER):
        check_writable(str(open_folder / "other/a/b"), str(open_folder))
        with pytest.raises(TorchExtensionError, match=rf"^{open_folder}/wheels belongs to root.*chown -R {OWNER}:"):
            check_writable(str(open_folder / "wheels/a/b"), str(open_folder))

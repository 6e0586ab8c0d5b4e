# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import re

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    check_ownership,
    check_same_owner,
    describe_access,
    explain_missing_installer,
    explain_obstacle,
    give_to_owner,
)


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
    }
    assert describe_access("/proc/none") is None
    assert describe_access(None) is None


@pytest.mark.parametrize("folder", ["/proc/none", None])
def test_an_environment_without_a_folder_of_packages_is_refused(folder, environment, tmp_path):
    with pytest.raises(TorchExtensionError, match=f"has no folder of packages .{folder}.*Make a venv"):
        check_ownership(environment, [str(tmp_path), folder])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
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

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess

import pytest
from other_users import OWNER, STRANGER, as_user, give, needs_root

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import (
    find_stranger,
    opened_folder,
    trust,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import (
    check_folder_and_above,
    discard_planted,
)

GROUP = 12399  # that no user of this machine is in


def in_shell(folder, trusted=()):
    """What the shell says against a folder; empty if it may be used."""
    command = f"cd {folder} || exit 2; {check_folder_and_above(trusted)} echo fine"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert (done.stdout == "fine\n") == (done.returncode == 0)
    return done.stderr.strip()


def judged(folder, trusted=()):
    """What both say against a folder of this user: in Python, and in the shell."""
    found = find_stranger(str(folder), trust(trusted))
    said = in_shell(folder, trusted)
    assert bool(found) == bool(said), (str(found), said)
    return str(found or "")


@pytest.fixture
def tree(open_folder):
    """A folder of this user's alone, and those above it, by their names."""
    (open_folder / "above" / "folder").mkdir(parents=True)
    for each in (open_folder / "above", open_folder / "above" / "folder"):
        each.chmod(0o755)
    return open_folder


def test_what_root_or_the_user_alone_may_change_is_safe(tree):
    assert judged(tree / "above/folder") == ""
    assert judged("/") == ""


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o777, r"everybody may write to .*/above \(owner {user}, mode 0777\)"),
        (0o775, r"group 12399 may write to .*/above \(owner {user}, mode 0775\)"),
        (0o3775, ""),
        (0o1777, ""),
    ],
    ids=["everybody", "a group", "a group, sticky", "everybody, sticky"],
)
@needs_root
def test_a_folder_above_that_others_may_write_to_is_not_safe_unless_they_cannot_rename_there(mode, words, tree):
    os.chown(tree / "above", -1, GROUP)
    (tree / "above").chmod(mode)
    found = judged(tree / "above/folder")
    assert pytest.importorskip("re").fullmatch(words.format(user="root"), found), found


@needs_root
def test_a_folder_itself_is_not_safe_where_others_may_write_sticky_or_not(tree):
    (tree / "above/folder").chmod(0o1777)
    assert "everybody may write to" in judged(tree / "above/folder")


@needs_root
@pytest.mark.parametrize("whose", ["above", "above/folder"])
def test_what_belongs_to_another_user_is_not_safe_unless_the_operator_trusts_that_one(whose, tree):
    os.chown(tree / whose, OWNER, -1)
    assert f"{tree}/{whose} belongs to {OWNER} (mode 0755)" == str(find_stranger(f"{tree}/above/folder", trust()))
    assert in_shell(tree / "above/folder")
    os.chown(tree / "above/folder", 0, -1)
    os.chown(tree / "above", OWNER, -1)
    assert judged(tree / "above/folder", [str(OWNER)]) == ""
    assert judged(tree / "above/folder", ["nobody-has-this-name", str(STRANGER)]) != ""


@needs_root
def test_a_group_may_write_where_the_operator_trusts_it(tree):
    os.chown(tree / "above", 0, GROUP)
    (tree / "above").chmod(0o2775)
    assert judged(tree / "above/folder", [f"%{GROUP}"]) == ""
    assert judged(tree / "above/folder", [str(GROUP)]) != "", "a user of that number"
    with_name = next(group for group in grp.getgrall() if group.gr_gid >= 100)
    os.chown(tree / "above", 0, with_name.gr_gid)
    assert judged(tree / "above/folder", [f"%{with_name.gr_name}"]) == ""


@needs_root
def test_the_group_that_one_user_alone_is_in_is_that_user(tree):
    groups = {user.pw_gid: user for user in pwd.getpwall() if user.pw_uid >= 1000 and user.pw_name != "nobody"}
    user = next(
        (
            user
            for gid, user in groups.items()
            if sum(other.pw_gid == gid for other in pwd.getpwall()) == 1 and set(grp.getgrgid(gid).gr_mem) <= {user.pw_name}
        ),
        None,
    )
    if user is None:
        pytest.skip("no user of this machine has a group of its own")
    os.chown(tree / "above/folder", user.pw_uid, user.pw_gid)
    os.chown(tree / "above", user.pw_uid, user.pw_gid)
    (tree / "above").chmod(0o775)
    with as_user(user.pw_uid):
        os.setegid(user.pw_gid) if False else None
        assert find_stranger(f"{tree}/above/folder", trust()) is None
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "sh", "-c"]
    command.append(f"cd {tree}/above/folder; {check_folder_and_above()} echo fine")
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "fine\n"

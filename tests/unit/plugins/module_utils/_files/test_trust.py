# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rule is written twice, in Python and in sh(1): both are asked the same questions."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from other_users import OWNER, STRANGER, as_user, needs_root

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import (
    find_stranger,
    make_own_folder,
    opened_folder,
    trust,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import (
    CHECK_FOLDER,
    discard_planted,
    enter_folder,
)

GROUP = 12399  # of which this machine knows nothing


def run_shell(script, folder="/", user=()):
    done = subprocess.run([*user, "sh", "-c", script], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    return done


def in_shell(folder, trusted=(), user=()):
    """What the shell says against a folder; empty if it may be used, or made."""
    done = run_shell(f"{enter_folder(shlex.quote(str(folder)), trusted)} {CHECK_FOLDER} echo fine", user=user)
    assert (done.stdout == "fine\n") == (done.returncode == 0)
    return done.stderr.strip()


def in_python(folder, trusted=()):
    try:
        make_own_folder(str(folder), trust(trusted))
    except PermissionError as exc:
        return exc.strerror
    return ""


def judged(folder, trusted=()):
    """What is said against a folder of this user; empty if it may be used, or made."""
    found, said = in_python(folder, trusted), in_shell(folder, trusted)
    assert bool(found) == bool(said), (found, said)
    return found


@pytest.fixture
def folder(open_folder):
    """A folder of this user's alone, in one that is, too."""
    path = open_folder / "above" / "folder"
    path.mkdir(parents=True)
    path.chmod(0o755)
    path.parent.chmod(0o755)
    return path


def test_what_this_user_and_root_alone_can_change_is_safe(folder):
    assert judged(folder) == ""


@needs_root
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o777, "everybody may write to {} (owner root, mode 0777)"),
        (0o775, f"group {GROUP} may write to {{}} (owner root, mode 0775)"),
        (0o3775, ""),
        (0o1777, ""),
    ],
    ids=["everybody", "a group", "a group, sticky", "everybody, sticky"],
)
@pytest.mark.parametrize("name", ["folder", "new/one"])
def test_below_a_folder_in_which_others_can_rename_nothing_is_used_or_made(name, mode, words, folder):
    above = folder.parent
    os.chown(above, -1, GROUP)
    above.chmod(mode)
    found = judged(above / name)
    assert found.startswith(words.format(above)) if words else found == ""
    assert (above / "new").exists() == (name == "new/one" and not words)


@needs_root
@pytest.mark.parametrize("mode", [0o1777, 0o757, 0o775])
def test_a_folder_in_which_others_may_write_is_not_used(mode, folder):
    folder.chmod(mode)
    assert f"may write to {folder} (owner root, mode {mode:04o})" in judged(folder)


@needs_root
def test_what_belongs_to_another_user_is_not_used_unless_the_operator_trusts_that_one(folder):
    os.chown(folder.parent, OWNER, OWNER)
    assert judged(folder).startswith(f"{folder.parent} belongs to {OWNER} (mode 0755)")
    assert judged(folder, [str(OWNER)]) == ""
    assert judged(folder, ["no-such-user", str(STRANGER), f"%{OWNER}"])
    os.chown(folder.parent, pwd.getpwnam("daemon").pw_uid, -1)
    assert judged(folder, ["daemon"]) == ""
    os.chown(folder, OWNER, OWNER)
    assert judged(folder, [str(OWNER)]), "a folder of our own is ours"


@needs_root
def test_a_group_may_write_above_it_where_the_operator_trusts_it(folder):
    named = next(group for group in grp.getgrall() if group.gr_gid >= 100)
    for gid, name in [(GROUP, str(GROUP)), (named.gr_gid, named.gr_name)]:
        os.chown(folder.parent, 0, gid)
        folder.parent.chmod(0o2775)
        assert judged(folder, [f"%{name}"]) == ""
        assert judged(folder, [name]), "that is a user"


@needs_root
def test_a_group_of_the_distribution_that_nobody_is_in_is_no_stranger(folder):
    """Debian's ``/var/local`` belongs to root and staff, with mode 2775."""
    primary = {user.pw_gid for user in pwd.getpwall()}
    empty = next(
        group for group in grp.getgrall() if 0 < group.gr_gid < 100 and not group.gr_mem and group.gr_gid not in primary
    )
    somebodys = next(group for group in grp.getgrall() if 0 < group.gr_gid < 100 and group.gr_gid in primary)
    for group, words in [(empty, ""), (somebodys, f"group {somebodys.gr_name} may write to {folder.parent}")]:
        os.chown(folder.parent, 0, group.gr_gid)
        folder.parent.chmod(0o2775)
        assert judged(folder).startswith(words) if words else judged(folder) == ""


@needs_root
def test_a_group_of_the_distribution_that_lists_a_member_is_a_stranger(folder, tmp_path):
    primary = {user.pw_gid for user in pwd.getpwall()}
    group = next(
        group for group in grp.getgrall() if 0 < group.gr_gid < 100 and not group.gr_mem and group.gr_gid not in primary
    )
    others = [line for line in Path("/etc/group").read_text().splitlines() if not line.startswith(f"{group.gr_name}:")]
    (tmp_path / "group").write_text("\n".join([*others, f"{group.gr_name}:x:{group.gr_gid}:daemon", ""]))
    os.chown(folder.parent, 0, group.gr_gid)
    folder.parent.chmod(0o2775)
    assert judged(folder) == ""
    with_member = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$0" /etc/group && exec "$@"',
        str(tmp_path / "group"),
    ]
    assert f"may change {folder.parent} (owner root" in in_shell(folder, user=with_member)
    code = f"from {trust.__module__} import find_stranger, trust; print(find_stranger({str(folder)!r}, trust()))"
    environ = {**os.environ, "PYTHONPATH": str(Path(next(iter(ansible_collections.__path__))).parent)}
    done = subprocess.run(
        [*with_member, sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert done.stdout.startswith(f"group {group.gr_name} may write to {folder.parent}")


def user_with_a_group_of_its_own():
    users = pwd.getpwall()
    for user in users:
        members = {other.pw_name for other in users if other.pw_gid == user.pw_gid}
        if user.pw_gid >= 1000 and members == {user.pw_name} and set(grp.getgrgid(user.pw_gid).gr_mem) <= members:
            return user
    pytest.skip("no user of this machine has a group of its own")


@needs_root
def test_the_group_in_which_one_user_is_alone_is_that_user(folder):
    user = user_with_a_group_of_its_own()
    for path in (folder, folder.parent):
        os.chown(path, user.pw_uid, user.pw_gid)
    folder.parent.chmod(0o775)
    with as_user(user.pw_uid):
        assert in_python(folder) == ""
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    assert in_shell(folder, user=become) == ""
    os.chown(folder.parent, user.pw_uid, GROUP)
    assert in_shell(folder, user=become)


@needs_root
def test_a_link_counts_as_its_owner_and_by_where_it_leads(folder):
    top = folder.parent.parent
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    (top / "sticky/link").symlink_to("../above")
    (top / "absolute").symlink_to(top / "sticky" / "link")
    assert find_stranger(f"{top}/absolute/folder", trust()) is None
    os.chown(top / "sticky/link", OWNER, OWNER, follow_symlinks=False)
    found = find_stranger(f"{top}/absolute/folder", trust())
    assert str(found).startswith(f"{top}/sticky/link belongs to {OWNER}")
    (top / "theirs").mkdir()
    os.chown(top / "theirs", OWNER, OWNER)
    (top / "into").symlink_to("theirs/../above")
    assert str(find_stranger(f"{top}/into/folder", trust())).startswith(f"{top}/theirs belongs to {OWNER}")


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        find_stranger(f"{tmp_path}/a/x", trust())


@needs_root
def test_a_file_counts_as_well_as_what_leads_to_it(folder):
    path = folder / "a.whl"
    path.touch()
    assert find_stranger(str(path), trust()) is None
    os.chown(path, OWNER, OWNER)
    assert str(find_stranger(str(path), trust())) == f"{path} belongs to {OWNER} (mode 0644)"
    assert find_stranger(str(path), trust().and_user(OWNER)) is None


@needs_root
def test_a_folder_that_is_open_stays_the_one_that_was_looked_at(folder):
    (folder / "ours").touch()
    with opened_folder(str(folder), trust()) as (handle, stranger):
        folder.rename(folder.parent / "aside")
        folder.symlink_to("/etc")
        assert os.listdir(handle) == ["ours"]
    assert stranger is None


def test_no_descriptor_stays_open(folder):
    before = os.listdir("/proc/self/fd")
    (folder / "file").touch()
    (folder / "link").symlink_to(folder)
    for path in (folder, folder / "file", folder / "link/file", folder / "none/x", "/"):
        find_stranger(str(path), trust())
    for path in (folder / "file/x", folder / "none"):
        with pytest.raises(OSError), opened_folder(str(path), trust()):
            pass
    assert os.listdir("/proc/self/fd") == before


@needs_root
@pytest.mark.parametrize("planted", ["link", "another user's", "hard link", "folder"])
def test_what_was_planted_where_a_part_goes_is_removed_and_our_own_part_stays(planted, folder):
    victim, part = folder / "victim", folder / ".a.part"
    victim.write_text("of root")
    if planted == "link":
        part.symlink_to(victim)
    elif planted == "hard link":
        os.link(victim, part)
    elif planted == "folder":
        part.symlink_to(folder)
    else:
        part.touch()
        os.chown(part, OWNER, OWNER)
    run_shell(f"{discard_planted('.a.part')} {discard_planted('none')} :", folder)
    assert not os.path.lexists(part)
    assert victim.read_text() == "of root"
    part.write_text("ours")
    run_shell(f"{discard_planted('.a.part')} :", folder)
    assert part.read_text() == "ours"


def test_paths_with_spaces_and_homes_are_meant_as_they_are_written(home, folder):
    assert in_shell(folder / "a 'b' *") == ""
    assert (folder / "a 'b' *").is_dir()
    assert run_shell(f"{enter_folder('~/x/y')} pwd").stdout.strip() == f"{home}/x/y"
    assert run_shell(f"{enter_folder('z')} pwd", folder).stdout.strip() == f"{folder}/z"
    assert not re.search("[^ -~\n]", enter_folder("x", ["sw", "%admins"]))

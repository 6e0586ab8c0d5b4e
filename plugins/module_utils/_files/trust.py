# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Who besides us may change what is at a path. All that asks this, on nodes and on the control node, asks here.

The rule is that of sshd (``safe_path``) for a whole path, links included: what root, we ourselves and those whom the operator names own
alone, and where nobody else may write. In a folder whose sticky bit is set, others may write, but not rename or remove what is not theirs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import os
import pwd
import shlex
import stat
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.users import user_name

GROUP_MARK = "%"  # before the name of a group among those of users, as in sudoers

_ROOT = 0
_UNMAPPED = 65534  # what the kernel shows for owners that a user namespace has no number for
_ALL_IDS = 4294967295  # so many has the namespace that is no container's
#: of groups: those below are the distribution's own, and nobody is in them who is not listed on this machine
FIRST_GIVEN_GROUP = 100
_MAX_LINKS = 40  # as the kernel
_ACL = "system.posix_acl_access"


class Trust(t.NamedTuple):
    """Who may change what we use."""

    users: frozenset[int]
    groups: frozenset[int]

    def and_user(self, uid: int) -> Trust:
        return self._replace(users=self.users | {uid})


class Stranger(t.NamedTuple):
    """What somebody else may change, and who."""

    path: str
    owner: str
    mode: int
    who: str | None  # may write, though owning nothing; None where it is the owner
    name: str | None  # by which the operator could trust whoever it is; None where that is not to be had
    remedy: str | None  # a command that takes that right away

    def __str__(self) -> str:
        mode = f"mode {stat.S_IMODE(self.mode):04o}"
        if self.who is None:
            return f"{self.path} belongs to {self.owner} ({mode})"
        return f"{self.who} may write to {self.path} (owner {self.owner}, {mode})"


def trust(names: t.Iterable[str] = ()) -> Trust:
    """Root, this user and those named.

    :param names: of users, or their numbers; with :data:`GROUP_MARK` before it, of a group. One that this machine does not know owns
        nothing here.
    """
    users, groups = {_ROOT, os.geteuid()}, {_ROOT}
    for name in names:
        is_group = name.startswith(GROUP_MARK)
        number = _group_id(name[len(GROUP_MARK) :]) if is_group else _user_id(name)
        if number is not None:
            (groups if is_group else users).add(number)
    if _lacks_ids():
        users.add(_UNMAPPED)
    return Trust(frozenset(users), frozenset(groups))


def find_stranger(path: str, trusted: Trust) -> Stranger | None:
    """What on the way to a path, itself included, somebody else may change; None if nothing. What does not exist is nobody's.

    :raises OSError: if it cannot be reached
    """
    handle, stranger = _walk(path, trusted)
    if handle is not None:
        os.close(handle)
    return stranger


@contextlib.contextmanager
def opened_folder(path: str, trusted: Trust) -> t.Iterator[tuple[int, Stranger | None]]:
    """Open a folder by way of those above it, each of them open, so that what was looked at is what is used.

    :returns: it, for ``dir_fd``, and what somebody else may change of the way there
    :raises OSError: if it cannot be opened
    """
    handle, stranger = _walk(path, trusted)
    if handle is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield folder, stranger
    finally:
        os.close(folder)


def make_own_folder(path: str, trusted: Trust) -> str:
    """Make a folder, and those above it, where it is not there yet, that this user alone may write to.

    :returns: its path, without links
    :raises PermissionError: if somebody else may change it or what leads there, with that in words
    :raises OSError: if it cannot be made
    """
    stranger = find_stranger(path, trusted)
    if stranger is None:
        umask = os.umask(0o077)  # also for folders on the way
        try:
            os.makedirs(path, exist_ok=True)
        finally:
            os.umask(umask)
        stranger = _find_stranger_of_own(path, trusted)
    if stranger:
        me = user_name(os.geteuid())
        raise PermissionError(
            0,
            f"{stranger}; wanted is a folder that nobody but {' and '.join(dict.fromkeys([me, 'root']))} can change",
            path,
        )
    return os.path.realpath(path)


def _find_stranger_of_own(path: str, trusted: Trust) -> Stranger | None:
    with opened_folder(path, trusted) as (handle, stranger):
        status = os.fstat(handle)
    if stranger is None and status.st_uid != os.geteuid():
        stranger = Stranger(path, user_name(status.st_uid), status.st_mode, None, None, None)
    if stranger is None and status.st_mode & stat.S_IWGRP:  # of a folder of our own no group needs that
        stranger = _of_group(path, status)
    return stranger


def judge(path: str, status: os.stat_result, trusted: Trust) -> Stranger | None:
    """What somebody else may change, of a file or folder whose name nobody else may give to another one.

    :param path: of it
    :param status: of it, and not of what a link leads to
    """
    if status.st_uid not in trusted.users:
        owner = user_name(status.st_uid)
        return Stranger(path, owner, status.st_mode, None, owner, None)
    if stat.S_ISLNK(status.st_mode):
        return None  # its mode says nothing
    if status.st_mode & stat.S_IWOTH:
        remedy = f"chmod o-w {shlex.quote(path)}"
        return Stranger(path, user_name(status.st_uid), status.st_mode, "everybody", None, remedy)
    if status.st_mode & stat.S_IWGRP and not _is_closed(status.st_gid, trusted):
        return _of_group(path, status)
    if status.st_mode & stat.S_IWGRP and _has_acl(path):  # by which that bit may be another user's
        remedy = f"setfacl -b {shlex.quote(path)}"
        return Stranger(path, user_name(status.st_uid), status.st_mode, "whom its ACL names", None, remedy)
    return None


def _of_group(path: str, status: os.stat_result) -> Stranger:
    group, remedy = _group_name(status.st_gid), f"chmod g-w {shlex.quote(path)}"
    return Stranger(path, user_name(status.st_uid), status.st_mode, f"group {group}", f"{GROUP_MARK}{group}", remedy)


def _walk(path: str, trusted: Trust) -> tuple[int | None, Stranger | None]:
    """Go to a path, folder by folder.

    :returns: the folder there, open; None if it is something else, or nothing. And the first on the way that somebody else may change.
    """
    here, handle = "/", _open_folder("/", None)
    rest, links = _split(os.path.join(os.getcwd(), path)), 0
    found = _judge_folder(here, os.fstat(handle), trusted, is_last=not rest)
    try:
        while rest:
            name = rest.pop()
            entry = os.path.normpath(os.path.join(here, name))
            try:
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                rest = []
                break
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                found = found or judge(entry, status, trusted)
                target = os.readlink(name, dir_fd=handle)
                rest += _split(target)
                if os.path.isabs(target):
                    os.close(handle)
                    here, handle = "/", _open_folder("/", None)
                continue
            if not stat.S_ISDIR(status.st_mode):
                found = found or judge(entry, status, trusted)
                if rest:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), entry)
                break
            following = _open_folder(name, handle)
            os.close(handle)
            here, handle = entry, following
            found = found or _judge_folder(here, os.fstat(handle), trusted, is_last=not rest)
        else:
            kept, handle = handle, -1
            return kept, found
        return None, found
    finally:
        if handle >= 0:
            os.close(handle)


def _judge_folder(path: str, status: os.stat_result, trusted: Trust, is_last: bool) -> Stranger | None:
    is_sticky = not is_last and status.st_mode & stat.S_ISVTX  # of what is in it, each is looked at
    return None if is_sticky and status.st_uid in trusted.users else judge(path, status, trusted)


def _open_folder(name: str, parent: int | None) -> int:
    flags = getattr(os, "O_PATH", os.O_RDONLY)  # which takes no right to read what is in it
    return os.open(name, flags | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _split(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _is_closed(gid: int, trusted: Trust) -> bool:
    """Whether nobody is in a group but those that are trusted anyhow: the group of one user, or one that has no members."""
    return gid in trusted.groups or _members(gid) <= trusted.users


@functools.lru_cache(maxsize=None)
def _members(gid: int) -> frozenset[int]:
    """The numbers of a group's members. One of which that is not known has a member whom nobody trusts."""
    unknown = frozenset({-1})
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return unknown
    listed = [_user_id(name) for name in group.gr_mem]
    members = {-1 if uid is None else uid for uid in listed} | {
        user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid
    }
    return frozenset(members) if members or gid < FIRST_GIVEN_GROUP else unknown


def _has_acl(path: str) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    return False


@functools.lru_cache(maxsize=None)
def _lacks_ids() -> bool:
    """Whether this is a container for which the kernel does not tell all owners apart: those outside of it all have one number."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/uid_map", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file if line.strip()) < _ALL_IDS
    return False


def _user_id(name: str) -> int | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    return int(name) if name.isdigit() else None


def _group_id(name: str) -> int | None:
    with contextlib.suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return int(name) if name.isdigit() else None


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whose an environment is, and whether it may be changed."""

from __future__ import annotations

import os
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import find_stranger, trust
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.users import user_name

_NOBODY = 65534  # what the kernel shows for owners that a user namespace or a server does not tell
_MAX_FOLDERS = 3  # that a message names
_ADVICE = "Make a venv there and name it in torch_extension_python."


def describe_access(
    folder: str | None, prefix: str | None = None, entries: t.Iterable[str] = ()
) -> dict[str, t.Any] | None:
    """Who runs this, whose a folder is, and whether it can be written to; None for one that does not exist.

    :param prefix: folder of the environment, which may be somebody else's
    :param entries: names in the folder, of what may have to be replaced or removed
    """
    try:
        status = os.stat(folder) if folder else None
    except OSError:
        status = None
    if folder is None or status is None:
        return None
    return {
        "user": user_name(os.geteuid()),
        "owner": user_name(status.st_uid),
        "is_owner": status.st_uid in (os.geteuid(), _NOBODY),
        "writable": os.access(folder, os.W_OK),
        "read_only": bool(os.statvfs(folder).f_flag & os.ST_RDONLY),
        "environment_owner": user_name(os.stat(prefix or folder).st_uid),
        "locked": explain_locked([os.path.join(folder, entry) for entry in entries], prefix or folder),
    }


def explain_obstacle(
    python: t.Mapping[str, t.Any], folder: str | None, access: t.Mapping[str, t.Any] | None
) -> str | None:
    """Why a folder of an environment is not to be changed, and what to do; None if it may be.

    :param python: of the environment
    :param access: of the folder, as :func:`describe_access` gives it
    """
    if python["externally_managed"]:
        return (
            f"{python['executable']} belongs to the operating system (EXTERNALLY-MANAGED, PEP 668): nothing is installed into it."
            f" {_ADVICE}"
        )
    if folder is None or access is None:
        return f"{python['executable']} has no folder of packages ({folder}). {_ADVICE}"
    if access["read_only"]:
        return f"{folder} is on a file system that is mounted read-only. Mount it for writing. Or: {_lower(_ADVICE)}"
    if access["writable"]:
        locked: str | None = access.get("locked")  # a survey of an earlier release has no such key
        return locked
    if access["is_owner"]:
        return f"User {access['user']}, whose {folder} is, may not write to it. Give it the right (chmod u+w). Or: {_lower(_ADVICE)}"
    if access["user"] == access.get("environment_owner"):
        return (
            f"User {access['user']} cannot write to {folder}, which belongs to {access['owner']}, though the environment is"
            f" {access['user']}'s. {_advise_chown(access['user'], python['prefix'])}"
        )
    return (
        f"User {access['user']} cannot write to {folder}, which belongs to {access['owner']}. Set become: true and become_user:"
        f" {access['owner']}. Or: {_lower(_ADVICE)}"
    )


def check_ownership(environment: t.Mapping[str, t.Any], folders: t.Iterable[str | None]) -> None:
    """Refuse to change an environment that is not the user's to change.

    :param folders: those that would be written to; None for one that does not exist
    :raises TorchExtensionError: if it belongs to the operating system (PEP 668) or to somebody else, or cannot be written to
    """
    python = environment["python"]
    for folder in folders:
        obstacle = explain_obstacle(python, folder, describe_access(folder, python["prefix"]))
        if obstacle:
            raise TorchExtensionError(obstacle)


def explain_missing_installer(environment: t.Mapping[str, t.Any]) -> str | None:
    """That an environment has neither pip nor uv, and what to do; None if it has one."""
    python, installers = environment["python"], environment["installers"]
    if installers["pip"] or installers["uv"]:
        return None
    return (
        f"{python['executable']} has no pip, and {installers.get('reason') or 'this node has no uv'}. Run {python['executable']} -m"
        f" ensurepip, or bring uv to {os.path.join(python['prefix'], 'bin')}."
    )


def check_same_owner(folder: str) -> None:
    """Refuse to have root run an installer in the folder of another user, whose files would be root's then.

    :raises TorchExtensionError: with the user to become
    """
    if is_of_another_user(folder):
        owner = user_name(os.stat(folder).st_uid)
        raise TorchExtensionError(
            f"{folder} belongs to {owner}, and this takes more than renames: the installer would leave files of root"
            f" there. Nothing was changed. Set become_user: {owner}."
        )


def check_inside(path: str, prefix: str) -> None:
    """Refuse to have root follow links out of another user's environment: that user may have put them anywhere.

    :param prefix: folder of the environment
    :raises TorchExtensionError: with the user to become
    """
    target = os.path.realpath(path)
    if is_of_another_user(prefix) and not target.startswith(os.path.realpath(prefix) + os.sep):
        owner = user_name(os.stat(prefix).st_uid)
        raise TorchExtensionError(
            f"{path}, in the environment of {owner}, leads to {target}, where root follows no link of another user. Nothing was changed."
            f" Set become: true and become_user: {owner}."
        )


def is_of_another_user(folder: str) -> bool:
    """Whether we are root, and a folder is another user's."""
    return os.geteuid() == 0 and os.stat(folder).st_uid not in (0, _NOBODY)


def check_unlocked(paths: t.Iterable[str], prefix: str) -> None:
    """Refuse to replace or remove what this user cannot.

    :param prefix: folder of the environment
    :raises TorchExtensionError: with the folders, whose they are, and what to do
    """
    reason = explain_locked(paths, prefix)
    if reason:
        raise TorchExtensionError(f"{reason} Nothing was changed.")


def explain_locked(paths: t.Iterable[str], prefix: str) -> str | None:
    """Why some of the paths can neither be replaced nor removed by this user, and what to do; None if all can.

    A folder can be moved and emptied by those alone who may write to it. Whose a file is does not matter.

    :param prefix: folder of the environment
    """
    return _explain_folders([folder for path in paths for folder in _find_locked(path)], prefix)


def check_writable(folder: str, prefix: str) -> None:
    """Refuse to write into a folder that this user may not write to, and as root, into one that others can have lead elsewhere.

    :param prefix: what the folder belongs to as a whole
    :raises TorchExtensionError: with whose it is, and what to do
    """
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    reason = None if os.access(folder, os.W_OK | os.X_OK) else _explain_folders([folder], prefix)
    if reason:
        raise TorchExtensionError(f"{reason} Nothing was changed.")
    stranger = find_stranger(folder, trust()) if os.geteuid() == 0 else None
    if stranger:
        raise TorchExtensionError(
            f"{stranger}, and root writes nothing to {prefix}, where others could have a path lead elsewhere. Nothing was changed."
            f" Set become: true and become_user: {stranger.owner}, or HOME of the task to a folder of root."
        )


def _explain_folders(folders: t.Sequence[str], prefix: str) -> str | None:
    if not folders:
        return None
    user, owner = user_name(os.geteuid()), user_name(os.stat(prefix).st_uid)
    theirs = sorted({user_name(os.lstat(folder).st_uid) for folder in folders})
    more = f" and {len(folders) - _MAX_FOLDERS} more folders" if len(folders) > _MAX_FOLDERS else ""
    belong, them = ("belongs", "it") if len(folders) == 1 else ("belong", "them")
    fact = f"{', '.join(folders[:_MAX_FOLDERS])}{more} {belong} to {' and '.join(theirs)}, and user {user} cannot change what is in {them}."
    if theirs == [user]:
        return f"{fact} Give the right to write to all of it (chmod -R u+w {shlex.quote(prefix)})."
    if user == owner:
        return f"{fact} {_advise_chown(owner, prefix)}"
    return f"{fact} Set become: true and become_user: {owner}. {_advise_chown(owner, prefix)}"


def _find_locked(path: str) -> t.Iterator[str]:
    """The folders from a path on downwards that this user may not write to."""
    if os.path.islink(path) or not os.path.isdir(path):
        return
    for folder, _folders, _files in os.walk(path):
        if not os.access(folder, os.W_OK | os.X_OK):
            yield folder


def _advise_chown(owner: str, prefix: str) -> str:
    return f"As root, chown -R {owner}: {shlex.quote(prefix)} gives all of it to {owner}."


def give_to_owner(tree: str, folder: str) -> None:
    """Give a tree that we have made to the owner of the folder that it will be put into, where we are root and may.

    The folder is the owner's, who may have put something else in place of the tree meanwhile: only what is ours in it is given away,
    and no link is followed.
    """
    owner = os.stat(folder)
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for _parent, folders, files, handle in os.fwalk(tree, topdown=False):
        if os.fstat(handle).st_uid != 0:
            continue
        for name in (*folders, *files):
            if os.stat(name, dir_fd=handle, follow_symlinks=False).st_uid == 0:
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=handle, follow_symlinks=False)
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]

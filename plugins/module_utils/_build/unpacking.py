# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Unpack what others have packed: sdists, git archives, wheels and archives of a compiler."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives

_ADVICE = "Take the archive from its project, or pack it anew."


def unpack(archive: str, folder: str, strip: t.Callable[[str], str | None] = lambda name: name) -> None:
    """Unpack an archive: .tar.gz, .tar.xz, .tar.bz2, .tar, .zip or .whl.

    Nothing is written outside of the folder, whatever the archive holds.

    :param folder: an empty one
    :param strip: from the name of a member, its path below the folder, or None to leave it out
    :raises TorchExtensionError: if it is damaged, or has members that no honest archive has
    """
    root = os.path.realpath(folder)
    links: list[tuple[str, str]] = []
    files: dict[str, str] = {}  # those that a hard link may lead to, by their names in the archive
    try:
        with archives.open_any(archive, archives.COMPILER) as opened:
            for member in opened:
                inside = _parts_of(archive, member.name)
                name = strip(inside)
                if not name:
                    continue
                path = os.path.join(root, name)
                _make_folders(archive, root, os.path.dirname(name))
                if member.kind == archives.FOLDER:
                    _make_folders(archive, root, name)
                elif member.kind == archives.LINK:
                    links.append((path, member.target))
                elif member.kind == archives.FILE:
                    _write(path, member, opened.open(member))
                    files[inside] = path
                elif member.kind == archives.HARD_LINK:
                    source = files.get(_parts_of(archive, member.target))
                    if source is None:
                        raise _refuse(archive, f"{member.name} is a hard link to what is no file")
                    if source != path:
                        _copy(source, path)
                    files[inside] = path
                else:
                    raise _refuse(archive, f"{member.name} is {member.kind}")
    except archives.UnsoundArchiveError as exc:
        raise TorchExtensionError(f"{os.path.basename(archive)} is not unpacked: {exc}. {_ADVICE}") from exc
    except archives.ArchiveError as exc:
        raise TorchExtensionError(f"{os.path.basename(archive)} cannot be unpacked: {exc}.") from exc
    _make_links(archive, root, links)


def only_folder(folder: str) -> str:
    """The one folder that an archive has unpacked to, or the folder itself if there is more."""
    entries = os.listdir(folder)
    inner = os.path.join(folder, entries[0]) if len(entries) == 1 else folder
    return inner if os.path.isdir(inner) else folder


def _refuse(archive: str, fact: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{os.path.basename(archive)} is not unpacked: {fact}. Wanted are files and folders that stay in the folder they are unpacked"
        f" to. {_ADVICE}"
    )


def _parts_of(archive: str, name: str) -> str:
    """The path of a member, which the gate has found to stay in the folder."""
    name = name.replace("\\", "/") if archive.endswith((".zip", ".whl")) else name
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _make_folders(archive: str, root: str, name: str) -> None:
    path = root
    for part in name.split("/") if name else ():
        path = os.path.join(path, part)
        if not os.path.lexists(path):
            os.mkdir(path, 0o755)
        elif os.path.islink(path) or not os.path.isdir(path):
            raise _refuse(archive, f"{name} is a folder and something else")


def _write(path: str, member: archives.Member, content: archives.Content) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # a later member of the same name counts
    with open(path, "xb") as target:
        for data in iter(content.read, b""):
            target.write(data)
    os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)
    os.utime(path, (member.modified, member.modified))


def _copy(source: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    shutil.copy2(source, path)


def _make_links(archive: str, root: str, links: t.Iterable[tuple[str, str]]) -> None:
    """After all files, so that none is written through a link."""
    made = []
    for path, target in links:
        if os.path.isdir(path) and not os.path.islink(path):
            raise _refuse(archive, f"{os.path.relpath(path, root)} is a folder and something else")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(target, path)
        made.append((path, target))
    for path, target in made:  # when all of them are there, for one may lead over another
        if os.path.isabs(target) or not (os.path.realpath(path) + os.sep).startswith(root + os.sep):
            raise _refuse(archive, f"its link {os.path.relpath(path, root)} leads to {target}, out of the folder")


def remove(path: str) -> None:
    """Remove a folder or a file, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

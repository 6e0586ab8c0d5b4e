# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Unpack what others have packed: sdists, git archives, wheels and archives of a compiler."""

from __future__ import annotations

import calendar
import contextlib
import os
import shutil
import stat
import tarfile
import typing as t
import zipfile
import zlib

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import format_size

#: CUTLASS in flash-attn's sdist is 20 MB, a CUDA compiler 500 MB
MAX_SIZE = 20 << 30  # bytes
MAX_MEMBERS = 200000
_CHUNK = 1 << 20  # bytes


class _Member(t.NamedTuple):
    name: str  # as the archive has it
    kind: str  # "file", "folder", "link", "hard link", or what else it is
    size: int
    mode: int
    modified: float
    target: str  # of a link
    handle: t.Any  # of the archive's own


def unpack(archive: str, folder: str, strip: t.Callable[[str], str | None] = lambda name: name) -> None:
    """Unpack an archive: .tar.gz, .tar.xz, .zip, .whl and what else :mod:`tarfile` reads.

    Nothing is written outside of the folder, whatever the archive holds.

    :param folder: an empty one
    :param strip: from the name of a member, its path below the folder, or None to leave it out
    :raises TorchExtensionError: if it is damaged, or has members that no honest archive has
    """
    root = os.path.realpath(folder)
    links: list[tuple[str, str]] = []
    room, count = MAX_SIZE, 0
    try:
        with _open(archive) as (members, read):
            for member in members:
                count += 1
                room -= member.size
                if count > MAX_MEMBERS or room < 0:
                    raise _refuse(
                        archive,
                        f"it has more than {MAX_MEMBERS} members"
                        if room >= 0
                        else f"it unpacks to more than {format_size(MAX_SIZE)}",
                    )
                name = strip(_check_name(archive, member))
                if not name:
                    continue
                path = os.path.join(root, name)
                _make_folders(archive, root, os.path.dirname(name))
                if member.kind == "folder":
                    _make_folders(archive, root, name)
                elif member.kind == "link":
                    links.append((path, member.target))
                elif member.kind in ("file", "hard link"):
                    _write(path, member, read)
                else:
                    raise _refuse(archive, f"{member.name} is {member.kind}")
    except (
        OSError,
        EOFError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        KeyError,
    ) as exc:
        if isinstance(exc, OSError) and exc.errno:
            raise
        raise TorchExtensionError(f"{os.path.basename(archive)} cannot be unpacked: {exc or 'it is cut off'}.") from exc
    _make_links(archive, root, links)


def only_folder(folder: str) -> str:
    """The one folder that an archive has unpacked to, or the folder itself if there is more."""
    entries = os.listdir(folder)
    inner = os.path.join(folder, entries[0]) if len(entries) == 1 else folder
    return inner if os.path.isdir(inner) else folder


def _refuse(archive: str, fact: str) -> TorchExtensionError:
    return TorchExtensionError(
        f"{os.path.basename(archive)} is not unpacked: {fact}. Wanted are files and folders that stay in the folder they are unpacked"
        " to. Take the archive from its project, or pack it anew."
    )


def _check_name(archive: str, member: _Member) -> str:
    name = member.name.replace("\\", "/") if archive.endswith((".zip", ".whl")) else member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _refuse(archive, f"the name of its member {member.name!r} leads out of the folder")
    return "/".join(parts)


def _make_folders(archive: str, root: str, name: str) -> None:
    path = root
    for part in name.split("/") if name else ():
        path = os.path.join(path, part)
        if not os.path.lexists(path):
            os.mkdir(path, 0o755)
        elif os.path.islink(path) or not os.path.isdir(path):
            raise _refuse(archive, f"{name} is a folder and something else")


def _write(path: str, member: _Member, read: t.Callable[[_Member], t.IO[bytes]]) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # a later member of the same name counts
    left = member.size
    with read(member) as source, open(path, "xb") as target:
        while left > 0:
            data = source.read(min(_CHUNK, left))
            if not data:
                raise EOFError(f"{member.name} is cut off")
            left -= target.write(data)
    os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)
    os.utime(path, (member.modified, member.modified))


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


@contextlib.contextmanager
def _open(archive: str) -> t.Iterator[tuple[t.Iterator[_Member], t.Callable[[_Member], t.IO[bytes]]]]:
    if archive.endswith((".zip", ".whl")):
        with zipfile.ZipFile(archive) as opened_zip:
            yield map(_zip_member(opened_zip), opened_zip.infolist()), lambda member: opened_zip.open(member.handle)
    else:
        with tarfile.open(archive) as opened_tar:
            yield (
                map(_tar_member(opened_tar), opened_tar),
                lambda member: t.cast("t.IO[bytes]", opened_tar.extractfile(member.handle)),
            )


def _zip_member(archive: zipfile.ZipFile) -> t.Callable[[zipfile.ZipInfo], _Member]:
    def describe(info: zipfile.ZipInfo) -> _Member:
        mode = info.external_attr >> 16
        is_link = stat.S_ISLNK(mode)
        target = archive.read(info).decode(errors="surrogateescape") if is_link and info.file_size < 4096 else ""
        kind = "link" if is_link else "folder" if info.is_dir() else "file"
        return _Member(
            info.filename, kind, info.file_size, mode, calendar.timegm((*info.date_time, 0, 0, 0)), target, info
        )

    return describe


def _tar_member(archive: tarfile.TarFile) -> t.Callable[[tarfile.TarInfo], _Member]:
    def describe(info: tarfile.TarInfo) -> _Member:
        kinds = (
            (info.isreg(), "file"),
            (info.isdir(), "folder"),
            (info.issym(), "link"),
            (info.islnk(), "hard link"),
            (info.isfifo(), "a pipe"),
            (info.isdev(), "a device"),
        )
        kind = next((kind for applies, kind in kinds if applies), "no file")
        real = info
        if kind == "hard link":  # to a member that stands before it; what it leads to is read, and nothing is linked
            real = archive.getmember(info.linkname)
            if not real.isreg():
                kind = "a hard link to what is no file"
        return _Member(info.name, kind, real.size if kind != "link" else 0, real.mode, real.mtime, info.linkname, real)

    return describe


def remove(path: str) -> None:
    """Remove a folder or a file, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

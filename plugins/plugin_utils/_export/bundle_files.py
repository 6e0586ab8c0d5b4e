# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The files of a bundle: which ones it is to have, which ones are there, and how they are written."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import shutil
import tarfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives, atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import (
    sha256_of,
    sha256_of_rest,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import RequirementFinder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import (
    BOM_NAME,
    FOLDERS,
    LOCK_NAME,
    README_NAME,
    SUMS_NAME,
    is_regular_file,
    name_files,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import Lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import environment_of_entry

_README_TEXT = f"""\
Wheels for GPU nodes without internet, made by airgap.torch_extensions.
See that it arrived whole:   sha256sum --check {SUMS_NAME}
See what is in it, and why:  {LOCK_NAME}, {BOM_NAME} (CycloneDX)
Inside the gap, on the control node, with the collection installed there:
  ansible-playbook airgap.torch_extensions.install_flash_attn -i INVENTORY \\
    -e '{{"torch_extension_sources": ["bundle:/path/of/this/bundle"]}}'
"""


_OLD = "old"  # in the folder of a run, for the bundle that it replaces
_MAX_MOVES = 5

GetWheel = t.Callable[[t.Mapping[str, t.Any]], str]


class PlannedFile(t.NamedTuple):
    """A file that a bundle is to have, and how to get it."""

    sha256: str
    get_path: t.Callable[[], str] | None = None  # of the file on the control node; fetches it first, if need be
    content: bytes = b""  # of a file without get_path


def plan_files(
    lock: Lock, lock_text: str, bom_text: str, get_wheel: GetWheel, requirements: RequirementFinder
) -> dict[str, PlannedFile]:
    """The files that the bundle of a lock is to have, by their names in it. Wheels are fetched only when they are written.

    :param lock_text: the text that the lock was read from
    :param bom_text: its bill of materials
    :param get_wheel: fetches a locked wheel to the control node, and returns its path there
    """
    planned: dict[str, PlannedFile] = {}
    names = name_files(lock)
    for entry in lock.environments:
        node = environment_of_entry(entry)
        for wheel in entry["wheels"]:
            name = names[wheel["filename"], wheel["sha256"]]
            planned[f"wheels/{name}"] = PlannedFile(wheel["sha256"], functools.partial(_get, get_wheel, wheel))
        for item in entry["requirements"]:
            name = names[item["filename"], item["sha256"]]
            get_requirement = functools.partial(_get_requirement, requirements, environment=node)
            planned[f"requirements/{name}"] = PlannedFile(
                item["sha256"], functools.partial(_get, get_requirement, item)
            )
    for name, text in ((LOCK_NAME, lock_text), (BOM_NAME, bom_text), (README_NAME, _README_TEXT)):
        planned[name] = _plan_text(text)
    sums = format_sums({name: file.sha256 for name, file in planned.items()})
    return {**planned, SUMS_NAME: _plan_text(sums)}


def _get(get: GetWheel, item: t.Mapping[str, t.Any]) -> str:
    with explain_unforeseen(item["filename"]):
        return get(item)


def _get_requirement(
    requirements: RequirementFinder, item: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]
) -> str:
    return t.cast("str", requirements.get_locked(item, environment).path)  # for a bundle nothing is only predicted


def _plan_text(text: str) -> PlannedFile:
    return PlannedFile(hashlib.sha256(text.encode()).hexdigest(), content=text.encode())


def format_sums(hashes: t.Mapping[str, str]) -> str:
    """Hashes and names, as sha256sum writes them."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))


def hash_existing_files(dest: str) -> dict[str, str]:
    """The hashes of the files of the bundle that is there, by their names in it; none, if nothing is there.

    :raises TorchExtensionError: if there is something else
    """
    if not os.path.lexists(dest):
        return {}
    hashes = _hash_tar(dest) if is_tar(dest) else _hash_folder(dest)
    foreign = [name for name in hashes if not _is_bundle_name(name)]
    if foreign or (hashes and LOCK_NAME not in hashes):
        fact = f"{', '.join(sorted(foreign)[:3])} is in it" if foreign else f"there is no {LOCK_NAME} in it"
        raise TorchExtensionError(
            f"{dest} is there and is no bundle: {fact}. It stays as it is. Name another place in"
            " torch_extension_bundle, or move it away."
        )
    return hashes


def is_tar(dest: str) -> bool:
    return dest.endswith(".tar")


def write_files(dest: str, planned: t.Mapping[str, PlannedFile], existing: t.Mapping[str, str]) -> None:
    """Write the bundle beside its place, and move it there when it is whole.

    :param existing: the hashes of the files that are there; those that stay are not fetched and copied again
    :raises TorchExtensionError: if a file cannot be had, or the bundle not be written
    """
    parent = os.path.dirname(dest)
    try:
        os.makedirs(parent, exist_ok=True)
        with temporary.temporary_folder(parent) as scratch:
            new = os.path.join(scratch, "new")
            if is_tar(dest):
                _write_tar(new, planned)
                atomic.put_in_place(new, dest)
            else:
                _write_folder(new, planned, dest, existing)
                _move_into_place(new, dest, os.path.join(scratch, _OLD))
    except OSError as exc:
        raise TorchExtensionError(
            f"The bundle {dest} cannot be written ({exc.strerror}: {exc.filename}). Make room, or name another place in"
            " torch_extension_bundle."
        ) from exc


def _write_folder(new: str, planned: t.Mapping[str, PlannedFile], before: str, existing: t.Mapping[str, str]) -> None:
    for folder in sorted({"", *FOLDERS, *map(os.path.dirname, planned)}):
        os.makedirs(os.path.join(new, folder), mode=0o755)
        os.chmod(os.path.join(new, folder), 0o755)  # noqa: S103 (others shall read it)
    for name, planned_file in sorted(planned.items()):
        path = os.path.join(new, name)
        stays = existing.get(name) == planned_file.sha256
        if stays:
            with contextlib.suppress(OSError):  # not every stick has hard links
                os.link(os.path.join(before, name), path)
                continue
        if planned_file.get_path is None:
            with open(path, "wb") as file:
                file.write(planned_file.content)
        elif not stays or not _copy_if_there(os.path.join(before, name), path):
            shutil.copyfile(planned_file.get_path(), path)
        os.chmod(path, 0o644)


def _copy_if_there(source: str, path: str) -> bool:
    """Copy a file of the bundle that was there, unless that has been moved away meanwhile."""
    try:
        shutil.copyfile(source, path)
    except FileNotFoundError:
        return False
    return True


def _move_into_place(new: str, dest: str, old: str) -> None:
    """Python has no call that exchanges two folders, so for a moment there is none. A move that fails is undone.

    :param old: a folder for the one that was there, which keeps its name: :func:`clear_leftovers` puts it back if we are killed
    """
    atomic.sync_tree(new)
    for number in range(_MAX_MOVES):  # another run may put one there in that moment
        aside = os.path.join(old, str(number), os.path.basename(dest))
        os.makedirs(os.path.dirname(aside))
        with contextlib.suppress(FileNotFoundError):
            os.rename(dest, aside)
        try:
            os.rename(new, dest)
            break
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST) or number == _MAX_MOVES - 1:
                if os.path.lexists(aside) and not os.path.lexists(dest):
                    os.rename(aside, dest)
                raise
    atomic.sync(os.path.dirname(dest))


def clear_leftovers(dest: str) -> None:
    """Put back what a killed run has moved away to put something else in its place, and remove what else such runs have left."""
    parent = os.path.dirname(dest)
    for name in temporary.list_leftovers(parent):
        scratch = os.path.join(parent, name)
        for aside in _list_two_levels(os.path.join(scratch, _OLD)):
            place = os.path.join(parent, os.path.basename(aside))
            if not os.path.lexists(place):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(aside, place)
        temporary.remove_leftover(scratch)


def _list_two_levels(folder: str) -> list[str]:
    return [
        os.path.join(path, name)
        for path, _folders, _files in os.walk(folder)
        if os.path.dirname(path) == folder
        for name in os.listdir(path)
    ]


def _write_tar(new: str, planned: t.Mapping[str, PlannedFile]) -> None:
    """A tar that is the same for the same files: sorted, and without times, owners and modes of this machine."""
    with tarfile.open(new, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, planned_file in sorted(planned.items()):
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if planned_file.get_path is None:
                info.size = len(planned_file.content)
                tar.addfile(info, io.BytesIO(planned_file.content))
            else:
                path = planned_file.get_path()
                info.size = os.path.getsize(path)
                with open(path, "rb") as file:
                    tar.addfile(info, file)
    os.chmod(new, 0o644)


def _hash_folder(dest: str) -> dict[str, str]:
    if not os.path.isdir(dest):
        raise TorchExtensionError(
            f"{dest} is there and is no folder. Name another place in torch_extension_bundle, or move it away."
        )
    hashes = {}
    for folder, folders, files in os.walk(dest):
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, dest)
            # what is not ours is not read, and a link is not ours
            hashes[inside] = sha256_of(path) if _is_bundle_name(inside) and is_regular_file(dest, inside) else ""
        for name in folders:
            inside = os.path.relpath(os.path.join(folder, name), dest)
            if not _is_bundle_folder(inside):
                hashes[inside] = ""
    return hashes


def _hash_tar(dest: str) -> dict[str, str]:
    hashes = {}
    try:
        with archives.open_tar(dest, archives.BUNDLE, is_packed=False) as tar:
            for member in tar:
                is_ours = member.kind == archives.FILE and _is_bundle_name(member.name)
                hashes[member.name] = sha256_of_rest(tar.open(member)) if is_ours else ""
    except archives.ArchiveError as exc:
        raise TorchExtensionError(
            f"{dest} is there and is no whole bundle: {exc}. It stays as it is. Name"
            " another place in torch_extension_bundle, or move it away."
        ) from exc
    return hashes


def _is_bundle_name(name: str) -> bool:
    if name in (LOCK_NAME, BOM_NAME, SUMS_NAME, README_NAME):
        return True
    folder, _slash, filename = name.rpartition("/")
    return _is_bundle_folder(folder) and bool(re.fullmatch(r"[\w.+!-]+\.whl", filename))


def _is_bundle_folder(name: str) -> bool:
    folder, slash, digits = name.partition("/")
    return folder in FOLDERS and (not slash or bool(re.fullmatch("[0-9a-f]{16}", digits)))

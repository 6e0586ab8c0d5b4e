# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The files of a bundle: what is wanted, what is there, and how they are written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import RequirementFinder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import (
    BOM,
    FOLDERS,
    LOCK,
    README,
    SUMS,
    is_file,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import Lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import node_of

_README_TEXT = f"""\
Wheels for GPU nodes without internet, made by airgap.torch_extensions.
See that it arrived whole:   sha256sum --check {SUMS}
See what is in it, and why:  {LOCK}, {BOM} (CycloneDX)
Inside the gap, on the control node, with the collection installed there:
  ansible-playbook airgap.torch_extensions.install_flash_attn -i INVENTORY \\
    -e '{{"torch_extension_sources": ["bundle:/path/of/this/bundle"]}}'
"""


_CHUNK = 1 << 20  # bytes


GetWheel = t.Callable[[t.Mapping[str, t.Any]], str]


class Source(t.NamedTuple):
    """A file of a bundle that is wanted: what it is, and how it is had."""

    sha256: str
    path: t.Callable[[], str] | None = None  # fetches it first, if need be
    text: bytes = b""


def contents(
    lock: Lock, text: str, bill: str, get_wheel: GetWheel, requirements: RequirementFinder
) -> dict[str, Source]:
    """The files of a bundle by their names in it. Wheels are fetched only when they come to be written.

    :param text: of the lock
    :param bill: of materials
    :param get_wheel: fetches a locked wheel to the control node; its path there
    """
    wanted: dict[str, Source] = {}
    for entry in lock.environments:
        node = node_of(entry)
        for wheel in entry["wheels"]:
            wanted[f"wheels/{wheel['filename']}"] = Source(wheel["sha256"], lambda wheel=wheel: get_wheel(wheel))
        for item in entry["requirements"]:
            wanted[f"requirements/{item['filename']}"] = Source(
                item["sha256"], lambda item=item, node=node: requirements.get_locked(item, node).path
            )
    for name, content in ((LOCK, text), (BOM, bill), (README, _README_TEXT)):
        wanted[name] = Source(hashlib.sha256(content.encode()).hexdigest(), text=content.encode())
    sums = listing({name: source.sha256 for name, source in wanted.items()})
    return {**wanted, SUMS: Source(hashlib.sha256(sums.encode()).hexdigest(), text=sums.encode())}


def listing(state: t.Mapping[str, str]) -> str:
    """Hashes and names, as sha256sum writes them."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(state.items()))


def state(dest: str) -> dict[str, str]:
    """The files of the bundle that is there, with their hashes; nothing, if nothing is there.

    :raises TorchExtensionError: if there is something else
    """
    if not os.path.lexists(dest):
        return {}
    found = _tar_state(dest) if is_tar(dest) else _folder_state(dest)
    foreign = [name for name in found if not _is_ours(name)]
    if foreign or (found and LOCK not in found):
        what = f"{', '.join(sorted(foreign)[:3])} is in it" if foreign else f"there is no {LOCK} in it"
        raise TorchExtensionError(
            f"{dest} is there and is no bundle: {what}. It stays as it is. Name another place in"
            " torch_extension_bundle, or move it away."
        )
    return found


def is_tar(dest: str) -> bool:
    return dest.endswith(".tar")


def write(dest: str, wanted: t.Mapping[str, Source], there: t.Mapping[str, str]) -> None:
    """Make the bundle beside its place and put it there when it is whole.

    :param there: its state before; files that are right are not fetched and copied again
    :raises TorchExtensionError: if a file cannot be had, or the bundle not be written
    """
    parent = os.path.dirname(dest)
    try:
        os.makedirs(parent, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix=f".{os.path.basename(dest)}.part-", dir=parent)
        try:
            made = os.path.join(scratch, "new")
            if is_tar(dest):
                _write_tar(made, wanted)
                os.replace(made, dest)
            else:
                _write_folder(made, wanted, dest, there)
                _put_in_place(made, dest, os.path.join(scratch, "old"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as exc:
        raise TorchExtensionError(
            f"The bundle {dest} cannot be written ({exc.strerror}: {exc.filename}). Make room, or name another place in"
            " torch_extension_bundle."
        ) from exc


def _write_folder(made: str, wanted: t.Mapping[str, Source], before: str, there: t.Mapping[str, str]) -> None:
    for folder in ("", *FOLDERS):
        os.makedirs(os.path.join(made, folder), mode=0o755)
        os.chmod(os.path.join(made, folder), 0o755)  # noqa: S103 (others shall read it)
    for name, source in sorted(wanted.items()):
        path = os.path.join(made, name)
        if there.get(name) == source.sha256:
            with contextlib.suppress(OSError):  # not every stick has hard links
                os.link(os.path.join(before, name), path)
                continue
        if source.path is None:
            with open(path, "wb") as file:
                file.write(source.text)
        else:
            origin = os.path.join(before, name) if there.get(name) == source.sha256 else source.path()
            shutil.copyfile(origin, path)
        os.chmod(path, 0o644)


def _put_in_place(made: str, dest: str, aside: str) -> None:
    """No system call of Python's exchanges two folders, so for a moment there is none; what fails is undone."""
    if not os.path.lexists(dest):
        os.rename(made, dest)
        return
    os.rename(dest, aside)
    try:
        os.rename(made, dest)
    except OSError:
        os.rename(aside, dest)
        raise


def _write_tar(made: str, wanted: t.Mapping[str, Source]) -> None:
    """A tar that is the same for the same files: sorted, and without times, owners and modes of this machine."""
    with tarfile.open(made, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sorted(wanted.items()):
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if source.path is None:
                info.size = len(source.text)
                tar.addfile(info, io.BytesIO(source.text))
            else:
                path = source.path()
                info.size = os.path.getsize(path)
                with open(path, "rb") as file:
                    tar.addfile(info, file)
    os.chmod(made, 0o644)


def _folder_state(dest: str) -> dict[str, str]:
    if not os.path.isdir(dest):
        raise TorchExtensionError(
            f"{dest} is there and is no folder. Name another place in torch_extension_bundle, or move it away."
        )
    found = {}
    for folder, folders, files in os.walk(dest):
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, dest)
            # what is not ours is not read, and a link is not ours
            found[inside] = sha256_of(path) if _is_ours(inside) and is_file(dest, inside) else ""
        for name in folders:
            inside = os.path.relpath(os.path.join(folder, name), dest)
            if inside not in FOLDERS:
                found[inside] = ""
    return found


def _tar_state(dest: str) -> dict[str, str]:
    found = {}
    try:
        with tarfile.open(dest, "r:") as tar:
            for info in tar:
                file = tar.extractfile(info) if info.type == tarfile.REGTYPE and _is_ours(info.name) else None
                digest = hashlib.sha256()
                for chunk in iter(lambda file=file: file.read(_CHUNK) if file else b"", b""):
                    digest.update(chunk)
                found[info.name] = digest.hexdigest() if file else ""
    except (OSError, tarfile.TarError, EOFError) as exc:
        raise TorchExtensionError(
            f"{dest} is there and is no whole bundle: {getattr(exc, 'strerror', None) or exc}. It stays as it is. Name"
            " another place in torch_extension_bundle, or move it away."
        ) from exc
    return found


def _is_ours(name: str) -> bool:
    if name in (LOCK, BOM, SUMS, README):
        return True
    return bool(re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w.+!-]+\.whl", name))

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The bundle: a folder or a tar with all that a lock names, to be carried over the gap."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import typing as t
from pathlib import Path
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import Requirements
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import Lock

LOCK = "wheels.lock.yml"
_BOM = "bom.cdx.json"
_SUMS = "SHA256SUMS"
_README = "README.txt"
_FOLDERS = ("wheels", "requirements")
_README_TEXT = f"""\
Wheels for GPU nodes without internet, made by airgap.torch_extensions.
See that it arrived whole:   sha256sum --check {_SUMS}
See what is in it, and why:  {LOCK}, {_BOM} (CycloneDX)
Inside the gap, on the control node, with the collection installed there:
  ansible-playbook airgap.torch_extensions.install_flash_attn -i INVENTORY \\
    -e '{{"torch_extension_sources": ["bundle:/path/of/this/bundle"]}}'
"""
_CHUNK = 1 << 20  # bytes
_LOCK_LIMIT = 64 << 20  # bytes; a real one has a few KiB for each kind of node

GetWheel = t.Callable[[t.Mapping[str, t.Any]], str]


class Source(t.NamedTuple):
    """A file of a bundle that is wanted: what it is, and how it is had."""

    sha256: str
    path: t.Callable[[], str] | None = None  # fetches it first, if need be
    text: bytes = b""


class Bundle(t.NamedTuple):
    """A bundle that was opened for reading."""

    path: str
    lock: Lock
    sizes: t.Mapping[str, int]  # of its files, in bytes, by their names in it

    def find(self, term: str, environment: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """As :meth:`Lock.find`, with the URLs of the files in the bundle.

        :raises TorchExtensionError: if the bundle has no wheel for it, or lacks a file of its own lock
        """
        found = self.lock.find(term, environment)
        requirements = [{**item, "url": self._url("requirements", item)} for item in found["requirements"]]
        return {**found, "url": self._url("wheels", found), "source": "bundle", "requirements": requirements}

    def _url(self, folder: str, item: t.Mapping[str, t.Any]) -> str:
        name = f"{folder}/{item['filename']}"
        size = self.sizes.get(name)
        if size != item["size"]:
            found = "is not in it" if size is None else f"has {size} bytes there, wanted are {item['size']}"
            raise TorchExtensionError(
                f"The bundle {self.path} is not whole: {name} {found}. Carry it over again, or make it anew by the"
                " playbook bundle."
            )
        if os.path.isdir(self.path):
            return Path(self.path, name).as_uri()
        return f"{Path(self.path).as_uri()}#{quote(name)}"


def open_bundle(path: str) -> Bundle:
    """Open a folder or a tar.

    :raises TorchExtensionError: if it is no bundle, or not whole
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(path):
        names = [
            _README,
            _BOM,
            _SUMS,
            LOCK,
            *(f"{folder}/{name}" for folder in _FOLDERS for name in _listed(path, folder)),
        ]
        sizes = {name: os.path.getsize(os.path.join(path, name)) for name in names if _is_file(path, name)}
        text = lock_file.read_text(os.path.join(path, LOCK)) if LOCK in sizes else None
    else:
        try:
            with tarfile.open(path, "r:") as tar:
                members = {info.name: info for info in tar if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)}
                sizes = {name: info.size for name, info in members.items()}
                text = _member_text(tar, members[LOCK], path) if LOCK in members else None
        except (OSError, tarfile.TarError, EOFError) as exc:
            raise TorchExtensionError(
                f"The bundle {path} cannot be read: {getattr(exc, 'strerror', None) or exc}. Wanted is a folder or an"
                " uncompressed tar as the playbook bundle makes it; if it was one, carry it over again. Knob:"
                " torch_extension_sources."
            ) from exc
    if text is None:
        raise TorchExtensionError(
            f"{path} is no bundle, for there is no {LOCK} in it. Wanted is what the playbook bundle makes, as it is."
            " Knob: torch_extension_sources."
        )
    return Bundle(path, lock_file.load(text, os.path.join(path, LOCK)), sizes)


def contents(lock: Lock, text: str, bill: str, get_wheel: GetWheel, requirements: Requirements) -> dict[str, Source]:
    """The files of a bundle by their names in it. Wheels are fetched only when they come to be written.

    :param text: of the lock
    :param bill: of materials
    :param get_wheel: fetches a locked wheel to the control node; its path there
    """
    wanted: dict[str, Source] = {}
    for entry in lock.environments:
        node = lock_file.node_of(entry)
        for wheel in entry["wheels"]:
            wanted[f"wheels/{wheel['filename']}"] = Source(wheel["sha256"], lambda wheel=wheel: get_wheel(wheel))
        for item in entry["requirements"]:
            wanted[f"requirements/{item['filename']}"] = Source(
                item["sha256"], lambda item=item, node=node: requirements.get_locked(item, node).path
            )
    for name, content in ((LOCK, text), (_BOM, bill), (_README, _README_TEXT)):
        wanted[name] = Source(hashlib.sha256(content.encode()).hexdigest(), text=content.encode())
    sums = listing({name: source.sha256 for name, source in wanted.items()})
    return {**wanted, _SUMS: Source(hashlib.sha256(sums.encode()).hexdigest(), text=sums.encode())}


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
    for folder in ("", *_FOLDERS):
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
            found[inside] = wheel_file.sha256(path) if _is_ours(inside) and _is_file(dest, inside) else ""
        for name in folders:
            inside = os.path.relpath(os.path.join(folder, name), dest)
            if inside not in _FOLDERS:
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
    if name in (LOCK, _BOM, _SUMS, _README):
        return True
    return bool(re.fullmatch(rf"(?:{'|'.join(_FOLDERS)})/[\w.+!-]+\.whl", name))


def _is_file(folder: str, name: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode)
    except OSError:
        return False


def _listed(path: str, folder: str) -> list[str]:
    try:
        return os.listdir(os.path.join(path, folder))
    except OSError:
        return []


def _member_text(tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> str:
    file = tar.extractfile(info)
    if file is None or info.size > _LOCK_LIMIT:
        raise TorchExtensionError(f"{LOCK} in {path} has {info.size} bytes, a lock has at most {_LOCK_LIMIT}.")
    try:
        return file.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise TorchExtensionError(f"{LOCK} in {path} is no text: {exc}.") from exc

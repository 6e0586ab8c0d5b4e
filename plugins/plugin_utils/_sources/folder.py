# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""List the wheels, or other files, in a folder of the control node."""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset, is_named_after

#: as sha256sum writes it: the digest, a space, a space or (binary) a star, the name
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


def list_wheels(path: str, name: str, warnings: list[str] | None = None) -> list[Asset]:
    """The wheels of a package in a folder and in the folders directly in it, sorted by path.

    :param path: ``~`` is the home of the user who runs Ansible
    :param name: of the package, in any spelling
    :param warnings: what could not be looked at there is added here, each once
    :returns: with hashes as far as ``SHA256SUMS`` or ``FILE.sha256`` beside a wheel tell them
    :raises TorchExtensionError: if the folder is not there, or cannot be read
    """
    name = canonical(name)
    return list_files(path, lambda filename: is_named_after(filename, name), warnings)


def list_files(path: str, is_wanted: t.Callable[[str], bool], warnings: list[str] | None = None) -> list[Asset]:
    """The files in a folder, and in the folders directly in it, whose names are wanted; as :func:`list_wheels` lists wheels.

    :raises TorchExtensionError: if the folder is not there, or cannot be read
    """
    try:
        top = Path(path).expanduser().absolute()
        assets, unread = _list_files_in(top, is_wanted)
        for folder in sorted(entry for entry in top.iterdir() if entry.is_dir()):
            try:
                below = _list_files_in(folder, is_wanted)
            except PermissionError as exc:  # such as lost+found, where a file system is mounted
                unread.append(f"The folder {folder} on the control node was not looked at ({exc.strerror}).")
            else:
                assets += below[0]
                unread += below[1]
    except OSError as exc:
        raise TorchExtensionError(
            f"The folder {exc.filename or path} on the control node cannot be read ({exc.strerror}). See"
            " torch_extension_sources."
        ) from exc
    except RuntimeError as exc:  # of expanduser
        raise TorchExtensionError(
            f"{path} is no folder on the control node: {exc} See torch_extension_sources."
        ) from exc
    if warnings is not None:
        warnings += [each for each in unread if each not in warnings]
    return assets


def _list_files_in(folder: Path, is_wanted: t.Callable[[str], bool]) -> tuple[list[Asset], list[str]]:
    """The files, and what else is there in their place, in sentences."""
    named = sorted(entry for entry in folder.iterdir() if is_wanted(entry.name))
    files = [entry for entry in named if entry.is_file()]
    dangling = [f"{entry} on the control node is a link that leads nowhere." for entry in named if _is_dangling(entry)]
    digests = _read_sha256sums(folder / "SHA256SUMS") if files else {}
    assets = [
        Asset(
            filename=file.name,
            url=file.as_uri(),
            size=file.stat().st_size,
            sha256=digests.get(file.name) or _read_sha256sums(Path(f"{file}.sha256")).get(file.name),
            address=str(folder),
        )
        for file in files
    ]
    return assets, dangling


def _is_dangling(entry: Path) -> bool:
    return entry.is_symlink() and not entry.exists()


def _read_sha256sums(path: Path) -> dict[str, str]:
    """The digests in a file of sha256sum, by name. A digest without a name is of the file that this one is named after."""
    if not os.path.isfile(path):
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    by_name = {match[2]: match[1].lower() for match in map(_LINE.fullmatch, lines) if match}
    single = re.fullmatch(r"\s*([0-9a-fA-F]{64})\s*", "\n".join(lines))
    return {path.stem: single[1].lower()} if single else by_name

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which wheels a folder of the control node has."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.pages import is_wheel_of

#: as sha256sum writes it: the digest, a space, a space or (binary) a star, the name
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


def wheels(path: str, name: str) -> list[Asset]:
    """The wheels of a package in a folder and in the folders directly in it, sorted by place.

    :param path: ``~`` is the home of who runs Ansible
    :param name: of the package, in any spelling
    :returns: with hashes as far as ``SHA256SUMS`` or ``FILE.sha256`` beside a wheel tell them
    :raises TorchExtensionError: if the folder is not there, or cannot be read
    """
    name = canonical(name)
    try:
        top = Path(path).expanduser().absolute()
        folders = [top, *sorted(entry for entry in top.iterdir() if entry.is_dir())]
        return [asset for folder in folders for asset in _directly_in(folder, name)]
    except OSError as exc:
        raise TorchExtensionError(
            f"The folder {exc.filename or path} on the control node cannot be read ({exc.strerror}). See"
            " torch_extension_sources."
        ) from exc
    except RuntimeError as exc:  # of expanduser
        raise TorchExtensionError(
            f"{path} is no folder on the control node: {exc} See torch_extension_sources."
        ) from exc


def _directly_in(folder: Path, name: str) -> list[Asset]:
    files = sorted(entry for entry in folder.iterdir() if is_wheel_of(entry.name, name) and entry.is_file())
    sums = _sums(folder / "SHA256SUMS") if files else {}
    return [
        Asset(
            filename=file.name,
            url=file.as_uri(),
            size=file.stat().st_size,
            sha256=sums.get(file.name) or _sums(Path(f"{file}.sha256")).get(file.name),
        )
        for file in files
    ]


def _sums(path: Path) -> dict[str, str]:
    """The digests of a file of sha256sum, by name; a digest alone is that of the wheel that the file is named after."""
    if not os.path.isfile(path):
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = {match[2]: match[1].lower() for match in map(_LINE.fullmatch, lines) if match}
    alone = re.fullmatch(r"\s*([0-9a-fA-F]{64})\s*", "\n".join(lines))
    return {path.stem: alone[1].lower()} if alone else found

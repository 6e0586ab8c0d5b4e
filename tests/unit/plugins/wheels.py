# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes small real wheels and sdists, and tells whether a tree of files has changed."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Iterable, Mapping

LABEL = "cu12torch2.6cxx11abiFALSE"


def build_wheel(
    folder: Path,
    name: str = "flash-attn",
    version: str = "2.8.3",
    label: str = "",
    files: Mapping[str, str] | None = None,
    requires: Iterable[str] = (),
    tags: str = "py3-none-any",
    metadata_version: str | None = None,
    requires_python: str | None = None,
    extra: Iterable[tuple[str, bytes]] = (),
) -> Path:
    """Make a wheel. With a label it is "renamed" as the official ones are: METADATA does not know it.

    :param files: the modules; without them one package that can be imported and knows its version
    :param extra: more members of the archive, also under names that no sound wheel has
    """
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {stem}\nVersion: {metadata_version or version}\n"
    metadata += f"Requires-Python: {requires_python}\n" if requires_python else ""
    metadata += "".join(f"Requires-Dist: {item}\n" for item in requires)
    wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tags}\n"
    members = [
        *((path, text.encode()) for path, text in (files or {f"{stem}/__init__.py": f"V = {version!r}\n"}).items()),
        *extra,
        (f"{info}/METADATA", metadata.encode()),
        (f"{info}/WHEEL", wheel.encode()),
    ]
    record = "".join(f"{path},sha256={_record_hash(data)},{len(data)}\n" for path, data in members)
    members.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{version}{'+' + label if label else ''}-{tags}.whl"
    write_zip(path, members)
    return path


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


def build_sdist(folder: Path, name: str = "flash-attn", version: str = "2.8.3") -> Path:
    """Make an sdist whose setup.py says that it was run, and fails. It needs no setuptools to do so."""
    stem = f"{name.replace('-', '_')}-{version}"
    run_setup = "import runpy\ndef build_wheel(*args, **kwargs): runpy.run_path('setup.py')\n"
    texts = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "setup.py": "raise SystemExit('setup.py was run')\n",
        "backend.py": f"{run_setup}prepare_metadata_for_build_wheel = build_wheel\n",
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in texts.items():
            member = tarfile.TarInfo(f"{stem}/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree_state(root: Path) -> dict[str, str]:
    """Every file, link and folder below a folder, with its content or target."""
    state = {}
    for folder, names, files in os.walk(root):
        for entry in names + files:
            path = Path(folder, entry)
            if path.is_symlink():
                state[str(path)] = f"-> {path.readlink()}"
            else:
                state[str(path)] = "folder" if path.is_dir() else sha256(path)
    return state


def as_wanted(path: Path, name: str = "flash-attn", version: str = "2.8.3", **more) -> dict:
    """A wheel as the lookup describes it."""
    return {
        "name": name,
        "version": version,
        "filename": path.name,
        "sha256": sha256(path),
        "imports": [name.replace("-", "_")],
        "conflicts": [],
        **more,
    }


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

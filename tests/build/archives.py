# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVIDIA's redistributable archives, made of the wheels that have the same files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

#: of wheels, and what NVIDIA calls the archive with the same
COMPONENTS = {
    "nvidia_cuda_nvcc": "cuda_nvcc",
    "nvidia_cuda_crt": "cuda_crt",
    "nvidia_nvvm": "libnvvm",
    "nvidia_cuda_cccl": "cuda_cccl",
    "nvidia_cuda_runtime": "cuda_cudart",
}
PLATFORM = "linux-x86_64"
PREFIX = "nvidia/cu13/"
PROGRAMS = ("bin/", "nvvm/bin/")


def make_archives(wheels: Path, folder: Path, version: str) -> None:
    """Write a folder as NVIDIA publishes it: an archive of each component, and the manifest of a release of CUDA."""
    manifest: dict[str, object] = {"release_date": "2025-09-01", "release_label": version}
    for distribution, component in COMPONENTS.items():
        wheel = next(wheels.glob(f"{distribution}-*.whl"))
        release = wheel.name.split("-")[1]
        name = f"{component}-{PLATFORM}-{release}-archive"
        path = folder / component / PLATFORM / f"{name}.tar.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        _pack(wheel, name, path)
        manifest[component] = {
            "name": component,
            "license": "CUDA Toolkit",
            "license_path": f"{component}/LICENSE.txt",
            "version": release,
            PLATFORM: {
                "relative_path": str(path.relative_to(folder)),
                "sha256": _sha256(path),
                "size": str(path.stat().st_size),
            },
        }
    (folder / f"redistrib_{version}.json").write_text(json.dumps(manifest, indent=2))


def _pack(wheel: Path, name: str, path: Path) -> None:
    with zipfile.ZipFile(wheel) as source, tarfile.open(path, "w:xz", preset=0) as archive:
        for member in source.infolist():
            if not member.filename.startswith(PREFIX) or member.is_dir():
                continue
            inside = member.filename.removeprefix(PREFIX)
            data = source.read(member)
            entry = tarfile.TarInfo(f"{name}/{inside}")
            entry.size, entry.mode = len(data), 0o755 if inside.startswith(PROGRAMS) else 0o644
            archive.addfile(entry, io.BytesIO(data))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

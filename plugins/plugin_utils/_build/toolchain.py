# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""NVIDIA's compiler for a builder without one: wheels of the index for CUDA 13, redistributable archives for CUDA 12.

An archive is named, with its hash, by a manifest ``redistrib_12.8.1.json`` of the place that has it. The manifest is untrusted.
"""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.requirements import explain_unobtainable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.archives import check_archive_name
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_cache import HttpCache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Answer

SETTING = "torch_extension_build_cuda"
DEFAULT_PLACE = "https://developer.download.nvidia.com/compute/cuda/redist/"

#: From this major version of CUDA on the index has a compiler. nvidia-cuda-nvcc-cu12 has no nvcc.
_FIRST_WITH_WHEELS = 13
_WHEELS = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl", "nvidia-cuda-runtime")
_COMPONENTS = ("cuda_nvcc", "cuda_cudart", "cuda_cccl")
_COMPONENTS_OF_13 = ("libnvvm", "cuda_crt")  # which were parts of cuda_nvcc before
#: how NVIDIA's manifests call machines
_PLATFORMS = {"x86_64": "linux-x86_64", "aarch64": "linux-sbsa"}

_MANIFEST = re.compile(r"redistrib_(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.json", re.ASCII)
_MAX_MANIFEST = 4 << 20  # bytes; that of CUDA 12.8.1 has 60 KiB
_MAX_AGE = 24 * 3600  # seconds: a manifest does not change, and new ones are rare
_PATH = re.compile(r"(?:[\w.+-]+/)*[\w.+-]+", re.ASCII)


def find_toolchain(
    cuda: str,
    environment: t.Mapping[str, t.Any],
    context: DownloadContext,
    place: str = "",
    warnings: list[str] | None = None,
) -> list[File]:
    """The files of NVIDIA's compiler, from the cache, or downloaded into it.

    :param cuda: the version, ``13.0``; of its patches the newest is taken
    :param environment: of the builder, whose machine counts, and its Python where pip chooses
    :param place: a URL or a folder with redistributable archives; without it the index for CUDA 13, NVIDIA's own place for CUDA 12
    :param warnings: what the operator should know is added here, each once
    :raises TorchExtensionError: if there is none for this version and machine, or it cannot be had
    """
    if not re.fullmatch(r"\d{1,3}\.\d{1,3}", cuda):
        raise TorchExtensionError(f"{cuda!r} is no version of CUDA such as 13.0.")
    if int(cuda.split(".")[0]) >= _FIRST_WITH_WHEELS and not place:
        return _find_wheels(cuda, environment, context)
    return _find_archives(cuda, environment, context, place or DEFAULT_PLACE, warnings)


def _find_wheels(cuda: str, environment: t.Mapping[str, t.Any], context: DownloadContext) -> list[File]:
    requires = [f"{name}=={cuda}.*" for name in _WHEELS]
    with explain_unobtainable(f"Or name a place of NVIDIA's redistributable archives in {SETTING}"):
        found = context.requirement_finder().find_closure(requires, environment, f"NVIDIA's compiler for CUDA {cuda}")
    return [File(str(item.path), item.sha256) for item in found]


def _find_archives(
    cuda: str,
    environment: t.Mapping[str, t.Any],
    context: DownloadContext,
    place: str,
    warnings: list[str] | None,
) -> list[File]:
    machine = environment["platform"]["machine"]
    platform = _PLATFORMS.get(machine)
    if platform is None:
        raise TorchExtensionError(
            f"NVIDIA has no compiler for {machine}, wanted is {' or '.join(_PLATFORMS)}. Name another machine in torch_extension_builder."
        )
    reader = _open_place(place, context, warnings)
    manifest, entries = reader.read_manifest(cuda)
    components = _COMPONENTS if int(cuda.split(".")[0]) < _FIRST_WITH_WHEELS else _COMPONENTS + _COMPONENTS_OF_13
    archives = [_read_entry(entries, component, platform, manifest) for component in components]
    downloader = context.toolchain_downloader()
    found = []
    for archive in archives:
        url, filename = reader.url_of(archive.relative_path), archive.relative_path.rpartition("/")[2]
        found.append(File(downloader.get(url, filename, archive.sha256, archive.size).path, archive.sha256))
    return found


class _Archive(t.NamedTuple):
    """An entry of a manifest."""

    relative_path: str
    sha256: str
    size: int | None  # bytes


def _read_entry(entries: t.Mapping[str, t.Any], component: str, platform: str, manifest: str) -> _Archive:
    """
    :raises TorchExtensionError: if the manifest does not have it, or not in its usual form
    """
    entry = entries.get(component)
    file = entry.get(platform) if isinstance(entry, dict) else None
    if file is None:
        raise TorchExtensionError(
            f"{manifest} has no {component} for {platform}. Name a place that has it in {SETTING}, or the home of a CUDA toolkit on the"
            " builder in CUDA_HOME."
        )
    try:
        path, sha256, size = file["relative_path"], file["sha256"], str(file.get("size", ""))
        if not (isinstance(path, str) and _PATH.fullmatch(path)) or {".", ".."} & set(path.split("/")):
            raise ValueError(f"its path is {path!r}")
        if not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
            raise ValueError(f"its sha256 is {sha256!r}")
        if size and not re.fullmatch(r"[0-9]{1,15}", size):
            raise ValueError(f"its size is {size!r}")
        check_archive_name(path.rpartition("/")[2])
    except (KeyError, TypeError, AttributeError, ValueError, TorchExtensionError) as exc:
        reason = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)[:300].rstrip(".")
        raise TorchExtensionError(
            f"{manifest} does not say where {component} for {platform} is, as NVIDIA's manifests do: {reason}. See {SETTING}."
        ) from exc
    return _Archive(path, sha256.lower(), int(size) if size else None)


class _Place(t.Protocol):
    """Where manifests and archives are."""

    def read_manifest(self, cuda: str) -> tuple[str, dict[str, t.Any]]:
        """The newest manifest of a version of CUDA: where it is, and its content."""

    def url_of(self, relative_path: str) -> str:
        """The address of an archive."""


def _open_place(place: str, context: DownloadContext, warnings: list[str] | None) -> _Place:
    """
    :raises TorchExtensionError: if it is neither an address nor a folder
    """
    if "://" in place and urlsplit(place).scheme != "file":
        settings.check_url(place, SETTING)
        return _Server(place, context, warnings)
    path = unquote(urlsplit(place).path) if place.startswith("file:") else os.path.expanduser(place)
    if not os.path.isabs(path) or not os.path.isdir(path):
        raise TorchExtensionError(
            f"{SETTING} is {place}, and there is no such folder on the control node. Wanted is an absolute path, or https://…"
        )
    return _Folder(Path(path))


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read_manifest(self, cuda: str) -> tuple[str, dict[str, t.Any]]:
        try:
            path = self._path / _newest_manifest(cuda, os.listdir(self._path), str(self._path))
            if path.stat().st_size > _MAX_MANIFEST:
                raise ValueError(f"it has more than {_MAX_MANIFEST} bytes")
            return str(path), _parse_manifest(path.read_bytes())
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise TorchExtensionError(
                f"The manifest for CUDA {cuda} in {self._path} on the control node cannot be read: {reason}. See {SETTING}."
            ) from exc

    def url_of(self, relative_path: str) -> str:
        """Where NVIDIA has it below the folder, or in the folder itself."""
        flat = self._path / relative_path.rpartition("/")[2]
        nested = self._path / relative_path
        return (flat if flat.is_file() and not nested.is_file() else nested).as_uri()


class _Server:
    def __init__(self, url: str, context: DownloadContext, warnings: list[str] | None) -> None:
        self._url = url if url.endswith("/") else f"{url}/"
        self._warnings = warnings
        self._http_cache = HttpCache(context.cache, context.ca_path, _MAX_AGE, SETTING, named_url=self._url)

    def read_manifest(self, cuda: str) -> tuple[str, dict[str, t.Any]]:
        try:
            names = self._http_cache.get(self._url, _parse_listing, f"What {self._url} has")
            url = urljoin(self._url, _newest_manifest(cuda, names, self._url))
            return url, self._http_cache.get(url, lambda answer: _parse_manifest(answer.body), f"What {url} lists")
        finally:
            for warning in self._http_cache.warnings:
                if self._warnings is not None and warning not in self._warnings:
                    self._warnings.append(warning)

    def url_of(self, relative_path: str) -> str:
        return urljoin(self._url, relative_path)


def _parse_listing(answer: Answer) -> list[str]:
    """The names of manifests on a page, whatever its form."""
    names = sorted({match[0] for match in _MANIFEST.finditer(answer.body.decode("utf-8", "replace"))})
    if not names:
        raise ValueError("it lists no redistrib_….json")
    return names


def _newest_manifest(cuda: str, names: t.Iterable[str], where: str) -> str:
    """
    :raises TorchExtensionError: if none is of this version
    """
    found: dict[int, str] = {}
    versions = set()
    for match in filter(None, map(_MANIFEST.fullmatch, names)):
        versions.add(f"{match[1]}.{match[2]}")
        if f"{match[1]}.{match[2]}" == cuda:
            found[int(match[3])] = match[0]
    if not found:
        known = sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
        has = f"it has those of {', '.join(known)}" if known else "it has none at all"
        raise TorchExtensionError(
            f"{where} has no manifest redistrib_{cuda}.*.json of NVIDIA's compiler for CUDA {cuda}; {has}. Name a place that has it in"
            f" {SETTING}."
        )
    return found[max(found)]


def _parse_manifest(body: bytes) -> dict[str, t.Any]:
    """
    :raises ValueError: if it is none
    """
    try:
        entries = parse_json(body)
    except ValueError as exc:
        raise ValueError(f"it is no JSON ({exc})") from exc
    if not isinstance(entries, dict):
        raise ValueError("it is no manifest of NVIDIA's")
    return entries

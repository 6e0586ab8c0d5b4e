# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The CUDA toolkit that torch's build tools find: a folder of links over NVIDIA's compiler and what torch brings."""

from __future__ import annotations

import glob
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.unpacking import unpack

_IN_WHEEL = re.compile(r"nvidia/cu\d+/(.+)")
_IN_ARCHIVE = re.compile(r"[^/]+/(.+)")
_VERSIONED = re.compile(r"(lib.+\.so)\.[\d.]+")


def unpack_cuda(files: t.Iterable[str], folder: str) -> None:
    """Make a CUDA home of NVIDIA's wheels or redistributable archives.

    :param files: paths of wheels and archives
    :param folder: an empty one
    """
    for path in files:
        unpack(path, folder, strip_wheel if path.endswith(".whl") else _strip_archive)


def strip_wheel(name: str) -> str | None:
    """From the name of a wheel's member its path in a CUDA home; None if it belongs elsewhere."""
    match = _IN_WHEEL.fullmatch(name)
    return match[1] if match else None


def _strip_archive(name: str) -> str | None:
    match = _IN_ARCHIVE.fullmatch(name)
    return match[1] if match else None


#: parts of nvcc that are told the path of the source
NVCC_PARTS = ("bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc")


def link_compiler(cuda: str, folder: str, fronts: str) -> None:
    """Make a CUDA home of links in which fronts stand for parts of nvcc, which it looks for beside the path it is called by.

    :param folder: an empty one
    :param fronts: the folder with them
    """
    tops = {part.partition("/")[0] for part in NVCC_PARTS}
    _link_entries(cuda, folder, skip=tops)
    for top in tops:
        for path, folders, files in os.walk(os.path.join(cuda, top)):
            inner = os.path.relpath(path, cuda)
            os.makedirs(os.path.join(folder, inner))
            linked = [name for name in folders if os.path.islink(os.path.join(path, name))]
            for name in [*files, *linked]:
                part = os.path.join(inner, name)
                source = os.path.join(fronts, name) if part in NVCC_PARTS else os.path.join(cuda, part)
                os.symlink(source, os.path.join(folder, part))


def link_toolkit(cuda: str, torch_folders: t.Iterable[str], folder: str, front: str) -> None:
    """Make the toolkit that setup.py finds, of links.

    :param cuda: a CUDA home
    :param torch_folders: folders of NVIDIA's packages that belong to torch, each with include and lib
    :param folder: an empty one
    :param front: the program that stands for nvcc
    """
    _link_entries(cuda, folder, skip=["bin", "lib", "lib64"])
    _link_entries(os.path.join(cuda, "bin"), os.path.join(folder, "bin"), skip=["nvcc"])
    os.symlink(front, os.path.join(folder, "bin", "nvcc"))
    libraries = os.path.join(folder, "lib64")
    os.mkdir(libraries)
    for source in [cuda, *torch_folders]:
        for name in ("lib64", "lib"):
            _link_entries(os.path.join(source, name), libraries)
    for name in sorted(os.listdir(libraries)):  # the linker looks for names without a version
        match = _VERSIONED.fullmatch(name)
        if match and not os.path.lexists(os.path.join(libraries, match[1])):
            os.symlink(name, os.path.join(libraries, match[1]))
    os.symlink("lib64", os.path.join(folder, "lib"))


def find_nvidia_folders(search_path: t.Iterable[str]) -> list[str]:
    """The folders of NVIDIA's packages on a search path of Python: one for CUDA 13, one for each library of CUDA 12."""
    patterns = [os.path.join(folder, "nvidia", "*", "include") for folder in search_path]
    return [os.path.dirname(path) for pattern in patterns for path in sorted(glob.glob(pattern))]


def include_path(toolkit: str, torch_folders: t.Iterable[str]) -> list[str]:
    """Folders of headers that compilers do not look into by themselves: CUB, Thrust and libcu++ of CUDA 13, and what torch brings."""
    own = os.path.join(toolkit, "include")
    folders = [own, os.path.join(own, "cccl")]
    for folder in torch_folders:
        folders += [os.path.join(folder, "include"), os.path.join(folder, "include", "cccl")]
    return [folder for folder in folders if os.path.isdir(folder)]


def _link_entries(source: str, folder: str, skip: t.Container[str] = ()) -> None:
    """Link what a folder holds into another one; what is there stays."""
    os.makedirs(folder, exist_ok=True)
    for name in sorted(os.listdir(source)) if os.path.isdir(source) else ():
        path = os.path.join(folder, name)
        if name not in skip and not os.path.lexists(path):
            os.symlink(os.path.join(source, name), path)

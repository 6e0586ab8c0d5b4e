# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which libraries a Python process has once it has imported torch, and which it would find for one more extension.

It follows what ld.so(8) says of names, RPATH, RUNPATH, LD_LIBRARY_PATH, /etc/ld.so.cache and default folders, and dlopen(3)
of scopes, with files alone: nothing is loaded and nothing is run.
"""

from __future__ import annotations

import glob
import os
import re
import struct
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import read_start
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.library_exports import (
    Elf,
    ElfError,
    ForeignElfError,
)

_CACHE_MAGIC = b"glibc-ld.so.cache1.1"  # glibc, sysdeps/generic/dl-cache.h; older glibc puts another format before it
_CACHE_HEADER = struct.Struct("<20sII20x")
_CACHE_ENTRY = struct.Struct("<iIIIQ")

# What the loaders of the known distributions have built in, for one that cannot be read; Debian's are the first of each machine.
_CACHE = "/etc/ld.so.cache"
_DEFAULT_FOLDERS = (
    "/lib/{machine}-linux-gnu",
    "/usr/lib/{machine}-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)


# Both are strings in the loader: the path of its cache, and its folders one behind the other, each with a slash at its end (glibc,
# elf/dl-load.c: system_dirs).
_CACHE_NAME = b"/ld.so.cache"
_FOLDER = re.compile(rb"(?<=\0)/[^\0]{1,1050}(?=/\0)")
_FOLDER_NAME = re.compile(rb"lib[^/]{0,5}|[^/]{1,40}-gnu[^/]{0,10}")
_NO_FOLDER = re.compile(rb"[\s%:]")
_MAX_PATH = 4000  # bytes
_MAX_LOADER = 4 << 20  # bytes; real ones have 0.2 MB
_MAX_FOLDERS = 32  # of a loader; that of Debian has 4
_MAX_CACHE, _MOST_CACHED = 16 << 20, 1 << 15  # bytes and libraries; real ones have 0.2 MB and 2,000


class LoaderSettings(t.NamedTuple):
    """What is built into a dynamic loader: where its cache is, and where it looks last."""

    cache: str
    folders: tuple[str, ...]


class Library:
    """A library in a process: where it is, and what it has brought along."""

    def __init__(self, elf: Elf, loader: Library | None) -> None:
        self.elf = elf
        self.loader = loader  # by whose need it came
        self.needed: list[Library] = []
        self.missing: list[str] = []  # what it needs and the loader would not find


class Extension(t.NamedTuple):
    """A library that is not on this node yet, where it would be put."""

    origin: str  # its folder
    needed: t.Sequence[str]
    runpath: t.Sequence[str]


class Process:
    """The libraries in the memory of a Python process. Close it to close their files.

    :param environ: the environment variables that it would be started with, as far as they are known
    """

    def __init__(self, environ: t.Mapping[str, str]) -> None:
        self.doubts: list[str] = []  # why not all of its libraries are known
        self.unreadable: dict[str, str] = {}  # library: why the file that the loader would take cannot be judged
        self.global_scope: list[Library] = []  # whose symbols all others see, in the order of the search
        self.program: Library | None = None
        self._environ = environ
        self._libraries: list[Library] = []
        self._by_name: dict[str, Library] = {}
        self._by_file: dict[tuple[int, int], Library] = {}
        self._nvidia_folders: list[str] = []
        self._settings: LoaderSettings | None = None  # until the program is known
        self._cache: dict[str, list[str]] = {}

    @classmethod
    def with_torch(cls, environment: t.Mapping[str, t.Any], environ: t.Mapping[str, str]) -> Process:
        """A process of an environment that has imported its torch.

        What stands in the way of knowing it is in ``doubts``.
        """
        process = cls(environ)
        python = environment["python"]
        process._load_program(os.path.realpath(python.get("program") or python["executable"]))
        if environment["torch"]:
            folders = [entry["folder"] for entry in python.get("search_path", ())] or [python["site_packages"] or ""]
            process._import_torch(environment["torch"]["path"], folders)
        else:
            process.doubts.append("this environment has no torch")
        return process

    def fork(self) -> Process:
        """A copy of this process that can load other extensions. It shares the open files of this one, and is not to be closed."""
        twin = Process.__new__(Process)
        twin.__dict__.update(self.__dict__)
        twin.doubts, twin.unreadable = list(self.doubts), dict(self.unreadable)
        twin._by_name, twin._by_file = dict(self._by_name), dict(self._by_file)
        return twin

    def close(self) -> None:
        """Close the files of all libraries."""
        while self._libraries:
            self._libraries.pop().elf.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def load(self, extension: Extension) -> tuple[dict[str, Library], list[str]]:
        """What the loader finds for each library that an extension needs, and those that it does not find."""
        found, missing = {}, []
        for name in extension.needed:
            library = self._load_needed(name, expand_origin(extension.runpath, extension.origin))
            if library is None:
                missing.append(name)
            else:
                found[name] = library
        return found, missing

    def _load_program(self, executable: str) -> None:
        try:
            self.program = self._add(Elf(executable), None)
        except (OSError, ElfError) as exc:
            self.doubts.append(f"the interpreter cannot be read ({_reason(exc)})")
            return
        loader = self.program.elf.interpreter
        if loader:
            self._settings = read_loader_settings(loader, self.program.elf.machine)
            self._cache = _read_cache(self._settings.cache)
            self._find(loader, (), self.program)  # it is there before all else, under its own name
        self._load_dependencies(self.program)
        self.global_scope = with_dependencies([self.program])

    def _import_torch(self, folder: str, search_path: t.Iterable[str]) -> None:
        """``torch/__init__.py``: libtorch_global_deps.so with RTLD_GLOBAL, then torch._C.

        It loads CUDA's libraries from the wheels of NVIDIA (``nvidia/*/lib``) in the folders of sys.path beforehand, wherever
        the loader would not find them by itself.
        """
        for site in dict.fromkeys((os.path.dirname(folder), *search_path)):
            self._nvidia_folders += sorted(glob.glob(os.path.join(glob.escape(site), "nvidia", "*", "lib")))
        global_deps = self._dlopen(os.path.join(folder, "lib", "libtorch_global_deps.so"), is_optional=True)
        binding = sorted(glob.glob(os.path.join(glob.escape(folder), "_C.*so")))
        if not binding:
            self.doubts.append(f"torch in {folder} has no _C.*.so, so nothing tells which libraries it loads")
        roots = [global_deps, *(self._dlopen(path) for path in binding)]
        for library in with_dependencies(root for root in roots if root is not None):
            for name in library.missing:
                reason = self.unreadable.get(name, "it is nowhere on this node")
                self.doubts.append(f"torch's own {os.path.basename(library.elf.path)} needs {name}: {reason}")
        if global_deps is not None:
            seen = {id(library) for library in self.global_scope}
            self.global_scope += [library for library in with_dependencies([global_deps]) if id(library) not in seen]

    def _dlopen(self, path: str, is_optional: bool = False) -> Library | None:
        """What dlopen makes of a path: the library and all that it needs."""
        try:
            library = self._add(Elf(path), self.program)
        except FileNotFoundError:
            if not is_optional:
                self.doubts.append(f"{path} does not exist")
            return None
        except (OSError, ElfError) as exc:
            self.doubts.append(_reason(exc))
            return None
        self._load_dependencies(library)
        return library

    def _load_needed(self, name: str, runpath: t.Sequence[str]) -> Library | None:
        """The library of a name that a library needs whose loader is the program, and all that it needs itself."""
        library = self._by_name.get(name)
        if library is None:
            library = self._find(name, runpath, self.program)
            if library is not None:
                self._load_dependencies(library)
        return library

    def _load_dependencies(self, first: Library) -> None:
        """Find what a library needs, and what that needs, breadth first as the loader does."""
        queue = [first]
        for library in queue:
            runpath = expand_origin(library.elf.runpath, os.path.dirname(library.elf.path))
            for name in library.elf.needed:
                found = self._by_name.get(name)
                if found is None:
                    known = len(self._libraries)
                    found = self._find(name, runpath, library)
                    if found is None:
                        library.missing.append(name)
                        continue
                    queue += self._libraries[known:]
                library.needed.append(found)

    def _find(self, name: str, runpath: t.Sequence[str], loader: Library | None) -> Library | None:
        if "/" in name:  # a path and no name (ld.so(8))
            candidates: t.Iterable[str] = [name]
        else:
            candidates = self._candidates(name, runpath, loader)
        for path in candidates:
            try:
                elf = Elf(path)
            except (FileNotFoundError, NotADirectoryError, ForeignElfError):
                continue
            except PermissionError as exc:
                # the loader goes on to the next folder, but the user of the process may be another one than we are
                self.unreadable[name] = _reason(exc)
                continue
            except (OSError, ElfError) as exc:
                self.unreadable[name] = _reason(exc)
                return None
            if self.program is not None and elf.machine != self.program.elf.machine:
                elf.close()
                continue
            library = self._add(elf, loader)
            self._by_name[name] = library
            self.unreadable.pop(name, None)
            return library
        return None

    def _candidates(self, name: str, runpath: t.Sequence[str], loader: Library | None) -> t.Iterator[str]:
        """Where the loader looks, in the order of ld.so(8)."""
        folders: list[str] = []
        if not runpath:
            chain, seen = [], set()
            while loader is not None:
                chain.append(loader)
                seen.add(id(loader))
                loader = loader.loader
            if self.program is not None and id(self.program) not in seen:
                chain.append(self.program)
            for library in chain:
                if not library.elf.runpath:
                    folders += expand_origin(library.elf.rpath, os.path.dirname(library.elf.path))
        folders += filter(None, self._environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":"))
        for folder in (*folders, *runpath):
            yield os.path.join(folder, name)
        yield from self._cache.get(name, ())
        for folder in (*(self._settings.folders if self._settings else ()), *self._nvidia_folders):
            yield os.path.join(folder, name)

    def _add(self, elf: Elf, loader: Library | None) -> Library:
        known = self._by_file.get(elf.identity)
        if known is not None:  # under another name
            elf.close()
            return known
        library = Library(elf, loader)
        self._libraries.append(library)
        self._by_file[elf.identity] = library
        if elf.soname is not None:
            self._by_name.setdefault(elf.soname, library)
        return library


def expand_origin(paths: t.Iterable[str], origin: str) -> list[str]:
    """The folders of an RPATH or RUNPATH, for a library in the folder ``origin``."""
    folders = [path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for path in paths]
    # $LIB and $PLATFORM differ between builds of glibc, and nobody builds wheels with them
    return [folder for folder in folders if "$" not in folder]


def with_dependencies(roots: t.Iterable[Library]) -> list[Library]:
    """Libraries and all that they need, in the order in which the loader searches them."""
    found = list({id(library): library for library in roots}.values())
    seen = {id(library) for library in found}
    for library in found:
        for needed in library.needed:
            if id(needed) not in seen:
                seen.add(id(needed))
                found.append(needed)
    return found


def read_loader_settings(path: str, machine: str) -> LoaderSettings:
    """What is built into the loader of a program.

    :param path: of the loader, as the program names it
    :param machine: that of the program, as os.uname() has it
    """
    try:
        content = read_start(path, _MAX_LOADER)
    except OSError:
        content = b""
    folders = dict.fromkeys(map(os.fsdecode, filter(_is_folder, _FOLDER.findall(content))))
    return LoaderSettings(
        _find_cache_path(content) or _CACHE,
        tuple(folders)[:_MAX_FOLDERS] or tuple(folder.format(machine=machine) for folder in _DEFAULT_FOLDERS),
    )


def _find_cache_path(content: bytes) -> str | None:
    end = content.find(_CACHE_NAME + b"\0")
    start = content.rfind(b"\0", max(end - _MAX_PATH, 0), max(end, 0)) + 1
    path = content[start : end + len(_CACHE_NAME)]
    return os.fsdecode(path) if end > start and path.startswith(b"/") else None


def _is_folder(path: bytes) -> bool:
    return bool(_FOLDER_NAME.fullmatch(path.rpartition(b"/")[2])) and not _NO_FOLDER.search(path)


def _read_cache(path: str) -> dict[str, list[str]]:
    """The libraries in the cache of ldconfig(8), by name. A cache that cannot be read counts as empty, as for the loader."""
    try:
        content = read_start(path, _MAX_CACHE)
    except OSError:
        return {}
    start = content.find(_CACHE_MAGIC)
    if start < 0 or len(content) < start + _CACHE_HEADER.size:
        return {}
    _magic, count, _strings = _CACHE_HEADER.unpack_from(content, start)
    entries = content[start + _CACHE_HEADER.size :][: min(count, _MOST_CACHED) * _CACHE_ENTRY.size]
    libraries_by_name: dict[str, list[tuple[int, str]]] = {}
    for _flags, key, value, _version, capabilities in _CACHE_ENTRY.iter_unpack(
        entries[: len(entries) // _CACHE_ENTRY.size * _CACHE_ENTRY.size]
    ):
        name, library = (_read_string(content, start + offset) for offset in (key, value))
        libraries_by_name.setdefault(name, []).append((capabilities, library))
    # those for special processors export the same, and which of them a processor takes is hard to tell
    return {name: [library for _bits, library in sorted(libraries)] for name, libraries in libraries_by_name.items()}


def _read_string(content: bytes, start: int) -> str:
    return os.fsdecode(content[start : max(content.find(b"\0", start, start + _MAX_PATH), start)])


def _reason(exc: Exception) -> str:
    return f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)

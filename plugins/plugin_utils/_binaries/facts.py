# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""What the binaries in a wheel really need. Its name and its label are only claims; ld.so goes by these."""

from __future__ import annotations

import json
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import STABLE_ABI
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import fatbin, library_needs
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.archive import (
    Archive,
    open_archive,
    wheel_error,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.bounded_reading import (
    Budget,
    UnreadableError,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors

#: of what read_facts() returns; facts of another version are read anew
FACTS_VERSION = 4
_KEYS = {
    *(
        "version",
        "filename",
        "files",
        "libraries",
        "cxx11_abi",
        "torch_abi",
        "cuda",
        "architectures",
        "requires_torch",
        "problems",
    )
}

_LIBRARY_NAME = re.compile(r"\.so(\.[^/]*)?$")
_MAX_LIBRARIES = 500  # in one wheel; torch's has 30
# The libraries of CUDA whose major version is CUDA's own (libcufft.so.11 is of CUDA 12), most telling first; auditwheel puts a
# hash into the names of those that it copies into a wheel.
_CUDA_LIBRARIES = tuple(
    re.compile(rf"lib{name}(-[0-9a-f]+)?\.so\.(?P<major>[0-9]+)(\.|$)")
    for name in ("cudart", "cublas", "cublasLt", "nvrtc", "nvJitLink")
)
# The C++ ABI of Itanium, 5.1. A name of torch's begins with a namespace of torch's.
_TORCH_SYMBOL = re.compile(r"_ZN[VKRO]*(3c10|2at|5torch|6caffe2)")
# What torch keeps for two years at least is a C interface, and what is compiled into the extension itself
# (docs/source/notes/libtorch_stable_abi.md of pytorch).
_STABLE_SYMBOL = re.compile(r"(aoti_)?torch_[a-z]|_ZNK?5torch(6stable|10headeronly)")
_UNSTABLE_SYMBOL = re.compile(r"_Z(T[VTISA]|GV)?N?[VKRO]*(3c10|2at|5torch|6caffe2)|THP[A-Z]")
UNSTABLE = "unstable"
_REQUIRES_TORCH = re.compile(r"torch(?![\w.-])", re.IGNORECASE)
_NEW_STRING = re.compile(r"St7__cxx11|B5cxx11")  # std::__cxx11::…, and the tag of what returns one
_OLD_STRING = "Ss"  # std::string's abbreviation, which stands for std::basic_string alone
# what is no part of an identifier, but has digits; and identifiers, which follow their lengths
_NUMBERED_PART = re.compile(r"S[0-9A-Z]{0,5}_|T[0-9]{0,5}_|A[0-9]{1,20}_|L[a-z]n?[0-9]{1,20}E|(?P<length>[0-9]+)")


def read_facts(path: str, folder: str | None = None) -> dict[str, t.Any]:
    """What the shared libraries in a wheel need, and for which GPUs they have code.

    ::

        {"version": 4, "filename": "flash_attn-….whl",
         "files": ["flash_attn/__init__.py"],    # by their paths in the folder of packages, without metadata
         "libraries": [                          # those that could be read, by path
           {"path": "flash_attn_2_cuda….so",     # in the wheel
            "machine": "x86_64",                 # as uname -m writes it
            "soname": None,
            "needed": ["libc10.so"],             # without those that the wheel brings
            "runpath": ["$ORIGIN/…"],            # DT_RUNPATH, or else DT_RPATH
            "versions": {"libc.so.6": ["GLIBC_2.32"]},  # of symbols, of the libraries that are needed
            "undefined": ["_ZN3c105ErrorC2…"]}], # strong symbols that no library of the wheel defines
         "cxx11_abi": True,                      # what the C++ ABI of torch must be; None if nothing tells
         "torch_abi": "unstable",                # of torch that they need; "stable", or None if they need nothing of torch
         "cuda": "12",                           # the major version of the CUDA runtime that is linked; None if none is
         "architectures": {"sass": ["80", "90a"], "ptx": ["90"]},  # of GPU code; None without, or if it cannot be read
         "requires_torch": ["torch==2.8.*"],     # lines Requires-Dist of its METADATA
         "problems": []}                         # what could not be read, in words

    All lists are sorted, but for ``needed`` and ``runpath``, whose order counts.

    :param path: of a file on the control node, that has a wheel's name
    :param folder: on the same node, for one unpacked library at a time; without it, that of the wheel
    :raises TorchExtensionError: if the file is no wheel, or an archive that was made to do harm; if the disk has no room for
        its largest library; if pyelftools is missing
    """
    library_needs.require_pyelftools()
    libraries: dict[str, library_needs.Library] = {}
    gpu_codes: list[fatbin.GpuCode | None] = []
    problems: list[str] = []
    budget = Budget()
    with open_archive(path, folder or _folder(path)) as archive:
        requires_torch = _read_requirement(archive, os.path.basename(path))
        files = _installed_paths(archive.file_names())
        names = sorted(name for name in archive.file_names() if _LIBRARY_NAME.search(name))
        if len(names) > _MAX_LIBRARIES:
            raise wheel_error(path, f"it has {len(names)} shared libraries", f"no more than {_MAX_LIBRARIES}")
        for name in names:
            if archive.read_start(name, len(library_needs.MAGIC)) != library_needs.MAGIC:
                if name.endswith(".so"):
                    problems.append(f"{name} has the name of a shared library, and is none.")
                continue
            with archive.unpack(name) as file:
                try:
                    libraries[name] = library_needs.read_library(file, budget, fatbin.SECTIONS)
                    gpu_codes += [
                        fatbin.read_gpu_code(file, offset, size, budget) for offset, size in libraries[name].sections
                    ]
                except UnreadableError as exc:
                    gpu_codes.append(None)
                    part = "The GPU code of " * (name in libraries)
                    problems.append(f"{part}{name} cannot be read: {exc}.")
    return {
        "version": FACTS_VERSION,
        "filename": os.path.basename(path),
        "files": files,
        "libraries": _describe_libraries(libraries, names),
        "cxx11_abi": _torch_cxx11_abi(libraries, problems),
        "torch_abi": _torch_abi(libraries),
        "cuda": _linked_cuda_major(libraries, problems),
        "architectures": _merge_architectures(gpu_codes, problems),
        "requires_torch": requires_torch,
        "problems": problems,
    }


def _installed_paths(names: t.Iterable[str]) -> list[str]:
    """Where the files of a wheel are put in the folder of packages (PEP 427), but for its metadata and what goes elsewhere."""
    paths = (re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name) for name in names)
    return sorted(path for path in paths if not path.split("/", 1)[0].endswith((".dist-info", ".data")))


def read_facts_cached(path: str, sha256: str, folder: str | None = None) -> dict[str, t.Any]:
    """As read_facts(), but from ``<wheel>.facts.json`` if that was written for the same file, and else into it.

    :param sha256: of the wheel, in hexadecimal, as it was checked before: it is not checked again
    :param folder: of that file, and of unpacked libraries; without it, that of the wheel
    :raises TorchExtensionError: as read_facts() does, and if the facts cannot be written
    """
    facts_path = os.path.join(folder or _folder(path), os.path.basename(path) + ".facts.json")
    kept = read_kept_facts(facts_path, os.path.basename(path), sha256.lower())
    if kept is not None:
        return kept
    facts = read_facts(path, folder)
    text = json.dumps({"sha256": sha256.lower(), "version": FACTS_VERSION, "facts": facts}, indent=1) + "\n"
    with explain_write_errors(facts_path):
        atomic.write_bytes(facts_path, text.encode())
    return facts


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def read_kept_facts(path: str, filename: str, sha256: str) -> dict[str, t.Any] | None:
    """What read_facts_cached() has written for a wheel; None if that is not there, or is of another file.

    :param path: of the file that it was written to
    :param filename: of the wheel
    """
    try:
        kept = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or (kept.get("version"), kept.get("sha256")) != (FACTS_VERSION, sha256):
        return None
    facts = kept.get("facts")
    if not isinstance(facts, dict) or set(facts) != _KEYS or facts["filename"] != filename:
        return None
    return facts


def _describe_libraries(
    libraries: t.Mapping[str, library_needs.Library], names: t.Iterable[str]
) -> list[dict[str, t.Any]]:
    filenames = {os.path.basename(name) for name in names}
    needed = {name for library in libraries.values() for name in library.needed}
    # Python code may have loaded a library before, and then its SONAME is enough. A copy that was renamed, as auditwheel does
    # it, is no such library: those that need it ask for its file, and who asks for its SONAME means that of the node.
    own = filenames | {library.soname for path, library in libraries.items() if os.path.basename(path) not in needed}
    defined = frozenset[str]().union(*(library.defined for library in libraries.values()))
    return [
        {
            "path": path,
            "machine": library.machine,
            "soname": library.soname,
            "needed": [name for name in library.needed if name not in own],
            "runpath": list(library.runpath),
            "versions": {
                name: sorted(versions) for name, versions in sorted(library.versions.items()) if name not in own
            },
            "undefined": sorted(library.undefined - defined),
        }
        for path, library in libraries.items()
    ]


def _merge_architectures(
    gpu_codes: t.Sequence[fatbin.GpuCode | None], problems: list[str]
) -> dict[str, list[str]] | None:
    readable = [code for code in gpu_codes if code is not None]
    sass = {architecture for code in readable for architecture in code.sass}
    ptx = {architecture for code in readable for architecture in code.ptx}
    other_kinds = {kind for code in readable for kind in code.other_kinds}
    if other_kinds:
        problems.append(f"There is GPU code of the kinds {sorted(other_kinds)}, which are neither PTX nor SASS.")
    if len(readable) < len(gpu_codes) or not sass | ptx:  # half of them would be taken for all
        return None
    return {
        "sass": sorted(sass, key=fatbin.architecture_sort_key),
        "ptx": sorted(ptx, key=fatbin.architecture_sort_key),
    }


def _linked_cuda_major(libraries: t.Mapping[str, library_needs.Library], problems: list[str]) -> str | None:
    needed = {name for library in libraries.values() for name in library.needed}
    for pattern in _CUDA_LIBRARIES:
        majors = {match["major"] for match in map(pattern.match, needed) if match}
        if len(majors) > 1:
            problems.append(f"The libraries need CUDA runtimes of several versions: {', '.join(sorted(majors))}.")
        if majors:
            return majors.pop() if len(majors) == 1 else None
    return None


def _read_requirement(archive: Archive, filename: str) -> list[str]:
    """The lines of METADATA that require torch. Whether a wheel has METADATA at all is checked by who installs it."""
    for name in archive.file_names():
        if wheel_file.METADATA_NAME.match(name):
            content = archive.read_all(name, wheel_file.METADATA_LIMIT)
            return [line for line in wheel_file.read_requirements(content, filename) if _REQUIRES_TORCH.match(line)]
    return []


def _torch_abi(libraries: t.Mapping[str, library_needs.Library]) -> str | None:
    symbols = {symbol for library in libraries.values() for symbol in library.undefined}
    if any(_UNSTABLE_SYMBOL.match(symbol) and not _STABLE_SYMBOL.match(symbol) for symbol in symbols):
        return UNSTABLE
    return STABLE_ABI if any(_STABLE_SYMBOL.match(symbol) for symbol in symbols) else None


def _torch_cxx11_abi(libraries: t.Mapping[str, library_needs.Library], problems: list[str]) -> bool | None:
    symbols = [symbol for library in libraries.values() for symbol in library.undefined if _TORCH_SYMBOL.match(symbol)]
    is_new = any(_NEW_STRING.search(symbol) for symbol in symbols)
    is_old = any(_OLD_STRING in symbol and _OLD_STRING in _without_identifiers(symbol) for symbol in symbols)
    if is_new and is_old:
        problems.append("The libraries need symbols of torch of both C++ ABIs, and no torch has both.")
    return None if is_new == is_old else is_new


def _without_identifiers(symbol: str) -> str:
    """A mangled name without the words of its author, in which any letters may be."""
    kept, position = [], 0
    while match := _NUMBERED_PART.search(symbol, position):
        kept.append(symbol[position : match.start()])
        # a length beyond the end is of a name that no compiler made; so nothing is left of it
        position = match.end() + (int(match["length"][:9]) if match["length"] else 0)
    return " ".join([*kept, symbol[position:]])

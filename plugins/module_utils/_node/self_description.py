# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The program that describes the interpreter that runs it. Modules are looked for, and not imported.

``interpreter`` hands its text to the interpreter of an environment, whose version may be another one than that of Ansible's Python.
"""

from __future__ import annotations

import os
import site
import sys
from importlib.machinery import PathFinder

# Importing typing, json or sysconfig takes longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as t

#: Goes before the answer: what runs when an interpreter starts may print, too.
MARK = "airgap.torch_extensions: "

#: Whose a folder of the search path is: everybody's who uses the environment, the system's below a venv, one user's, the process's
#: (PYTHONPATH), or what a .pth file or sitecustomize has added.
ENVIRONMENT, SYSTEM, USER, VARIABLE, ADDED = "environment", "system", "user", "variable", "added"


def describe(names: list[str]) -> dict[str, object]:
    """What ``Interpreter`` holds.

    :param names: of modules to look for, without a dot
    """
    base = getattr(sys, "real_prefix", sys.base_prefix)  # virtualenv before 20
    target = next(iter(_packages(sys.prefix)), None)
    return {
        "version": sys.version.split()[0],
        "implementation": sys.implementation.name,
        "nodot": f"{sys.version_info[0]}{sys.version_info[1]}",
        "free_threaded": "t" in getattr(sys, "abiflags", ""),
        "debug": "d" in getattr(sys, "abiflags", ""),
        "pymalloc": "m" in getattr(sys, "abiflags", ""),
        "prefix": sys.prefix,
        "base_prefix": base,
        "venv": sys.prefix != base,
        "stdlib": os.path.dirname(os.__file__),
        "path": list(_search_path(base)),
        "target": target,
        "modules": {name: _locate(name, target) for name in names},
        "libc": _libc(),
        "machine": os.uname().machine,
        "program": _program(),
    }


def _packages(prefix: str) -> list[str]:
    return [folder for folder in site.getsitepackages([prefix]) if os.path.isdir(folder)]


def _search_path(base: str) -> t.Iterator[tuple[str, str]]:
    """The folders and zip files of sys.path, and whose each is; without the standard library, and each once."""
    owners: dict[str, str] = {}
    if not sys.flags.ignore_environment:
        owners.update((os.path.realpath(folder), VARIABLE) for folder in os.environ.get("PYTHONPATH", "").split(":"))
    if site.ENABLE_USER_SITE:
        owners[os.path.realpath(site.getusersitepackages())] = USER
    owners.update((os.path.realpath(folder), SYSTEM) for folder in _packages(base))
    owners.update((os.path.realpath(folder), ENVIRONMENT) for folder in _packages(sys.prefix))
    stdlib = os.path.dirname(os.__file__)
    seen = {os.path.realpath(folder) for folder in (stdlib, os.path.join(stdlib, "lib-dynload"))}
    for folder in sys.path:
        real = os.path.realpath(folder)
        if (
            real in seen
            or not os.path.exists(folder)
            or os.path.basename(folder) == f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
        ):
            continue
        seen.add(real)
        yield os.path.abspath(folder), owners.get(real, ADDED)


def _locate(name: str, target: str | None) -> tuple[str, bool] | None:
    """The file of a module, and whether it would still be that one if ``target`` had the module, too."""
    folders = [os.path.realpath(folder) for folder in sys.path]
    place = folders.index(os.path.realpath(target)) if target and os.path.realpath(target) in folders else len(folders)
    namespaces: list[str] = []
    is_before = True
    for finder in sys.meta_path:
        if finder is not PathFinder:  # of an editable installation, for example
            spec = _ask(finder, name, None)
            if _is_whole(spec):
                return spec.origin, is_before
            continue
        for part, is_before in ((sys.path[:place], True), (sys.path[place:], False)):
            spec = _ask(finder, name, part)
            if _is_whole(spec):
                return spec.origin, is_before
            if spec is not None:
                namespaces += spec.submodule_search_locations or []
    return (namespaces[0], False) if namespaces else None


def _ask(finder: t.Any, name: str, folders: list[str] | None) -> t.Any:
    try:
        return finder.find_spec(name, folders)
    except Exception:  # whatever others have put there
        return None


def _is_whole(spec: t.Any) -> bool:
    """Whether it is a module with a file of its own: any such goes before all folders that have none."""
    return spec is not None and spec.origin not in (None, "namespace")


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None


def _program() -> str:
    """The file that runs; the executable may be a link to it, or a script that starts it."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = sys.executable
    if os.path.basename(program).startswith(
        "ld"
    ):  # the loader, started by hand: ld-linux-x86-64.so.2 --library-path … python3
        program = sys.executable
    return os.path.realpath(program)


if __name__ == "__main__":
    if sys.path and not sys.path[0]:
        del sys.path[0]  # the working directory, in which anything may lie
    sys.stdout.write("\n" + MARK + ascii(describe(sys.argv[1:])) + "\n")

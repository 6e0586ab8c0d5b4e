# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Copies of extensions that Python finds before the folder that installers write to: what is installed there is not imported."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    find_all_records,
    find_installed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import (
    Interpreter,
    PathEntry,
    ask_interpreter,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.self_description import USER, VARIABLE
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES


def watched_modules() -> list[str]:
    """The top-level modules of all known packages."""
    return sorted({_top_level(name) for package in PACKAGES.values() for name in package.imports})


def find_records(interpreter: Interpreter, found: t.Mapping[str, list[Distribution]]) -> dict[str, list[Distribution]]:
    """The records of distributions; of a known package those beside the module that Python imports, if there are any.

    A record alone, whose files are gone, may come first on the search path.

    :param found: as :func:`find_all_records` gives it for all of the search path
    """
    beside = {}
    for name, package in PACKAGES.items():
        location = interpreter.modules.get(_top_level(package.imports[0]))
        entry = _entry_of(interpreter, location.file) if location and name in found else None
        if entry is not None and entry.folder != found[name][0].folder:
            records = find_all_records([entry.folder]).get(name)
            if records:
                beside[name] = records
    return {**found, **beside}


def find_shadows(interpreter: Interpreter) -> dict[str, dict[str, str | None]]:
    """The copies of known packages that come first, by the name of the distribution.

    :param interpreter: one that was asked for :func:`watched_modules`
    :returns: for each ``module``, its ``file``, the ``version`` that is recorded beside it, if any, and in words whose ``place`` it is
    """
    found: dict[str, dict[str, str | None]] = {}
    for name, package in PACKAGES.items():
        for module in dict.fromkeys(map(_top_level, package.imports)):
            location = interpreter.modules.get(module)
            if location is None or not location.is_before:
                continue
            entry = _entry_of(interpreter, location.file)
            record = find_installed([entry.folder]).get(name) if entry else None
            found[name] = {
                "module": module,
                "file": location.file,
                "version": record and record.version,
                "place": explain_place(interpreter, location.file),
            }
            break
    return found


def find_foreign_modules(environment: t.Mapping[str, t.Any], imports: t.Iterable[str], run: Run) -> dict[str, str]:
    """Which of some modules Python takes from elsewhere than the folder that installers write to, and from which file."""
    python = environment["python"]
    names = list(dict.fromkeys(map(_top_level, imports)))
    modules = ask_interpreter(python["executable"], run, names).modules
    folder = os.path.realpath(python["site_packages"]) + os.sep
    return {
        name: location.file
        for name, location in modules.items()
        if not os.path.realpath(location.file).startswith(folder) and location.is_before
    }


def explain_place(interpreter: Interpreter, file: str) -> str:
    """Why Python looks where a file is, in a few words."""
    entry = _entry_of(interpreter, file)
    if entry is None:
        return "an editable installation, or another hook of Python's imports"
    if entry.owner == USER:
        return "one user's own packages"
    return "on PYTHONPATH" if entry.owner == VARIABLE else f"{entry.folder} comes first on its search path"


def _entry_of(interpreter: Interpreter, file: str) -> PathEntry | None:
    """The folder of the search path that a file is found in."""
    entries = [entry for entry in interpreter.path if file.startswith(entry.folder.rstrip(os.sep) + os.sep)]
    return max(entries, key=lambda entry: len(entry.folder), default=None)


def _top_level(module: str) -> str:
    return module.partition(".")[0]

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Our own modules as files, for a process that outlives the archive in which Ansible brings them."""

from __future__ import annotations

import ast
import importlib.util
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import unpacking

_ROOT = "ansible_collections.airgap.torch_extensions.plugins.module_utils"


def write_sources(module: str, folder: str) -> None:
    """Write a module and all of ours that it imports below a folder that can be put on the search path.

    :param folder: is made anew
    """
    unpacking.remove(folder)
    os.makedirs(folder)
    for name, text in sorted(collect_sources(module).items()):
        path = os.path.join(folder, *name.split("."))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # a real package: elsewhere on the search path there may be one named ansible_collections, which would go before a namespace
        parts = name.split(".")
        for count in range(1, len(parts)):
            with open(os.path.join(folder, *parts[:count], "__init__.py"), "a", encoding="utf-8"):
                pass
        with open(f"{path}.py", "w", encoding="utf-8") as file:
            file.write(text)


def collect_sources(module: str) -> dict[str, str]:
    """The texts of a module and of all of ours that it imports, by their names."""
    texts: dict[str, str] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in texts:
            continue
        text = read_source(name)
        if text is not None:
            texts[name] = text
            pending += _find_imports(text)
    return texts


def read_source(module: str) -> str | None:
    """The text of a module, also where it comes in an archive; None if it is a folder, or something in a module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    loader: t.Any = spec and spec.loader
    if loader is None or not hasattr(loader, "get_source") or (spec and spec.submodule_search_locations is not None):
        return None
    return t.cast("str | None", loader.get_source(module))


def _find_imports(text: str) -> t.Iterator[str]:
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(_ROOT):
            yield str(statement.module)
            for alias in statement.names:
                yield f"{statement.module}.{alias.name}"

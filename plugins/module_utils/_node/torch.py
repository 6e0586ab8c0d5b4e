# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Facts about torch, read from its files: importing it takes seconds and runs code of the environment."""

from __future__ import annotations

import ast
import mmap
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import Distribution

# The constructor c10::Error(SourceLocation, std::string) with each std::string. Other symbols prove nothing: torch
# 2.5.1+cu124 is built with the old ABI and has 213 names with "__cxx11" in it (from headers instantiated inline).
_NEW_ABI = b"_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_string"
_OLD_ABI = b"_ZN3c105ErrorC2ENS_14SourceLocationESs"

_REPAIR = "Install torch anew, or remove what is left of it."


def read_torch(
    module: str | None, distribution: Distribution | None, folders: t.Iterable[str]
) -> tuple[dict[str, t.Any] | None, list[str]]:
    """The torch that an environment would import, and warnings about what could not be determined.

    :param module: the file that ``import torch`` would load, or the folder where there is no such file; None where there is neither
    :param distribution: torch's own metadata, if there is any
    :param folders: where libraries are, besides torch's own: Debian's and conda-forge's torch keep theirs outside of the package
    :returns: a dict with ``version``, ``cuda``, ``hip``, ``cxx11_abi`` and ``path``, or None where there is no torch
    :raises TorchExtensionError: where torch is installed in part only
    """
    if module is None:
        if distribution is None:
            return None, []
        raise TorchExtensionError(
            f"torch is broken: {distribution.path} says {distribution.version}, and Python finds no module torch. {_REPAIR}"
        )
    path = module if os.path.isdir(module) else os.path.dirname(module)
    version_file = os.path.join(path, "version.py")
    try:
        with open(version_file, "rb") as file:
            facts = parse_constants(file.read())
        version = facts["__version__"]
    except FileNotFoundError:
        raise TorchExtensionError(
            f"torch is broken or half removed: there is {path}, but no version.py in it. {_REPAIR}"
        ) from None
    except (OSError, SyntaxError, ValueError, KeyError) as exc:
        raise TorchExtensionError(
            f"torch is broken: {version_file} does not tell its version ({type(exc).__name__}: {exc}). {_REPAIR}"
        ) from exc
    cxx11_abi = _read_cxx11_abi([os.path.join(path, "lib"), *folders], path)
    warnings = []
    if cxx11_abi is None:
        warnings.append(
            f"The C++ ABI of torch {version} in {path} cannot be told: its libc10.so has neither form of c10::Error's"
            " constructor."
        )
    return {
        "version": version,
        "cuda": facts.get("cuda"),
        "hip": facts.get("hip"),
        "cxx11_abi": cxx11_abi,
        "path": path,
    }, warnings


def parse_constants(source: bytes) -> dict[str, str | None]:
    """The texts and Nones that a Python file assigns, with or without annotation, without running it.

    :raises SyntaxError: if it is none; ValueError likewise
    """
    try:
        tree = ast.parse(source)
    except (RecursionError, MemoryError) as exc:  # of what is nested more deeply than any version.py
        raise ValueError(str(exc) or "it is nested too deeply") from exc
    constants = {}
    for statement in tree.body:
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            continue
        try:
            value = ast.literal_eval(statement.value)  # the nodes of constants have other names in Python 3.7
        except (ValueError, TypeError, RecursionError, MemoryError):
            continue
        if not isinstance(value, (str, type(None))):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if isinstance(target, ast.Name):
                constants[target.id] = value
    return constants


def _read_cxx11_abi(folders: t.Iterable[str], torch: str) -> bool | None:
    for folder in folders:
        library = os.path.join(folder, "libc10.so")
        try:
            with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(_NEW_ABI) != -1:
                    return True
                return False if content.find(_OLD_ABI) != -1 else None
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            raise TorchExtensionError(f"torch is broken: {library} cannot be read ({exc}). {_REPAIR}") from exc
    raise TorchExtensionError(
        f"torch is broken or half removed: {torch} has no libc10.so, looked for in {', '.join(folders)}. {_REPAIR}"
    )

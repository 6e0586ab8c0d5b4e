# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The environment of a node: the value that the node returns and on which the control node bases its decisions."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import (
    distributions,
    leftovers,
    shadows,
    system,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import (
    Interpreter,
    query_interpreter,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import describe_access
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.torch import read_torch
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.uv import (
    explain_missing_uv,
    read_uv_version,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import settings
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES, VARIABLES

ALL_DISTRIBUTIONS = "*"


def describe_environments(
    pythons: t.Sequence[str],
    distribution_names: t.Sequence[str],
    run: Run,
    environ: t.Mapping[str, str],
    sdists: t.Sequence[str] = (),
    trusted_owners: t.Collection[str] = (),
) -> tuple[list[dict[str, t.Any]], list[str]]:
    """The environments of a node, one for each interpreter, and warnings about what could not be determined.

    :param pythons: interpreters, commands or folders of environments
    :param distribution_names: distributions whose versions to read; "*" stands for all that are installed
    :param run: runs a command line
    :param environ: environment variables
    :param sdists: pinned requirements whose folder in pip's cache to find
    :param trusted_owners: who besides root may change what root runs (``trust.trust``)
    :raises TorchExtensionError: for a bad requirement; for every interpreter that is missing and every torch that is broken, in one message
    """
    if sdists:
        _check_pinned(sdists)
    gpus, driver, warnings = _read_gpus_and_driver(run)
    environments, errors = [], []
    for python in pythons:
        try:
            environment, its_warnings = describe_environment(
                python, distribution_names, run, environ, sdists, trusted_owners=trusted_owners
            )
        except TorchExtensionError as exc:
            errors.append(str(exc))
            continue
        environments.append({**environment, "gpus": gpus, "driver": driver})
        warnings += its_warnings
    if errors:
        raise TorchExtensionError("\n".join(errors))
    return environments, warnings


def describe_environment(
    python: str,
    distribution_names: t.Sequence[str],
    run: Run,
    environ: t.Mapping[str, str],
    sdists: t.Sequence[str] = (),
    needs_torch: bool = True,
    trusted_owners: t.Collection[str] = (),
) -> tuple[dict[str, t.Any], list[str]]:
    """One environment as :func:`describe_environments` gives it, without the GPUs and their driver.

    :param needs_torch: whether a torch that is broken is an error; if not, there is none then, and a warning
    """
    interpreter = query_interpreter(python, run, ["torch", *shadows.watched_modules()], environ, trusted_owners)
    folders = [entry.folder for entry in interpreter.path]
    try:
        found = distributions.find_all_records(folders)
    except OSError as exc:
        raise TorchExtensionError(
            f"The packages of {interpreter.executable} cannot be read: {exc}. Run as a user who may (become,"
            " become_user)."
        ) from exc
    found = shadows.find_records(interpreter, found)
    installed = {name: records[0] for name, records in found.items()}
    torch_module = interpreter.modules.get("torch")
    try:
        torch, warnings = read_torch(
            torch_module and torch_module.file, installed.get("torch"), system.library_folders(interpreter)
        )
    except TorchExtensionError as exc:
        if needs_torch:
            raise
        torch, warnings = None, [str(exc)]
    names = {canonical(name) for name in distribution_names if name != ALL_DISTRIBUTIONS}
    extensions = [installed[name] for name in sorted(names.intersection(PACKAGES, installed))]
    if ALL_DISTRIBUTIONS in distribution_names:
        names.update(installed)
    selected = [installed[name] for name in sorted(names) if name in installed]
    origins = {distribution.name: distributions.read_origin(distribution) for distribution in selected}
    pip = installed["pip"].version if "pip" in installed else None
    uv = read_uv_version(interpreter.prefix, run)
    pip_cache = settings.describe_cache(
        interpreter.prefix, environ, lambda path: os.access(path, os.W_OK), os.geteuid()
    )
    platform = system.read_platform(interpreter)
    environment = {
        "python": {
            "executable": interpreter.executable,
            "version": interpreter.version,
            "tag": interpreter.tag,
            "abi": interpreter.abi,
            "implementation": interpreter.implementation,
            "externally_managed": interpreter.externally_managed,
            "prefix": interpreter.prefix,
            "program": interpreter.program,
            "site_packages": interpreter.site_packages,
            "search_path": [entry._asdict() for entry in interpreter.path],
            "access": _describe_access(interpreter.site_packages, interpreter.prefix),
        },
        "platform": platform,
        "torch": torch,
        "installers": {
            "pip": pip,
            "uv": uv,
            "reason": None if pip or uv else explain_missing_uv(interpreter.prefix),
        },
        "pip_cache": pip_cache,
        "sdists": _find_sdists(sdists, interpreter.executable, pip, pip_cache, run) if sdists else {},
        "variables": {name: environ[name] for name in VARIABLES if name in environ},
        "distributions": {name: installed[name].version if name in installed else None for name in sorted(names)},
        "origins": {name: origin for name, origin in origins.items() if origin is not None},
        "damage": _find_damage(extensions, interpreter.site_packages),
        "shadows": shadows.find_shadows(interpreter),
        "leftovers": leftovers.find_leftovers(interpreter.site_packages),
    }
    warnings += _warn_of_others_torch(interpreter, torch, folders)
    warnings += _warn_of_records("torch", found)
    if platform["libstdcxx"] is None:
        warnings.append(f"No libstdc++.so.6 was found for {interpreter.executable}: its version is not known.")
    return environment, warnings


def _describe_access(site_packages: str | None, prefix: str) -> dict[str, t.Any] | None:
    # to root all is open, and to find what there is takes time
    entries = leftovers.list_entries(site_packages) if site_packages and os.geteuid() else ()
    return describe_access(site_packages, prefix, entries)


def _warn_of_others_torch(
    interpreter: Interpreter, torch: t.Mapping[str, t.Any] | None, folders: t.Sequence[str]
) -> list[str]:
    """That the torch of one user or of this process stands before that of the environment, which others import."""
    module = interpreter.modules.get("torch")
    if torch is None or module is None or not module.is_before:
        return []
    others = [path for path in (os.path.join(folder, "torch") for folder in folders) if os.path.isdir(path)]
    others = [path for path in others if not os.path.samefile(path, torch["path"])]
    if not others:
        return []
    return [
        f"Python finds torch {torch['version']} in {torch['path']} ({shadows.explain_place(interpreter, module.file)}) before the one"
        f" in {others[0]}. The former is what this user's programs import, and what wheels are chosen for."
    ]


def _warn_of_records(name: str, found: t.Mapping[str, t.Sequence[distributions.Distribution]]) -> list[str]:
    records = found.get(name, [])
    if len(records) < 2:
        return []
    current, *stale = records
    names = ", ".join(os.path.basename(record.path) for record in stale)
    return [
        f"{current.folder} has several records of {name}. Its files are those of {current.version}; an upgrade that broke off has"
        f" left {names}, which pip may take for the installed one. Remove it."
    ]


def add_gpus(environment: t.Mapping[str, t.Any], run: Run, warn: t.Callable[[str], object]) -> t.Mapping[str, t.Any]:
    """An environment with the GPUs and their driver, as :func:`describe_environments` gives them; to find them may take a second.

    An environment that has them already is returned as it is.
    """
    if "gpus" in environment:
        return environment
    gpus, driver, warnings = _read_gpus_and_driver(run)
    for warning in warnings:
        warn(warning)
    return {**environment, "gpus": gpus, "driver": driver}


def _read_gpus_and_driver(run: Run) -> tuple[t.Any, t.Any, list[str]]:
    return system.read_gpus_and_driver(run, lambda name, search: shutil.which(name, path=search))


# A node compiles what it imports each time, and some need none of this.


def _find_damage(
    extensions: t.Sequence[distributions.Distribution], site_packages: str | None
) -> dict[str, dict[str, list[str]]]:
    """The files of extensions that are not as installed, in the environment's own folder of packages, which installers write to."""
    if not extensions or site_packages is None:
        return {}
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage

    found = {}
    for extension in extensions:
        with contextlib.suppress(OSError):  # as with its origin, it is then not known
            damage = find_damage(extension) if os.path.samefile(extension.folder, site_packages) else None
            if damage:
                found[extension.name] = {"missing": damage.missing, "changed": damage.changed}
    return found


def _check_pinned(requirements: t.Sequence[str]) -> None:
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.sdists import check_pinned

    check_pinned(requirements)


def _find_sdists(
    requirements: t.Sequence[str], executable: str, pip: str | None, cache: t.Mapping[str, t.Any], run: Run
) -> dict[str, dict[str, t.Any]]:
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.sdists import find_sdists

    return find_sdists(requirements, executable, pip, cache, run)

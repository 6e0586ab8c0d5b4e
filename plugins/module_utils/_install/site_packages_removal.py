# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Remove packages from an environment, and those of their requirements that have come with them and that nothing else needs."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import installer, needs, replacement
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.removal import (
    Removal,
    explain_need,
    not_there,
    removed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    find_installed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.leftovers import find_leftovers
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    check_ownership,
    check_same_owner,
    check_unlocked,
    explain_missing_installer,
)

Environment = t.Mapping[str, t.Any]


class _Plan(t.NamedTuple):
    removal: Removal
    recorded: replacement.RemovalPlan  # of the distributions whose installer has written down their files
    others: list[str]  # names of those that only an installer can remove


def plan_removal(names: t.Sequence[str], environment: Environment) -> Removal:
    """What a removal would do.

    :param names: normalised names of packages
    :raises TorchExtensionError: if the environment is not the user's to change, and there is something to remove
    :raises OSError: if a folder of packages cannot be read
    """
    return _plan(names, environment).removal


def remove(names: t.Sequence[str], environment: Environment, run: Run) -> Removal:
    """Remove packages, after what killed runs have left; parameters and errors as of :func:`plan_removal`.

    :raises TorchExtensionError: also if something cannot be removed
    """
    folder = environment["python"]["site_packages"]
    foreseen = _plan(names, environment).removal
    if not foreseen.changes:
        return foreseen
    with locked_folder(folder):
        leftovers = replacement.remove_leftovers(folder, prefix=environment["python"]["prefix"])
        plan = _plan(names, environment)
        if plan.recorded.exchange.goes:
            with replacement.scratch_folder(folder) as new:
                replacement.carry_out(plan.recorded.exchange, new, folder)
        if plan.others:
            installer.uninstall(plan.others, environment, run)
            still_there = [name for name in plan.others if name in find_installed([folder])]
            if still_there:
                raise TorchExtensionError(
                    f"{' and '.join(still_there)} was uninstalled without an error, but is still in {folder}. Remove it there by hand."
                )
    return plan.removal._replace(leftovers=leftovers)


def _plan(names: t.Sequence[str], environment: Environment) -> _Plan:
    python = environment["python"]
    folder = python["site_packages"]
    installed = find_installed([folder]) if folder else {}
    leaving = [installed[name] for name in names if name in installed]
    leftovers = find_leftovers(folder)
    if leaving or leftovers:
        check_ownership(environment, [folder])
    search_path = [entry["folder"] for entry in python["search_path"]]
    requirements = needs.split_requirements(leaving, folder, search_path)
    goes = [*leaving, *requirements.unneeded]
    recorded = [distribution for distribution in goes if distribution.is_complete]
    others = [distribution.name for distribution in goes if not distribution.is_complete]
    if others:
        _check_installer(environment)
    plan = replacement.plan_removal(recorded, folder, python["prefix"])
    going = [*plan.exchange.goes, *leftovers]
    check_unlocked([os.path.normpath(os.path.join(folder, path)) for path in going], python["prefix"])
    stays = [explain_need(name, users) for name, users in requirements.needed.items()]
    stays += [f"{os.path.normpath(os.path.join(folder, path))} ({why})" for path, why in sorted(plan.stays.items())]
    stays += [line for name in names for line in _describe_copies(name, environment)]
    packages = [
        removed(name, installed[name].version, f"{needs.describe(installed[name])} is installed")
        if name in installed
        else not_there(name, f"installed in {folder}")
        for name in names
    ]
    removal = Removal(packages, list(map(needs.describe, requirements.unneeded)), stays, leftovers)
    return _Plan(removal, plan, others)


def _check_installer(environment: Environment) -> None:
    """Refuse to remove what only an installer can remove, where there is none, or where it would leave files of root."""
    check_same_owner(environment["python"]["site_packages"])
    missing = explain_missing_installer(environment)
    if missing:
        raise TorchExtensionError(missing)


def _describe_copies(name: str, environment: Environment) -> t.Iterator[str]:
    """The copies of a package that are elsewhere than in the environment's folder of packages, which is all that is changed."""
    folder = environment["python"]["site_packages"]
    why = f"outside of {folder}, where alone packages are removed"
    shadow = environment["shadows"].get(name)
    if shadow is not None:
        yield f"{shadow['file']} ({shadow['place']}; {why})"
    for entry in environment["python"]["search_path"]:
        place = entry["folder"]
        is_told = shadow is not None and shadow["file"].startswith(place.rstrip(os.sep) + os.sep)
        if is_told or os.path.realpath(place) == os.path.realpath(folder or os.sep):
            continue
        copy: Distribution | None = find_installed([place]).get(name)
        if copy is not None:
            yield f"{needs.describe(copy)} in {place} ({why})"

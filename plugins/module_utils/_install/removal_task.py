# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""One run of module ``torch_extension`` that removes packages, or foresees it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.removal import Removal
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.task import Environment, Task
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    describe_environment,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import REMOVE
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import FIND_LINKS, PIP_CACHE


class RemovalTask(Task):
    """What the module is asked to remove, on one node."""

    def __init__(
        self, params: t.Mapping[str, t.Any], check_mode: bool, run: Run, warn: t.Callable[[str], object]
    ) -> None:
        super().__init__({**params, "wheels": [], "requirements": []}, check_mode, run, warn)
        self._names = list(dict.fromkeys(map(canonical, params["packages"])))

    def perform(self) -> dict[str, t.Any]:
        """Do it, or foresee it in check mode; results and errors as of the base class."""
        unknown = [name for name in self._names if name not in PACKAGES]
        if unknown:
            raise TorchExtensionError(
                f"{' and '.join(unknown)} is none of the packages that this collection installs ({', '.join(sorted(PACKAGES))}), and"
                " removes nothing else. Nothing was changed."
            )
        cleared = self._abandoned_files()
        # a package can be in the way of a torch that is broken
        environment, warnings = describe_environment(
            self._params["python"],
            [ALL_DISTRIBUTIONS],
            self._run,
            os.environ,
            needs_torch=False,
            trusted_owners=self._params["trusted_owners"],
        )
        for warning in warnings:
            self._warn(warning)
        try:
            removal = self._remove(environment)
        except OSError as exc:
            raise TorchExtensionError(
                f"{exc.filename}: {exc.strerror}. What has not gone goes in the next run, once that is mended."
            ) from exc
        diff = {"before": "".join(f"{line}\n" for line in [*_list_going(removal), *cleared]), "after": ""}
        return {
            "changed": bool(removal.changes or cleared),
            "packages": [package._asdict() for package in removal.packages],
            "requirements": removal.requirements,
            "stays": removal.stays,
            "leftovers": list(removal.leftovers),
            "cleared": cleared,
            "diff": [diff, removal.settings] if removal.settings else diff,
            **({"environment": environment} if self._check_mode else {}),
        }

    def _remove(self, environment: Environment) -> Removal:
        remover = self._remover()
        if self._check_mode:
            return t.cast(Removal, remover.plan_removal(self._names, environment))
        return t.cast(Removal, remover.remove(self._names, environment, self._run))

    def _remover(self) -> t.Any:
        # a node compiles what it imports each time, and one of the three will do
        if self._mode == PIP_CACHE:
            from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import pip_cache_removal

            return pip_cache_removal
        if self._mode == FIND_LINKS:
            from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import find_links_removal

            return find_links_removal
        from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import site_packages_removal

        return site_packages_removal

    def _abandoned_files(self) -> list[str]:
        """What earlier runs have left in the folder of what they have brought: parts, and wheels of these packages that were not to stay."""
        folder, keep_files = self._params["folder"], self._params["keep_files"]
        names = staging.list_abandoned(folder) if folder else []
        return [name for name in names if staging.is_part(name) or (not keep_files and self._is_of_packages(name))]

    def _is_of_packages(self, filename: str) -> bool:
        wheel = wheel_file.parse_name_or_none(filename)
        return wheel is not None and wheel.name in self._names


def _list_going(removal: Removal) -> list[str]:
    going = [
        f"{package.name} {package.version or ''}".strip() for package in removal.packages if package.action == REMOVE
    ]
    return [*going, *removal.requirements, *(f"left by a killed run: {name}" for name in removal.leftovers)]

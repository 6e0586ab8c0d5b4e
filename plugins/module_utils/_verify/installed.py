# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether the extensions that are installed in an environment are whole and work. Nothing is changed."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import distributions
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import remedies, trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify.remedies import Fault
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    KEEP,
    describe_files,
    explain_shadow,
)


def check_packages(
    environment: t.Mapping[str, t.Any], run: Run, verify: str, devices: t.Sequence[str] = ()
) -> list[dict[str, t.Any]]:
    """Check the known packages that are installed.

    :param environment: as torch_info returns it, with all its distributions
    :param verify: the method: gpu, import or none
    :param devices: torch's names of the devices to check on; all GPUs if there are none
    :returns: ``name``, ``version``, ``filename`` of the wheel, ``ok``, ``reasons``, ``remedy``, ``verify`` and ``gpus``
    :raises OSError: if files cannot be read
    """
    packages = []
    for name in sorted(PACKAGES):
        version = environment["distributions"].get(name)
        if version is None and not _has_folder(environment, PACKAGES[name].distribution):
            continue
        faults = list(_find_damage(name, environment))
        method = verify if trial.has_check(name) or verify != trial.GPU else trial.IMPORT
        gpus: list[dict[str, t.Any]] = []
        executable = environment["python"]["executable"]
        failure = None
        if method != trial.NONE:
            expected = _folder_of(name, environment)
            failure, foreign = trial.try_import(environment, PACKAGES[name].imports, run, expected=expected)
            if foreign:
                reason = f"Python takes it from {foreign}, and it is installed in {expected}"
                faults.append(Fault(reason, remedies.REMOVE_COPY))
        if failure:
            faults.append(Fault(f"it cannot be imported: {failure}", remedies.REINSTALL_UNLOADABLE))
        elif method == trial.GPU:
            gpus = trial.check_on_gpus(executable, name, run, devices=devices)
            faults += [_explain_gpu(result) for result in gpus if result["failure"]]
        packages.append(
            {
                "name": name,
                "version": version,
                "filename": environment["origins"].get(name, {}).get("filename"),
                **remedies.describe_faults(faults),
                "verify": method,
                "gpus": gpus,
            }
        )
    return packages


def _folder_of(name: str, environment: t.Mapping[str, t.Any]) -> str | None:
    """The folder of the environment that holds what is installed; None where it is elsewhere, or a shadow is told of anyhow."""
    if name in environment.get("shadows", {}):
        return None
    folder = environment["python"]["site_packages"]
    found = distributions.find_installed([folder]).get(name) if folder else None
    return folder if found and found.version == environment["distributions"].get(name) else None


def _has_folder(environment: t.Mapping[str, t.Any], package: str) -> bool:
    folder = environment["python"]["site_packages"]
    return folder is not None and os.path.isdir(os.path.join(folder, package))


def _find_damage(name: str, environment: t.Mapping[str, t.Any]) -> t.Iterator[Fault]:
    folder = environment["python"]["site_packages"]
    if environment["distributions"].get(name) is None:
        yield Fault(
            f"there is a folder {PACKAGES[name].distribution} in {folder}, but no metadata: an installation broke off",
            remedies.REPLACE_DAMAGED,
        )
        return
    shadow = explain_shadow(name, KEEP, environment)
    if shadow:
        yield Fault(shadow, None)
    found = distributions.find_all_records([folder]).get(name, []) if folder else []
    for record in found[1:]:
        yield Fault(f"an upgrade that broke off has left {record.path} beside it", remedies.CLEAR)
    if not found:
        return  # it is in another folder of sys.path, which is not the environment's own
    damage = find_damage(found[0], reads_all=True)
    for line in describe_files(damage.missing, damage.changed):
        yield Fault(line, remedies.REPLACE_DAMAGED)
    for line in describe_files([], damage.hidden):
        yield Fault(f"{line}, though size and time are", remedies.REINSTALL_HIDDEN)


def _explain_gpu(result: t.Mapping[str, t.Any]) -> Fault:
    has_meaning = trial.find_meaning(result["failure"]) is not None
    return Fault(f"it {trial.explain_failure(result)}", None if has_meaning else remedies.CHOOSE_ANOTHER)

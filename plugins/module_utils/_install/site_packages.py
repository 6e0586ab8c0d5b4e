# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Install delivered wheels into an environment, offline, after a trial in a scratch folder."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import delivered, installer, replacement
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import distributions, records
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.leftovers import (
    find_leftovers,
    list_entries,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.limits import explain_limit
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    check_ownership,
    check_same_owner,
    check_unlocked,
    explain_missing_installer,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.shadows import find_foreign_modules
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    EXAMINE,
    KEEP,
    REPLACE,
    Action,
    decide_from_environment,
)


def decide_action(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], run: Run) -> Action:
    """What to do with a wheel, examining its files where the environment alone does not tell.

    A distribution of the same version that came from elsewhere (built on the node, installed by hand) counts as installed if it
    can be imported.
    """
    action = decide_from_environment(wheel, environment)
    if action.action != EXAMINE:
        return action
    failure = trial.try_import(environment, wheel["imports"], run).failure
    if failure is None:
        return Action(
            KEEP,
            f"{wheel['name']} {wheel['version']} is installed and can be imported; from which wheel is not recorded",
        )
    return Action(REPLACE, f"{wheel['name']} {wheel['version']} is installed, but cannot be imported ({failure})")


def install(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
    verify: str,
    devices: t.Sequence[str] = (),
    unpacked: t.Callable[[], object] = lambda: None,
    superseded: t.Callable[[], object] = lambda: None,
    copy_first: bool = False,
) -> dict[str, list[dict[str, t.Any]]]:
    """Install wheels, and the wheels that they require, into an environment.

    :param wheels: each with ``name``, ``filename``, ``sha256`` and ``imports``
    :param requirements: likewise, without ``imports``
    :param folder: where they lie (``wheel_file.delivered_path``)
    :param verify: how to try the wheels out in a scratch folder before anything is changed: gpu, import or none
    :param devices: torch's names of the devices to try them out on; all GPUs if there are none
    :param unpacked: called when the files in the folder are no longer needed
    :param superseded: called where another installation has ended just now: it may have done the same, or something else
    :param copy_first: whether others can exchange the files, so that copies of them are hashed and unpacked
    :returns: by the name of the wheel, the result on each GPU, as ``trial.check_on_gpus`` returns it
    :raises TorchExtensionError: if something is wrong; the environment is then as it was
    """
    python = environment["python"]
    check_environment_can_change(environment)
    files = [*wheels, *requirements]
    for file in files:
        wheel_file.check_tags(file["filename"], environment)
    with locked_folder(python["site_packages"]) as had_to_wait:
        if had_to_wait:
            superseded()
        replacement.remove_leftovers(python["site_packages"], _leftover_names(wheels), python["prefix"])
        with replacement.scratch_folder(python["site_packages"]) as new:
            if copy_first:
                folder = delivered.copy_files(files, folder, os.path.join(os.path.dirname(new), "files"))
            _unpack(files, folder, new, environment, run)
            _record_how_they_came(wheels, requirements, folder, new)
            exchange = replacement.plan_exchange(new, python["site_packages"])
            if exchange is None:
                check_same_owner(python["site_packages"])
            else:
                unpacked()  # before they, too, are written to the disk
            with replacement.syncing(new):
                results = _try_out(wheels, new, environment, run, verify, devices)
            if exchange is None:
                for unrecorded in replacement.find_unrecorded(_list_installed(files, python["site_packages"])):
                    shutil.rmtree(unrecorded.path)  # the installer would refuse to replace it
                installer.install_files(files, folder, None, environment, run)
                _record_how_they_came(wheels, requirements, folder, python["site_packages"])
            else:
                replacement.carry_out(exchange, new, python["site_packages"])
    installed = distributions.find_installed([python["site_packages"]])
    for wheel in wheels:
        found = installed.get(wheel["name"])
        if found is None or not found.is_complete:
            raise TorchExtensionError(
                f"{wheel['filename']} was installed without an error, but is not in {python['site_packages']}. Look at"
                " the installer's settings on this node."
            )
        for module, foreign in find_foreign_modules(environment, wheel["imports"], run).items():
            raise TorchExtensionError(
                f"{wheel['filename']} is installed in {python['site_packages']}, and Python takes {module} from {foreign}, which comes"
                " before it on the search path. Remove that copy, or take it off the search path."
            )
    return results


def check_environment_can_change(environment: t.Mapping[str, t.Any]) -> None:
    """Refuse an environment that nothing can be installed into, for want of the right to do so, or of an installer.

    :raises TorchExtensionError: with what to do
    """
    python = environment["python"]
    check_ownership(environment, [python["site_packages"]])
    entries = list_entries(python["site_packages"])
    check_unlocked([os.path.join(python["site_packages"], entry) for entry in entries], python["prefix"])
    missing = explain_missing_installer(environment)
    if missing:
        raise TorchExtensionError(missing)


def list_leftovers(wheels: t.Sequence[t.Mapping[str, t.Any]], environment: t.Mapping[str, t.Any]) -> list[str]:
    """What killed runs have left of wheels in an environment: names in its folder of packages.

    :raises TorchExtensionError: if this user cannot clear it away
    """
    folder = environment["python"]["site_packages"]
    leftovers = find_leftovers(folder, _leftover_names(wheels))
    check_unlocked([os.path.join(folder, name) for name in leftovers], environment["python"]["prefix"])
    return leftovers


def remove_leftovers(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    environment: t.Mapping[str, t.Any],
    warn: t.Callable[[str], object] = lambda text: None,
) -> list[str]:
    """Finish or remove what killed runs have left of wheels. Returns its names.

    :param warn: takes what the operator should know
    :raises TorchExtensionError: if it, or the environment, is somebody else's
    """
    folder = environment["python"]["site_packages"]
    check_ownership(environment, [folder])
    list_leftovers(wheels, environment)
    with locked_folder(folder):
        return replacement.remove_leftovers(folder, _leftover_names(wheels), environment["python"]["prefix"], warn)


def _leftover_names(wheels: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    return [name for wheel in wheels for name in (*wheel["imports"], wheel["name"])]


def _try_out(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    target: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
    verify: str,
    devices: t.Sequence[str],
) -> dict[str, list[dict[str, t.Any]]]:
    executable = environment["python"]["executable"]
    results = {}
    for wheel in wheels if verify != trial.NONE else []:
        failure, foreign = trial.try_import(environment, wheel["imports"], run, target)
        if foreign:
            raise TorchExtensionError(
                f"{wheel['filename']} would be installed in vain: Python takes it from {foreign}, which comes before"
                f" {environment['python']['site_packages']} on its search path. Nothing was changed. Remove that copy, or take it off"
                " the search path."
            )
        if failure:
            raise TorchExtensionError(
                f"{wheel['filename']} does not load with {executable}: {failure}. Nothing was changed. {_advise(failure)}"
            )
        if verify == trial.GPU and trial.has_check(wheel["name"]):
            gpu_results = trial.check_on_gpus(executable, wheel["name"], run, target, devices)
            failures = [trial.explain_failure(result) for result in gpu_results if result["failure"]]
            if failures:
                raise TorchExtensionError(
                    f"{wheel['filename']} {'; '.join(failures)}. Nothing was changed. {_advise_on_gpus(failures)}"
                )
            results[wheel["name"]] = gpu_results
    return results


def _advise(failure: str) -> str:
    """What to do about a wheel that does not load."""
    if explain_limit(failure):
        return "That is a limit of this node, and no fault of the wheel."
    return "Choose another version, or see whether torch on this node is the one it says it is."


def _advise_on_gpus(failures: t.Iterable[str]) -> str:
    """What to do about a wheel that does not compute."""
    knob = "set torch_extension_verify (option verify) to import"
    if all(map(explain_limit, failures)):
        return f"That is a limit of this node, and no fault of the wheel. To install it all the same, {knob}."
    return f"Choose another version in torch_extension_packages, or {knob}."


def _unpack(
    files: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    target: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
) -> None:
    """Unpack wheels, and check that they are the planned ones: their hashes before anything is unpacked.

    :raises TorchExtensionError: if one is something else
    """
    for file in files:
        if not installer.is_hashed_by_pip(file, environment):
            wheel_file.check_delivered(file, folder, environment)
    try:
        installer.install_files(files, folder, target, environment, run)
    except TorchExtensionError:
        for file in files:  # for a clearer message than pip's
            wheel_file.check_delivered(file, folder, environment)
        raise
    for file in files:
        wheel_file.check_metadata(wheel_file.delivered_path(file, folder), file["filename"])


def _list_installed(files: t.Iterable[t.Mapping[str, t.Any]], site_packages: str) -> list[distributions.Distribution]:
    """What is installed of the distributions that wheels bring."""
    installed = distributions.find_installed([site_packages])
    names = (wheel_file.parse_name(file["filename"]).name for file in files)
    return [installed[name] for name in names if name in installed]


def _record_how_they_came(
    wheels: t.Iterable[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    site_packages: str,
) -> None:
    """Write down from which files distributions were installed, by which the next run knows them; and which nobody has asked for.

    By that a removal knows which requirements have come with a wheel.
    """
    installed = distributions.find_installed([site_packages])
    for file in (*wheels, *requirements):
        found = installed.get(wheel_file.parse_name(file["filename"]).name)
        if found is None:
            continue
        digest = file["sha256"] or sha256_of(wheel_file.delivered_path(file, folder))
        records.record_origin(found, file["filename"], digest)
        if file in requirements:
            records.mark_as_requirement(found)

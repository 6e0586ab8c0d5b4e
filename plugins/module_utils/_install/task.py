# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""One run of module ``torch_extension``: prove wheels, clear away what is left over, install what is missing; or foresee it."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import check_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.delivered import are_exchangeable
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    add_gpus,
    describe_environment,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.safe_to_run import check_may_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    KEEP,
    Action,
    apply_reinstall,
    explain_shadow,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import (
    FIND_LINKS,
    INSTALL,
    PIP_CACHE,
)

Environment = t.Mapping[str, t.Any]
Wheel = t.Mapping[str, t.Any]


class MisfitError(TorchExtensionError):
    """The node lacks what the binaries of wheels need."""

    def __init__(self, message: str, proofs: list[dict[str, t.Any]]) -> None:
        super().__init__(message)
        self.proofs = proofs


class _SupersededError(Exception):
    """Another installation has ended just now, and what is to be done has to be looked at again."""


class Task:
    """What the module is asked for, on one node."""

    def __init__(
        self, params: t.Mapping[str, t.Any], check_mode: bool, run: Run, warn: t.Callable[[str], object]
    ) -> None:
        """
        :param params: those of the module
        :param check_mode: whether nothing may change
        :param run: runs a command line
        :param warn: tells the operator something
        """
        self._params, self._check_mode, self._run, self._warn = params, check_mode, run, warn
        self._wheels: t.Sequence[Wheel] = params["wheels"]
        self._files: list[Wheel] = [*params["wheels"], *params["requirements"]]
        #: those that have been brought, and that we have not removed
        self._delivered = list(self._files)
        self._mode: str = params["mode"]

    def perform(self) -> dict[str, t.Any]:
        """Do it, or foresee it in check mode.

        :returns: the result of the module
        :raises MisfitError: if the node lacks what a wheel's binaries need; nothing is changed then
        :raises TorchExtensionError: if it cannot be done; the environment is then as it was
        :raises OSError: if a file cannot be read or written
        """
        while True:
            try:
                return self._perform()
            except _SupersededError:
                continue

    def _perform(self) -> dict[str, t.Any]:
        cleared = self._abandoned_files()
        environment = self._given_environment() or self._read_environment()
        proofs = self._prove(environment)
        leftovers = self._leftovers(environment)
        if leftovers and not self._check_mode:
            leftovers = self._installer().remove_leftovers(self._wheels, environment, self._warn)
            environment = self._read_environment()
        actions = [self._examine(wheel, environment) for wheel in self._wheels]
        needed = [wheel for wheel, action in zip(self._wheels, actions) if action.action != KEEP]
        if self._mode == INSTALL and needed:
            self._installer().check_environment_can_change(environment)
            self._check_owners(needed, environment)
        absent = [
            file
            for file in self._params["requirements"]
            if needed and environment["distributions"].get(file["name"]) is None
        ]
        changes = _diff(self._wheels, actions, absent, [*leftovers, *cleared])
        result: dict[str, t.Any] = {} if proofs is None else {"proofs": proofs}
        if self._mode == FIND_LINKS:
            result["find_links"] = self._installer().wheel_folder(environment)
            settings = self._installer().plan_pip_conf(environment)
            diff = [changes, settings.diff()] if settings.before != settings.after else changes
        else:
            diff = changes
        verify = self._trial_of(environment) if needed and self._mode == INSTALL else trial.NONE
        on_gpus = {} if self._check_mode or not needed else self._install(needed, absent, environment, verify)
        return {
            "changed": bool(needed or leftovers or cleared),
            "wheels": [self._outcome(*pair, verify, on_gpus) for pair in zip(self._wheels, actions)],
            "requirements": [file["filename"] for file in absent],
            "leftovers": leftovers,
            "cleared": cleared,
            "diff": diff,
            **result,
        }

    def remove_files(self) -> None:
        """Remove the delivered files, where they are not to stay, and what earlier runs have left."""
        folder, keep_files = self._params["folder"], self._params["keep_files"]
        names = self._abandoned_files()
        if not keep_files:
            names += [file["filename"] for file in self._files]
            self._delivered = []
        if folder and not self._check_mode and (names or not keep_files):
            staging.clear_staged(folder, names, self._params["trusted_owners"])

    def discard_damaged(self) -> list[str]:
        """Remove those of the delivered files that are not what was brought, and tell their names, with those that are not there.

        It reads all of them: it is for when something has failed.
        """
        folder = self._params["shared_folder"] or self._params["folder"]
        if self._check_mode or folder is None:
            return []
        damaged = []
        for file in self._delivered:
            path = wheel_file.delivered_path(file, folder)
            try:
                check_sha256(path, file["sha256"])
            except TorchExtensionError:
                damaged.append(file["filename"])
                with contextlib.suppress(OSError):
                    staging.clear_staged(os.path.dirname(path), [path], self._params["trusted_owners"])
        return damaged

    def _abandoned_files(self) -> list[str]:
        """What earlier runs have left in the folder and is none of the delivered files."""
        names = set(self._params["staged"]) - {file["filename"] for file in self._files}
        if self._check_mode:  # the rest of these would have come
            names -= {staging.part_name(file["filename"], file["sha256"]) for file in self._files}
        if self._params["keep_files"]:
            names = {name for name in names if staging.is_part(name)}
        folder = self._params["folder"]
        return [name for name in staging.list_abandoned(folder) if name in names] if names and folder else []

    def _given_environment(self) -> Environment | None:
        """What the plan knew of the node, which may have changed since: good enough to foresee by."""
        environment: Environment | None = self._params["environment"] if self._check_mode else None
        if environment:
            check_environment(environment)
            check_may_run(environment["python"]["executable"], os.environ, self._params["trusted_owners"])
        return environment

    def _read_environment(self) -> Environment:
        names = [ALL_DISTRIBUTIONS, *(file["name"] for file in self._files)]
        return describe_environment(
            self._params["python"], names, self._run, os.environ, trusted_owners=self._params["trusted_owners"]
        )[0]

    def _prove(self, environment: Environment) -> list[dict[str, t.Any]] | None:
        """That the node has what the wheels need, before anything is done with them; None, where nothing tells what they need."""
        facts_by_sha256 = self._params["facts"]
        facts = [facts_by_sha256[wheel["sha256"]] for wheel in self._wheels if wheel["sha256"] in facts_by_sha256]
        if not facts:
            return None
        if self._params["verify"] == trial.NONE:
            return []
        # a node compiles what it imports each time, and one that has its wheels proves nothing
        from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.proof import (
            needs_gpus,
            prove_wheels,
        )
        from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import DOES_NOT_FIT

        if needs_gpus(facts):
            environment = add_gpus(environment, self._run, self._warn)
        proofs = prove_wheels(facts, environment, os.environ)
        executable = environment["python"]["executable"]
        misfits = [
            f"{proof['filename']} does not fit {executable}: it {'; it '.join(proof['reasons'])}."
            for proof in proofs
            if proof["verdict"] == DOES_NOT_FIT
        ]
        if misfits:
            knobs = (
                "Nothing was copied to this node or changed on it. Knobs: torch_extension_packages (another version),"
                " torch_extension_sources (a wheel that was built for such nodes); torch_extension_verify=none installs it"
                " all the same."
            )
            raise MisfitError("\n".join([*misfits, knobs]), proofs)
        return proofs

    def _leftovers(self, environment: Environment) -> list[str]:
        return t.cast("list[str]", self._installer().list_leftovers(self._wheels, environment))

    def _examine(self, wheel: Wheel, environment: Environment) -> Action:
        if wheel["conflicts"]:
            raise TorchExtensionError(f"{wheel['filename']} cannot serve this node: {'; '.join(wheel['conflicts'])}.")
        if self._mode == INSTALL:
            decided = self._installer().decide_action(wheel, environment, self._run)
            action = apply_reinstall(decided, self._params["reinstall"])
            shadow = explain_shadow(wheel["name"], action.action, environment)
            if shadow:
                raise TorchExtensionError(
                    f"{wheel['filename']} would be installed in vain: {shadow}. Nothing was changed."
                )
            return action
        if self._mode == FIND_LINKS:
            return self._installer().decide_action(wheel, environment, self._run, self._params["reinstall"])
        return apply_reinstall(self._installer().decide_action(wheel, environment), self._params["reinstall"])

    def _check_owners(self, needed: t.Sequence[Wheel], environment: Environment) -> None:
        """Refuse wheels that would overwrite files of other distributions, as far as it is known what is in them."""
        facts_by_sha256 = self._params["facts"]
        paths = {path for wheel in needed for path in (facts_by_sha256.get(wheel["sha256"]) or {}).get("files", ())}
        if paths:
            names = [canonical(wheel["name"]) for wheel in needed]
            self._installer().replacement.check_owners(paths, environment["python"]["site_packages"], names)

    def _trial_of(self, environment: Environment) -> str:
        gpus = add_gpus(environment, self._run, self._warn)["gpus"]
        return trial.resolve_method(self._params["verify"], gpus, self._params["devices"])

    def _install(
        self, needed: t.Sequence[Wheel], absent: t.Sequence[Wheel], environment: Environment, verify: str
    ) -> dict[str, list[dict[str, t.Any]]]:
        """Returns what was found on each GPU, by the name of the wheel."""
        folder = self._params["shared_folder"] or self._params["folder"]
        if folder is None:
            raise TorchExtensionError(
                f"{needed[0]['filename']} has to be installed, but folder does not say where on the node it is."
            )
        copy_first = are_exchangeable([*needed, *absent], folder, self._params["trusted_owners"])
        if self._mode == PIP_CACHE:
            for wheel in needed:
                self._installer().add_wheel(wheel, folder, environment)
            return {}
        if self._mode == FIND_LINKS:
            self._installer().add_wheels(needed, absent, folder, environment)
            return {}
        return self._installer().install(
            needed,
            absent,
            folder,
            environment,
            self._run,
            verify=verify,
            devices=self._params["devices"],
            unpacked=self.remove_files,
            superseded=self._look_again,
            copy_first=copy_first,
        )

    def _look_again(self) -> None:
        raise _SupersededError

    def _outcome(
        self, wheel: Wheel, action: Action, verify: str, on_gpus: t.Mapping[str, list[dict[str, t.Any]]]
    ) -> dict[str, t.Any]:
        outcome = {**{key: wheel[key] for key in ("name", "version", "filename")}, **action._asdict()}
        if self._mode == INSTALL and action.action != KEEP:
            was_imported_only = verify == trial.GPU and not trial.has_check(wheel["name"])
            outcome["verify"] = trial.IMPORT if was_imported_only else verify
            outcome["gpus"] = on_gpus.get(wheel["name"], [])
        return outcome

    def _installer(self) -> t.Any:
        # a node compiles what it imports each time, and one of the three will do
        if self._mode == PIP_CACHE:
            from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import pip_cache

            return pip_cache
        if self._mode == FIND_LINKS:
            from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import find_links

            return find_links
        from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import site_packages

        return site_packages


def _diff(
    wheels: t.Sequence[Wheel], actions: t.Sequence[Action], requirements: t.Sequence[Wheel], leftovers: t.Iterable[str]
) -> dict[str, str]:
    before = [f"{wheel['name']}: {action.reason}" for wheel, action in zip(wheels, actions) if action.action != KEEP]
    before += [f"left by a killed run: {name}" for name in leftovers]
    after = [f"{wheel['name']}: {wheel['filename']}" for wheel, action in zip(wheels, actions) if action.action != KEEP]
    after += [f"{file['name']}: {file['filename']}" for file in requirements]
    return {"before": "".join(line + "\n" for line in before), "after": "".join(line + "\n" for line in after)}

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import check_facts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import COPY, PULL, SHARED, SLURM
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import DOES_NOT_FIT
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import ABSENT, for_node
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleFailedError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import (
    options,
    shared_file_system,
    streaming,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.slurm import name_writer
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import agreement, report_lines


class UnfitError(TorchExtensionError):
    """Wheels that do not serve the node, each as wheel_plan wants it."""

    def __init__(self, wheels: list[dict[str, t.Any]]) -> None:
        lines = [f"{wheel['filename']} does not serve this node: {wheel['reason']}." for wheel in wheels]
        super().__init__(
            "\n".join([*lines, "Nothing was changed on it. Knobs: torch_extension_sources, torch_extension_packages."])
        )
        self.wheels = wheels


class _Request(t.NamedTuple):
    """What is to be delivered, and how; the same for all ways."""

    files: list[streaming.File]
    delivery: dict[str, t.Any]  # as OPTIONS of module_utils._delivery.options has it
    served: dict[str, t.Any] | None  # the outcome for this node in wheel_broadcast
    locks: str  # a folder of the control node
    trusted_owners: t.Sequence[str]  # who besides the user and root may change folders on the way to that of the node
    task_vars: dict[str, t.Any]


class ActionModule(DeliveringAction):
    """Has the node prove that wheels will load there, brings them, and runs the module."""

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = dict(self._task.args)
        tells_unfit = boolean(arguments.pop("tell_unfit", False))
        wheels = arguments.get("wheels") or []
        try:
            return {**self._perform(arguments, task_vars), "unfit": []}
        except UnfitError as exc:
            if not tells_unfit:
                raise
            return {"changed": False, "unfit": exc.wheels, "report": []}
        except ModuleFailedError as exc:
            unfit = _unfit_wheels(wheels, exc.result)
            if not tells_unfit or not unfit:
                raise
            return {"changed": False, "unfit": unfit, "report": []}

    def _perform(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        paths, errors = (arguments.pop(name, None) or [] for name in ("files", "errors"))
        delivery, served, cache = (arguments.pop(name, None) for name in ("delivery", "served", "cache_dir"))
        delivery = options.validate_delivery(delivery or {}, arguments.get("folder"))
        if errors:
            raise TorchExtensionError("\n".join(errors))
        wheels, requirements = (arguments.get(name) or [] for name in ("wheels", "requirements"))
        for name in ("wheels", "requirements"):
            if name in arguments:
                arguments[name] = [for_node(file) for file in arguments[name] or []]
        facts, environment = (arguments.pop(name, None) for name in ("facts", "environment"))
        if arguments.get("state") == ABSENT:
            result = self.run_module("torch_extension", arguments, task_vars)
            return {**result, "report": report_lines.report_removal(result, self._task.check_mode)}
        facts = facts or {}
        check_facts(facts)
        wheel_facts = {wheel["sha256"]: facts[wheel["sha256"]] for wheel in wheels if wheel.get("sha256") in facts}
        if environment:
            check_environment(environment)
        if environment and arguments.get("verify") != trial.NONE:
            _check_agreement(wheels, wheel_facts, environment)
        # the environment of the plan holds only until something changes on the node
        check_arguments = {**arguments, "facts": wheel_facts, "environment": environment}
        extra_results: dict[str, t.Any] = {}
        failures: list[str] = []
        request = None
        if self._task.check_mode:
            arguments = check_arguments
        else:
            digests = {wheel["filename"]: wheel.get("sha256") for wheel in [*wheels, *requirements]}
            files = [streaming.File(path, digests.get(os.path.basename(path))) for path in paths]
            _check_files_exist(files)
            locks, trusted = os.path.join(locate_cache(cache), "locks"), arguments.get("trusted_owners") or []
            request = _Request(files, delivery, served, locks, trusted, task_vars)
            if wheel_facts:
                extra_results["proofs"] = self._prove_wheels(check_arguments, request)
            if files:
                extra_results["delivery"], failures = self._deliver(request, arguments)
        result = {**self._install(arguments, task_vars, request), **extra_results}
        if failures:
            result["warnings"] = [*result.get("warnings", []), *failures]
        mode = arguments.get("mode", "install")
        report = report_lines.report_result(wheels, requirements, result, mode, self._task.check_mode)
        return {**result, "report": report}

    def _install(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], request: _Request | None
    ) -> dict[str, t.Any]:
        try:
            return self.run_module("torch_extension", arguments, task_vars)
        except ModuleFailedError as exc:
            damaged = exc.result.get("damaged") or []
            if request is None or not _are_sound([file for file in request.files if file.name in damaged]):
                raise
        # A power cut has left something else than was brought, or another run has removed it: the module has thrown it away.
        self._deliver(request, arguments)
        try:
            return self.run_module("torch_extension", arguments, task_vars)
        except ModuleFailedError as exc:
            folder = arguments.get("shared_folder")
            if folder and "sha256" in exc.result.get("msg", ""):
                exc.result["msg"] += (
                    f" It is in {folder}, where all nodes read it: remove it there (tasks_from: clear.yml)."
                )
            raise

    def _prove_wheels(self, arguments: dict[str, t.Any], request: _Request) -> list[dict[str, t.Any]]:
        """The proofs of wheels before they are brought, by the module that installs them."""
        if arguments.get("verify") == trial.NONE:
            return []
        try:
            return self.run_module("torch_extension", arguments, request.task_vars, check_mode=True)["proofs"]
        except ModuleFailedError:
            # Slurm has brought the files in vain
            if request.served and not request.served["reason"]:
                streaming.remove_files(request.files, arguments["folder"], self.execute)
            raise

    def _deliver(self, request: _Request, arguments: dict[str, t.Any]) -> tuple[dict[str, t.Any], list[str]]:
        """Bring files to the node, by the first way that serves it, and put where they are into the module's arguments.

        :returns: what to report of it, and why the ways before it have failed
        """
        ways = {
            COPY: self._deliver_by_copy,
            SHARED: self._deliver_by_shared_folder,
            PULL: self._deliver_by_pull,
            SLURM: self._deliver_by_slurm,
        }
        if not arguments.get("folder"):
            raise TorchExtensionError("There are files to bring, but folder does not say where on the node to.")
        node = request.task_vars["inventory_hostname"]
        failures: list[str] = []
        for way in request.delivery["ways"]:
            try:
                if way != COPY and any(file.sha256 is None for file in request.files):
                    raise TorchExtensionError(
                        "It wants files whose sha256 is known. Give it in wheels and requirements."
                    )
                return {"way": way, **ways[way](request, arguments)}, failures
            except TorchExtensionError as exc:
                failures.append(str(exc) if way == COPY else f"{way} does not serve {node}: {exc}")
        raise TorchExtensionError("\n".join(failures))

    def _deliver_by_copy(self, request: _Request, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        folder = arguments["folder"]
        staging = self.deliver_files(
            request.files,
            lambda execute: streaming.prepare_folder(request.files, folder, execute, request.trusted_owners),
            request.task_vars,
        )
        arguments["folder"] = staging.folder
        return {"folder": staging.folder, "sent": bool(staging.list_missing(request.files))}

    def _deliver_by_shared_folder(self, request: _Request, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        files = shared_file_system.place_files(request.files)

        def inspect(execute: streaming.Execute) -> streaming.Staging | None:
            return shared_file_system.inspect_shared_folder(files, request.delivery["shared_dir"], execute)

        staging = self.inspect_folder(inspect)
        file_system, sent = staging.facts["id"], False
        if staging.list_missing(files):
            with process_lock(request.locks, file_system):
                staging = self.deliver_files(files, inspect, request.task_vars)
                sent = bool(staging.list_missing(files))  # as it was before
        arguments["shared_folder"] = staging.folder
        subfolders = {file.name: file.subfolder for file in files}
        for name in ("wheels", "requirements"):
            arguments[name] = [
                {**item, "subfolder": subfolders.get(item["filename"], "")} for item in arguments.get(name) or []
            ]
        return {"folder": staging.folder, "sent": sent, "file_system": file_system}

    def _deliver_by_pull(self, request: _Request, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        delivery = request.delivery
        pull_arguments = {
            "url": delivery["pull_url"],
            "files": [{"filename": file.name, "sha256": file.sha256, "size": file.size} for file in request.files],
            "folder": arguments["folder"],
            "trusted_owners": request.trusted_owners,
        }
        if delivery["pull_ca_path"]:
            pull_arguments["ca"] = _read_certificates(delivery["pull_ca_path"])
        pulled, sent = self._pull(pull_arguments, request), False
        if pulled["missing"]:
            sent = self._upload([file for file in request.files if file.name in pulled["missing"]], request)
            pulled = self._pull(pull_arguments, request)
        if pulled["missing"]:
            raise TorchExtensionError(
                f"{delivery['pull_url']} took {' and '.join(pulled['missing'])} from the control node, and does not give it to"
                " this node. It is to be the same folder for both. Nothing was changed on this node. Look at"
                " torch_extension_pull_url, or set torch_extension_delivery to another way, such as copy."
            )
        arguments["folder"] = pulled["folder"]
        return {"folder": pulled["folder"], "sent": sent, "url": delivery["pull_url"]}

    def _upload(self, files: list[streaming.File], request: _Request) -> bool:
        """Upload what a node has not found on the server.

        :returns: whether anything was sent
        """
        # slow to import, and needed only where nodes find nothing there
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.upload import Uploader

        url, ca_path = (request.delivery[name] for name in ("pull_url", "pull_ca_path"))
        lock_name = hashlib.sha256("\n".join([url, *(file.name for file in files)]).encode()).hexdigest()[:32]
        # a server that refuses a wheel refuses it for all nodes of a run, each time after all of it has been sent
        with process_lock(request.locks, lock_name, run_id=f"{os.getppid()} {self._task._uuid}"):
            uploader = Uploader(url, ca_path)
            sent = [uploader.upload(file) for file in files]
        return any(sent)

    def _pull(self, arguments: dict[str, t.Any], request: _Request) -> dict[str, t.Any]:
        try:
            return self.run_module("wheel_pull", arguments, request.task_vars)
        except ModuleFailedError as exc:
            raise TorchExtensionError(exc.result.get("msg", "wheel_pull failed")) from exc

    def _deliver_by_slurm(self, request: _Request, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        if request.served is None:
            raise TorchExtensionError(
                "Nobody has asked Slurm for it (wheel_broadcast). Set torch_extension_delivery to copy."
            )
        if request.served["reason"]:
            with contextlib.suppress(AnsibleConnectionFailure):  # a job that failed may have left something
                own = [file._replace(writer=name_writer(request.locks)) for file in request.files]
                streaming.remove_parts(own, arguments["folder"], self.execute)
            raise TorchExtensionError(request.served["reason"])
        staging = self.inspect_folder(
            lambda execute: streaming.prepare_folder(
                request.files, arguments["folder"], execute, request.trusted_owners
            )
        )
        missing = staging.list_missing(request.files)
        if missing:
            raise TorchExtensionError(
                f"Slurm's job went well, and {' and '.join(file.name for file in missing)} is not in {staging.folder} on this"
                " node. Nothing was changed. torch_extension_stage_dir must lead to the same folder in a job as in the play"
                " (not into what job_container/tmpfs makes for each job); or set torch_extension_delivery to [slurm, copy]."
            )
        arguments["folder"] = staging.folder
        return {"folder": staging.folder, "sent": False}


def _check_agreement(
    wheels: t.Iterable[t.Mapping[str, t.Any]], facts: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]
) -> None:
    """Check that wheels do not contradict themselves, now that they are on the control node.

    :raises UnfitError: if one does, or requires another torch than the node has
    """
    unfit = []
    for wheel in wheels:
        if wheel.get("sha256") in facts:
            reasons = agreement.find_disagreements(facts[wheel["sha256"]], environment)
            if reasons:
                unfit.append(_describe_unfit(wheel, reasons))
    if unfit:
        raise UnfitError(unfit)


def _unfit_wheels(wheels: t.Iterable[t.Mapping[str, t.Any]], failure: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """The wheels that the node has shown not to fit, as wheel_plan wants them.

    :param failure: the result of the module that has failed
    """
    reasons = {
        proof["filename"]: proof["reasons"] for proof in failure.get("proofs") or [] if proof["verdict"] == DOES_NOT_FIT
    }
    return [_describe_unfit(wheel, reasons[wheel["filename"]]) for wheel in wheels if wheel["filename"] in reasons]


def _describe_unfit(wheel: t.Mapping[str, t.Any], reasons: t.Iterable[str]) -> dict[str, t.Any]:
    return {"url": wheel.get("url"), "filename": wheel["filename"], "reason": f"it {'; it '.join(reasons)}"}


def _are_sound(files: t.Sequence[streaming.File]) -> bool:
    """Whether there are files to bring again, and bringing them again would help."""
    return bool(files) and all(file.sha256 and sha256_of(file.path) == file.sha256.lower() for file in files)


def _check_files_exist(files: t.Iterable[streaming.File]) -> None:
    for file in files:
        if not os.path.isfile(file.path):
            raise TorchExtensionError(
                f"There is no file {file.path} on the control node. Have wheel_fetch bring it there."
            )


def _read_certificates(path: str) -> str:
    """The certificates in a file, without what else is there, such as keys: nodes get to see them."""
    # most deliveries do without this module, which is slow to load
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import extract_certificates

    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return extract_certificates(file.read())
    except OSError as exc:
        raise TorchExtensionError(
            f"torch_extension_pull_ca_path is {path}, which cannot be read on the control node ({exc.strerror})."
        ) from exc

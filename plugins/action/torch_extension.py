# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.validation import check_facts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import COPY, PULL, SHARED, SLURM
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.delivery import DeliveringAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import Failed
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import alone
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import (
    options,
    shared_file_system,
    streaming,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import report_lines


class _Given(t.NamedTuple):
    """What all ways of a delivery go by."""

    files: list[streaming.File]
    delivery: dict[str, t.Any]  # as _delivery_options.OPTIONS has it
    served: dict[str, t.Any] | None  # what has become of this node in wheel_broadcast
    locks: str  # a folder of the control node
    task_vars: dict[str, t.Any]


class ActionModule(DeliveringAction):
    """Has the node prove that wheels will load there, brings them, and runs the module."""

    def act(self, task_vars):
        arguments = dict(self._task.args)
        paths, errors = (arguments.pop(name, None) or [] for name in ("files", "errors"))
        delivery, served, cache = (arguments.pop(name, None) for name in ("delivery", "served", "cache_dir"))
        delivery = options.checked(delivery or {}, arguments.get("folder"))
        if errors:
            raise TorchExtensionError("\n".join(errors))
        wheels, requirements = (arguments.get(name) or [] for name in ("wheels", "requirements"))
        facts, environment = (arguments.pop(name, None) for name in ("facts", "environment"))
        facts = facts or {}
        check_facts(facts)
        known = {wheel["sha256"]: facts[wheel["sha256"]] for wheel in wheels if wheel.get("sha256") in facts}
        # what the plan knew of the node is for what comes before anything changes there
        foreseeing = {**arguments, "facts": known, "environment": environment}
        told, failures = {}, []
        if self._task.check_mode:
            arguments = foreseeing
        else:
            digests = {wheel["filename"]: wheel.get("sha256") for wheel in [*wheels, *requirements]}
            files = [streaming.File(path, digests.get(os.path.basename(path))) for path in paths]
            _check(files)
            given = _Given(files, delivery, served, os.path.join(cache or default_cache(), "locks"), task_vars)
            if known:
                told["proofs"] = self._proofs(foreseeing, given)
            if files:
                told["delivery"], failures = self._deliver(given, arguments)
        result = {**self._installed(arguments, task_vars), **told}
        if failures:
            result["warnings"] = [*result.get("warnings", []), *failures]
        mode = arguments.get("mode", "install")
        return {**result, "report": report_lines.done(arguments["wheels"], result, mode, self._task.check_mode)}

    def _installed(self, arguments, task_vars):
        try:
            return self.module("torch_extension", arguments, task_vars)
        except Failed as exc:
            folder = arguments.get("shared_folder")
            if folder and "sha256" in exc.result.get("msg", ""):
                exc.result["msg"] += (
                    f" It is in {folder}, where all nodes read it: remove it there (tasks_from: clear.yml)."
                )
            raise

    def _proofs(self, arguments, given):
        """What the node tells of wheels before they are brought, by the module that installs them."""
        if arguments.get("verify") == trial.NONE:
            return []
        try:
            return self.module("torch_extension", arguments, given.task_vars, check_mode=True)["proofs"]
        except Failed:
            # what Slurm has brought in vain
            if given.served and not given.served["reason"]:
                streaming.discard(given.files, arguments["folder"], self.execute)
            raise

    def _deliver(self, given, arguments):
        """Bring files to the node, by the first way that serves it, and let the module's arguments say where they are.

        Returns what there is to tell of it, and why ways before it have failed.
        """
        ways = {
            COPY: self._copied,
            SHARED: self._shared,
            PULL: self._pulled,
            SLURM: self._broadcast,
        }
        if not arguments.get("folder"):
            raise TorchExtensionError("There are files to bring, but folder does not say where on the node to.")
        node, failures = given.task_vars["inventory_hostname"], []
        for way in given.delivery["ways"]:
            try:
                if way != COPY and any(file.sha256 is None for file in given.files):
                    raise TorchExtensionError(
                        "It wants files whose sha256 is known. Give it in wheels and requirements."
                    )
                return {"way": way, **ways[way](given, arguments)}, failures
            except TorchExtensionError as exc:
                failures.append(str(exc) if way == COPY else f"{way} does not serve {node}: {exc}")
        raise TorchExtensionError("\n".join(failures))

    def _copied(self, given, arguments):
        folder = arguments["folder"]
        staging = self.bring(
            given.files, lambda execute: streaming.prepare(given.files, folder, execute), given.task_vars
        )
        arguments["folder"] = staging.folder
        return {"folder": staging.folder, "sent": bool(staging.lacks(given.files))}

    def _shared(self, given, arguments):
        def enter(execute):
            return shared_file_system.look(given.files, given.delivery["shared_dir"], execute)

        staging = self.enter(enter)
        word, sent = staging.told["word"], False
        if staging.lacks(given.files):
            with alone(given.locks, word):
                staging = self.bring(given.files, enter, given.task_vars)
                sent = bool(staging.lacks(given.files))  # as it was before
        arguments["shared_folder"] = staging.folder
        return {"folder": staging.folder, "sent": sent, "file_system": word}

    def _pulled(self, given, arguments):
        delivery = given.delivery
        asked = {
            "url": delivery["pull_url"],
            "files": [{"filename": file.name, "sha256": file.sha256, "size": file.size} for file in given.files],
            "folder": arguments["folder"],
        }
        if delivery["pull_ca_path"]:
            asked["ca"] = _certificates(delivery["pull_ca_path"])
        pulled, sent = self._pull(asked, given), False
        if pulled["missing"]:
            sent = self._uploaded([file for file in given.files if file.name in pulled["missing"]], given)
            pulled = self._pull(asked, given)
        if pulled["missing"]:
            raise TorchExtensionError(
                f"{delivery['pull_url']} took {' and '.join(pulled['missing'])} from the control node, and does not give it to"
                " this node. It is to be the same folder for both. Nothing was changed on this node. Look at"
                " torch_extension_pull_url, or set torch_extension_delivery to another way, such as copy."
            )
        arguments["folder"] = pulled["folder"]
        return {"folder": pulled["folder"], "sent": sent, "url": delivery["pull_url"]}

    def _uploaded(self, files, given):
        """Put what a node has not found onto the server. Returns whether anything was sent."""
        # of those alone whose nodes find nothing there
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.upload import Uploader

        url, ca_path = (given.delivery[name] for name in ("pull_url", "pull_ca_path"))
        word = hashlib.sha256("\n".join([url, *(file.name for file in files)]).encode()).hexdigest()[:32]
        # all nodes of a run would hear the same from the server, each after the whole wheel has been sent
        with alone(given.locks, word, once=f"{os.getppid()} {self._task._uuid}"):
            uploader = Uploader(url, ca_path)
            sent = [uploader.upload(file) for file in files]
        return any(sent)

    def _pull(self, asked, given):
        try:
            return self.module("wheel_pull", asked, given.task_vars)
        except Failed as exc:
            raise TorchExtensionError(exc.result.get("msg", "wheel_pull failed")) from exc

    def _broadcast(self, given, arguments):
        if given.served is None:
            raise TorchExtensionError(
                "Nobody has asked Slurm for it (wheel_broadcast). Set torch_extension_delivery to copy."
            )
        if given.served["reason"]:
            with contextlib.suppress(AnsibleConnectionFailure):  # what a job that came to nothing may have left
                streaming.discard(given.files, arguments["folder"], self.execute)
            raise TorchExtensionError(given.served["reason"])
        staging = self.enter(lambda execute: streaming.prepare(given.files, arguments["folder"], execute))
        lacking = staging.lacks(given.files)
        if lacking:
            raise TorchExtensionError(
                f"Slurm's job went well, and {' and '.join(file.name for file in lacking)} is not in {staging.folder} on this"
                " node. Nothing was changed. torch_extension_stage_dir must lead to the same folder in a job as in the play"
                " (not into what job_container/tmpfs makes for each job); or set torch_extension_delivery to [slurm, copy]."
            )
        arguments["folder"] = staging.folder
        return {"folder": staging.folder, "sent": False}


def _check(files):
    """That the files are on the control node."""
    for file in files:
        if not os.path.isfile(file.path):
            raise TorchExtensionError(
                f"There is no file {file.path} on the control node. Have wheel_fetch bring it there."
            )


def _certificates(path):
    """What of a file of CAs is for nodes to see."""
    # of a node, which most deliveries do without here
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import extract_certificates

    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return extract_certificates(file.read())
    except OSError as exc:
        raise TorchExtensionError(
            f"torch_extension_pull_ca_path is {path}, which cannot be read on the control node ({exc.strerror})."
        ) from exc

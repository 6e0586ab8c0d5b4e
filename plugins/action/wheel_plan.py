# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import DOES_NOT_FIT, FITS, UNKNOWN
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import KEEP
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import EXACT, MATCHES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import default_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import options
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import proxied
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import node_plan, report_lines
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import decide, settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.proven_match import Shown, settle
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import RELEASE

_ARGUMENTS = {
    "packages": {"type": "list", "elements": "str", "required": True},
    "python": {"type": "str", "default": "python3"},
    "environment": {"type": "dict"},
    "mode": {"type": "str", "choices": node_plan.MODES, "default": node_plan.INSTALL},
    "refuse": {"type": "bool", "default": True},
    "source": {"type": "list", "elements": "str", "default": [RELEASE]},
    "lock": {"type": "path"},
    "github_url": {"type": "str", "default": "https://github.com"},
    "github_api_url": {"type": "str", "default": "https://api.github.com"},
    "github_token": {"type": "str", "default": "", "no_log": True},
    "proxy": {"type": "str", "default": "", "no_log": True},
    "ca_path": {"type": "path"},
    "cache_dir": {"type": "path"},
    "max_age": {"type": "int", "default": 600},
    "sdist_url": {"type": "raw"},
    "sha256": {"type": "dict", "default": {}},
    "require_sha256": {"type": "bool", "default": False},
    "stage_dir": {"type": "str"},
    "keep_files": {"type": "bool", "default": False},
    "delivery": {"type": "dict", "default": {}},
    "match": {"type": "str", "choices": MATCHES, "default": EXACT},
    "progress": {"type": "bool", "default": True},
}


class ActionModule(NodeAction):
    """Asks the node what it has, and decides here what it gets."""

    def act(self, task_vars):
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        self._arguments, self._task_vars = arguments, task_vars
        delivery = options.checked(arguments["delivery"], arguments["stage_dir"])
        told = {"environment": arguments["environment"]} if arguments["environment"] else self._probe()
        environment = told["environment"]
        with proxied(arguments["proxy"]):
            plan = _decide(environment, arguments)
            downloads = []
            if not arguments["environment"]:
                plan = [self._settled(wheel, environment, downloads) if wheel["provable"] else wheel for wheel in plan]
        warnings = [*told.get("warnings", []), *(warning for wheel in plan for warning in wheel["warnings"])]
        warnings += [file.warning for file in downloads if file.warning]
        reason = node_plan.refusal(plan, environment["python"]["executable"])
        if reason and arguments["refuse"]:
            raise TorchExtensionError(reason)
        looked = {} if reason or arguments["environment"] else self._look_closer(plan)
        plan = node_plan.cleared(plan, looked.get("wheels", []))
        wanted = [node_plan.for_node(wheel) for wheel in plan if wheel["action"] != KEEP and not wheel["conflicts"]]
        report = report_lines.planned(environment, plan)
        if looked.get("find_links") and not wanted:
            report += report_lines.find_links(looked["find_links"])
        return {
            "changed": bool(downloads),
            "environment": environment,
            "plan": plan,
            "wheels": wanted,
            "requirements": arguments["mode"] != node_plan.PIP_CACHE,
            "delivery": delivery,
            "stage_dir": arguments["stage_dir"],
            "staged": node_plan.staged(plan, told.get("staged", []), arguments["keep_files"]),
            "report": report,
            "warnings": list(dict.fromkeys(warnings)),
        }

    def _run(self, name, arguments, check_mode=None):
        return self.module(name, {"python": self._arguments["python"], **arguments}, self._task_vars, check_mode)

    def _probe(self):
        asked = node_plan.questions(*(self._arguments[name] for name in ("packages", "mode", "sdist_url")))
        stage_dir = self._arguments["stage_dir"]
        return self._run("torch_info", {**asked._asdict(), **({"stage_dir": stage_dir} if stage_dir else {})})

    def _look_closer(self, plan):
        """What only the node can tell of the wheels, without changing anything."""
        mode = self._arguments["mode"]
        unclear = node_plan.unclear(plan, mode)
        return self._run("torch_extension", {"mode": mode, "wheels": unclear}, check_mode=True) if unclear else {}

    def _settled(self, wheel, environment, downloads):
        """The same wheel or one for another torch that has been proven to serve."""
        # what downloads and reads wheels is slow to import, and rarely wanted here
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import progress
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext

        context = DownloadContext(
            cache=self._arguments["cache_dir"] or default_cache(),
            ca_path=self._arguments["ca_path"],
            require_sha256=self._arguments["require_sha256"],
            progress=progress(self._arguments["progress"]),
        )

        def prove(candidate):
            wanted = [candidate[name] for name in ("url", "filename", "sha256")]
            file = context.wheels().cached(*wanted)
            if file is None and candidate["action"] == KEEP:
                return self._verified(candidate["name"])
            if file is None and self._task.check_mode:
                return None
            if file is None:
                file = context.wheels().get(*wanted, candidate["size"])
                if file.is_new:
                    downloads.append(file)
            facts = context.facts(file.path, file.sha256)
            if not facts["libraries"]:
                return Shown(UNKNOWN, ["has no library of which anything could be proven"], file.sha256, file.size)
            (proof,) = self._run("wheel_proof", {"facts": [facts], "environment": environment})["proofs"]
            return Shown(proof["verdict"], proof["reasons"], file.sha256, file.size)

        with context.progress:
            return settle(wheel, environment, prove)

    def _verified(self, name):
        """The proof by import, of what is installed and whose wheel is not here."""
        packages = self._run("torch_verify", {"verify": "import"})["packages"]
        reasons = next((package["reasons"] for package in packages if package["name"] == name), ["is not installed"])
        return Shown(DOES_NOT_FIT if reasons else FITS, reasons, None, None)


def _decide(environment, arguments):
    chosen_by = settings(arguments.get)._replace(pip_cache=arguments["mode"] == node_plan.PIP_CACHE)
    return [decide(term, environment, chosen_by, strict=False) for term in arguments["packages"]]

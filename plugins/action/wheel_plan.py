# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import DOES_NOT_FIT, FITS, UNKNOWN
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import BUILD, KEEP
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.arguments import (
    ABSENT,
    INSTALL,
    MODES,
    PIP_CACHE,
    PRESENT,
    STATES,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import MATCHES, PROVEN
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.control_node import (
    DOWNLOAD_ARGUMENTS,
    make_progress,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleFailedError, NodeAction
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import ANY_NODE
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.location import locate_cache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import options
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning import (
    agreement,
    node_plan,
    report_lines,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.coupling_check import explain_unused
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import (
    INSTALLED,
    Decision,
    choose_wheel,
    judge_environment,
    read_settings,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.requirement_list import (
    whole_requirements,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.wheel_choice import (
    ProofResult,
    Unfit,
    choose_serving,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import RELEASE

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Download

_ARGUMENTS = {
    **DOWNLOAD_ARGUMENTS,
    "packages": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": STATES, "default": PRESENT},
    "python": {"type": "str", "default": "python3"},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
    "environment": {"type": "dict"},
    "mode": {"type": "str", "choices": MODES, "default": INSTALL},
    "choose": {"type": "bool", "default": True},
    "refuse": {"type": "bool", "default": True},
    "source": {"type": "list", "elements": "str", "default": [RELEASE]},
    "lock": {"type": "path"},
    "github_url": {"type": "str", "default": "https://github.com"},
    "github_api_url": {"type": "str", "default": "https://api.github.com"},
    "github_token": {"type": "str", "default": "", "no_log": True},
    "max_age": {"type": "int", "default": 600},
    "sdist_url": {"type": "raw"},
    "sha256": {"type": "dict", "default": {}},
    "require_sha256": {"type": "bool", "default": False},
    "stage_dir": {"type": "str"},
    "keep_files": {"type": "bool", "default": False},
    "delivery": {"type": "dict", "default": {}},
    "match": {"type": "str", "choices": MATCHES, "default": PROVEN},
    "upgrade": {"type": "bool", "default": False},
    "locking": {"type": "bool", "default": False},
    "reinstall": {"type": "bool", "default": False},
    "suggest": {"type": "bool", "default": True},
    "builder": {"type": "str", "default": ANY_NODE},
    "build_archs": {"type": "list", "elements": "str", "default": []},
    "build_dir": {"type": "str", "default": "~/.cache/airgap.torch_extensions.build"},
    "build_module": {"type": "str", "default": ""},
    "place_urls": {"type": "dict", "default": {}},
    "unfit": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "url": {"type": "str", "required": True},
            "filename": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
}

_NOTHING_TO_BUILD: dict[str, t.Any] = {"builds": [], "builder": ANY_NODE, "machine": None}


class ActionModule(NodeAction):
    """Asks the node what it has, and decides here what it gets."""

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        arguments["packages"] = whole_requirements(arguments["packages"])
        self._arguments, self._task_vars = arguments, task_vars
        delivery = options.validate_delivery(arguments["delivery"], arguments["stage_dir"])
        if arguments["state"] == ABSENT:
            return {
                **_NOTHING_TO_BUILD,
                **self._plan_removal(),
                "delivery": delivery,
                "stage_dir": arguments["stage_dir"],
                "unfit": [],
            }
        if arguments["environment"]:
            check_environment(arguments["environment"])
        info = {"environment": arguments["environment"]} if arguments["environment"] else self._probe()
        environment = info["environment"]
        if not arguments["choose"]:
            return self._judge(environment, info.get("warnings", []))
        downloads: list[Download] = []
        with use_proxy(arguments["proxy"]):
            environment = self._find_open_sdists(environment)
            plan = [self._choose(term, environment, downloads) for term in arguments["packages"]]
        plan = node_plan.refuse_obstacles(plan, environment, arguments["mode"])
        warnings = [*info.get("warnings", []), *(warning for wheel in plan for warning in wheel["warnings"])]
        warnings += [file.warning for file in downloads if file.warning]
        reason = node_plan.explain_refusal(plan, environment["python"]["prefix"])
        if reason and arguments["refuse"]:
            raise TorchExtensionError(reason)
        examination = {} if reason or arguments["environment"] else self._examine(plan)
        plan = node_plan.apply_examination(plan, examination.get("wheels", []))
        if examination:
            plan = node_plan.refuse_obstacles(plan, environment, arguments["mode"])
            reason = node_plan.explain_refusal(plan, environment["python"]["prefix"])
            if reason and arguments["refuse"]:
                raise TorchExtensionError(reason)
        warnings += explain_unused(environment, plan)
        wheels = [
            node_plan.strip_operator_keys(wheel) for wheel in plan if wheel["action"] != KEEP and not wheel["conflicts"]
        ]
        to_build = [wheel for wheel in wheels if wheel["action"] == BUILD]
        report = report_lines.report_plan(environment, plan)
        if examination.get("find_links") and not wheels:
            report += report_lines.explain_find_links(examination["find_links"])
        return {
            "changed": bool(downloads),
            "environment": environment,
            "plan": plan,
            "wheels": [wheel for wheel in wheels if wheel["action"] != BUILD],
            "builds": [
                node_plan.strip_operator_keys(wheel) for wheel in plan if wheel["build"] and not wheel["conflicts"]
            ],
            "builder": arguments["builder"],
            "machine": self._describe_machine() if to_build else None,
            "removals": [],
            "requirements": arguments["mode"] != PIP_CACHE,
            "delivery": delivery,
            "stage_dir": arguments["stage_dir"],
            "unfit": arguments["unfit"],
            "staged": node_plan.list_leftovers(plan, info.get("staged", []), arguments["keep_files"]),
            "report": report,
            "warnings": list(dict.fromkeys(warnings)),
        }

    def _describe_machine(self) -> dict[str, t.Any] | None:
        """What the node can compile with, where it may be the builder."""
        arguments = self._arguments
        if arguments["builder"] != ANY_NODE or arguments["environment"]:
            return None
        asked = {"step": "probe", "folder": arguments["build_dir"], "module": arguments["build_module"]}
        return t.cast("dict[str, t.Any]", self._run_in_environment("build_job", asked)["machine"])

    def _judge(self, environment: dict[str, t.Any], warnings: list[str]) -> dict[str, t.Any]:
        """What can be told of a node without choosing a wheel."""
        mode = self._arguments["mode"]
        judged = [judge_environment(term, environment, mode == PIP_CACHE) for term in self._arguments["packages"]]
        plan = node_plan.refuse_obstacles(judged, environment, mode)
        reason = node_plan.explain_refusal(plan, environment["python"]["prefix"])
        if reason and self._arguments["refuse"]:
            raise TorchExtensionError(reason)
        return {"changed": False, "environment": environment, "plan": plan, "wheels": [], "warnings": warnings}

    def _plan_removal(self) -> dict[str, t.Any]:
        """What is to be removed; only the node is asked."""
        arguments = self._arguments
        if arguments["environment"]:
            raise TorchExtensionError(
                "What is to be removed only the node itself can tell, and environment is of another time. Leave it out, or set"
                " torch_extension_state (option state) to present."
            )
        names = node_plan.package_names(arguments["packages"])
        options = {name: arguments[name] for name in ("mode", "keep_files")}
        if arguments["stage_dir"]:
            options["folder"] = arguments["stage_dir"]
        warnings: list[str] = []
        try:
            foreseen = self._run_in_environment(
                "torch_extension", {"state": ABSENT, "packages": names, **options}, check_mode=True
            )
            plan = node_plan.plan_removal(foreseen["packages"])
            warnings = foreseen.get("warnings", [])
        except ModuleFailedError as exc:
            if arguments["refuse"]:
                raise
            plan = node_plan.refuse_removal(names, exc.result.get("msg", ""))
            foreseen = {"changed": False, "environment": self._probe()["environment"], "cleared": []}
        report = report_lines.report_plan(foreseen["environment"], ())
        if not foreseen["changed"] and "packages" in foreseen:
            report += report_lines.report_removal(foreseen, True)
        return {
            "changed": False,
            "environment": foreseen["environment"],
            "plan": plan,
            "wheels": [],
            "removals": names if foreseen["changed"] else [],
            "requirements": False,
            "staged": foreseen["cleared"],
            "report": report,
            "warnings": warnings,
        }

    def _run_in_environment(
        self, name: str, arguments: dict[str, t.Any], check_mode: bool | None = None
    ) -> dict[str, t.Any]:
        environment = {option: self._arguments[option] for option in ("python", "trusted_owners")}
        return self.run_module(name, {**environment, **arguments}, self._task_vars, check_mode)

    def _probe(self) -> dict[str, t.Any]:
        options = node_plan.probe_options(*(self._arguments[name] for name in ("packages", "mode", "sdist_url")))
        stage_dir = self._arguments["stage_dir"]
        return self._run_in_environment(
            "torch_info", {**options._asdict(), **({"stage_dir": stage_dir} if stage_dir else {})}
        )

    def _find_open_sdists(self, environment: dict[str, t.Any]) -> dict[str, t.Any]:
        """An environment with the sdists of the versions that open requirements come to, of which pip's cache makes use.

        The node's pip can be asked for one version alone, and which one it is depends on what the node is.
        """
        arguments = self._arguments
        if arguments["mode"] != PIP_CACHE or arguments["environment"]:
            return environment
        settings = read_settings(arguments.get)
        # a refusal comes later, with what it suggests
        settings = settings._replace(keeps_installed=False, access=settings.access._replace(suggest=False))
        wheels = [choose_wheel(term, environment, settings, strict=False) for term in arguments["packages"]]
        pins = [f"{wheel['name']}=={wheel['version']}" for wheel in wheels if wheel["version"]]
        sdists = node_plan.probe_options(pins, PIP_CACHE, arguments["sdist_url"]).sdists
        unknown = [pin for pin in sdists if pin not in (each["requirement"] for each in environment["sdists"].values())]
        if not unknown:
            return environment
        found = self._run_in_environment("torch_info", {"sdists": unknown})["environment"]["sdists"]
        return {**environment, "sdists": {**environment["sdists"], **found}}

    def _examine(self, plan: node_plan.Plan) -> dict[str, t.Any]:
        """What only the node can tell of the wheels, without changing anything."""
        mode = self._arguments["mode"]
        wheels = node_plan.wheels_to_examine(plan, mode)
        if not wheels:
            return {}
        asked = {"mode": mode, "wheels": wheels, "reinstall": self._arguments["reinstall"]}
        return self._run_in_environment("torch_extension", asked, check_mode=True)

    def _choose(self, term: str, environment: dict[str, t.Any], downloads: list[Download]) -> dict[str, t.Any]:
        """Choose the wheel for a requirement, with the help of the node where there is one.

        :param downloads: where those are added that this takes
        """
        unfit = [Unfit(**each) for each in self._arguments["unfit"]]
        decision = _begin_decision(term, environment, self._arguments)
        if self._arguments["environment"]:
            return choose_serving(decision, environment, None, unfit)

        def prove(wheel: t.Mapping[str, t.Any]) -> ProofResult | None:
            with self._download_context() as context:
                return self._prove(wheel, environment, context, downloads)

        return choose_serving(decision, environment, prove, unfit)

    @contextlib.contextmanager
    def _download_context(self) -> t.Iterator[DownloadContext]:
        # what downloads and reads wheels is slow to import, and rarely wanted here
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext

        context = DownloadContext(
            cache=locate_cache(self._arguments["cache_dir"]),
            ca_path=self._arguments["ca_path"],
            require_sha256=self._arguments["require_sha256"],
            progress=make_progress(self._arguments["progress"]),
        )
        with context.progress:
            yield context

    def _prove(
        self,
        wheel: t.Mapping[str, t.Any],
        environment: dict[str, t.Any],
        context: DownloadContext,
        downloads: list[Download],
    ) -> ProofResult | None:
        """Have the node prove that a wheel serves it; what is installed there stands for a wheel that is not here."""
        url, filename, sha256 = (wheel[name] for name in ("url", "filename", "sha256"))
        if wheel["source"] == INSTALLED:
            facts = context.kept_wheel_facts(filename, sha256) if filename and sha256 else None
            if facts is None:
                return self._prove_installed(wheel["name"])
            return self._prove_facts(facts, environment, sha256, None)
        provenance = context.provenance_of(wheel)
        file = context.wheel_downloader().find_cached(url, filename, sha256, provenance)
        if file is None and wheel["action"] == KEEP:
            return self._prove_installed(wheel["name"])
        if file is None and self._task.check_mode:
            return None
        if file is None:
            file = context.wheel_downloader().get(url, filename, sha256, wheel["size"], provenance)
            if file.is_new:
                downloads.append(file)
        facts = context.read_wheel_facts(file.path, file.sha256)
        return self._prove_facts(facts, environment, file.sha256, file.size)

    def _prove_facts(
        self, facts: dict[str, t.Any], environment: dict[str, t.Any], sha256: str, size: int | None
    ) -> ProofResult:
        disagreements = agreement.find_disagreements(facts, environment)
        if disagreements:
            return ProofResult(DOES_NOT_FIT, disagreements, sha256, size)
        if not facts["libraries"]:
            return ProofResult(UNKNOWN, ["has no library of which anything could be proven"], sha256, size)
        (proof,) = self._run_in_environment("wheel_proof", {"facts": [facts], "environment": environment})["proofs"]
        return ProofResult(proof["verdict"], proof["reasons"], sha256, size, agreement.has_stable_abi(facts))

    def _prove_installed(self, name: str) -> ProofResult:
        """Prove an installed package by importing it, where its wheel is not on the control node."""
        packages = self._run_in_environment("torch_verify", {"verify": "import"})["packages"]
        reasons = next((package["reasons"] for package in packages if package["name"] == name), ["is not installed"])
        return ProofResult(DOES_NOT_FIT if reasons else FITS, reasons, None, None)


def _begin_decision(term: str, environment: dict[str, t.Any], arguments: t.Mapping[str, t.Any]) -> Decision:
    mode, is_for_files = arguments["mode"], arguments["locking"]
    settings = read_settings(arguments.get)._replace(
        upgrade=arguments["upgrade"] or is_for_files,
        reinstall=arguments["reinstall"],
        pip_cache=mode == PIP_CACHE,
        keeps_installed=mode == INSTALL and not is_for_files,
    )
    return Decision(term, environment, settings)

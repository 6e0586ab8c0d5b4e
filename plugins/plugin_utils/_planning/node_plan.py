# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The plan of a node: what to ask it, what its answers change, and why it is refused."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import ownership
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import arguments
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    BUILD,
    EXAMINE,
    KEEP,
    explain_shadow,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import parse_requirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import GUESS

Plan = t.Sequence[t.Mapping[str, t.Any]]

_ADVICE_FOR_GUESSES = (
    "Source release in torch_extension_sources chooses among the wheels that exist; or ask for another version in"
    " torch_extension_packages."
)

#: keys of a planned wheel that no module reads, and whose values are long
_OPERATOR_ONLY_KEYS = ("refused", "newer", "warnings")
#: what else is told of a planned wheel, where packages are removed
_NO_WHEEL: dict[str, t.Any] = {"filename": None, "url": None, "conflicts": [], "warnings": []}


class ProbeOptions(t.NamedTuple):
    """What to ask a node: options of torch_info."""

    distributions: list[str]
    sdists: list[str]


def probe_options(terms: t.Iterable[str], mode: str, sdist_url: str | t.Mapping[str, str] | None) -> ProbeOptions:
    """What to ask a node to plan for some requirements.

    A term that is no requirement of a known package is left out here: the plan reports it.

    :param mode: of the installation, one of ``arguments.MODES``
    :param sdist_url: where the operator says that the sdists are; the node is not asked for those
    """
    requirements = []
    for term in terms:
        try:
            requirements.append(parse_requirement(term))
        except TorchExtensionError:
            continue
    names_with_url = {canonical(name) for name in sdist_url} if isinstance(sdist_url, t.Mapping) else set()
    needs_sdists = mode == arguments.PIP_CACHE and (not sdist_url or isinstance(sdist_url, t.Mapping))
    sdists = [
        str(requirement)
        for requirement in requirements
        if needs_sdists and requirement.version and requirement.name not in names_with_url
    ]
    return ProbeOptions(["*", *(requirement.name for requirement in requirements)], sdists)


def package_names(terms: t.Iterable[str]) -> list[str]:
    """The normalised names in requirements of known packages, each once.

    :raises TorchExtensionError: if a term is no requirement, or of another package
    """
    return list(dict.fromkeys(parse_requirement(term).name for term in terms))


def plan_removal(packages: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """What is planned for packages that shall not be there.

    :param packages: as torch_extension returned them in check mode
    """
    return [{**_NO_WHEEL, **package} for package in packages]


def refuse_removal(names: t.Iterable[str], reason: str) -> list[dict[str, t.Any]]:
    """A plan for packages that a node has and that cannot be removed."""
    refusal = {
        **_NO_WHEEL,
        "version": None,
        "action": "refuse",
        "reason": "it cannot be removed",
        "conflicts": [reason],
    }
    return [{**refusal, "name": name} for name in names]


def wheels_to_examine(plan: Plan, mode: str) -> list[dict[str, t.Any]]:
    """The wheels whose state only the node can tell, stripped for it.

    An environment does not say what is in pip's cache or in a folder of wheels.
    """
    return [
        arguments.for_node(wheel)
        for wheel in plan
        if wheel["action"] != BUILD and (mode != arguments.INSTALL or wheel["action"] == EXAMINE)
    ]


def strip_operator_keys(wheel: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A planned wheel without what only the operator reads, which is long."""
    return {key: value for key, value in wheel.items() if key not in _OPERATOR_ONLY_KEYS}


def apply_examination(plan: Plan, examined: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """A plan with the actions that the node itself has determined for some of its wheels.

    :param examined: those wheels, as torch_extension returned them
    """
    actions = {wheel["filename"]: {key: wheel[key] for key in ("action", "reason")} for wheel in examined}
    return [{**wheel, **actions.get(wheel["filename"], {})} for wheel in plan]


def refuse_obstacles(plan: Plan, environment: t.Mapping[str, t.Any], mode: str) -> list[dict[str, t.Any]]:
    """A plan with what is known to stand in the way of an installation as conflicts of its wheels.

    What only files can tell later, such as what pip's settings forbid, the node says when it examines them.

    :param environment: as torch_info returned it; one of a survey of an earlier release may lack some of it
    """
    if mode != arguments.INSTALL:
        return [dict(wheel) for wheel in plan]
    python = environment["python"]
    obstacles = [
        ownership.explain_obstacle(python, python["site_packages"], python["access"]) if "access" in python else None,
        ownership.explain_missing_installer(environment),
    ]
    return [_with_conflicts(wheel, list(filter(None, obstacles)), environment) for wheel in plan]


def _with_conflicts(
    wheel: t.Mapping[str, t.Any], obstacles: list[str], environment: t.Mapping[str, t.Any]
) -> dict[str, t.Any]:
    if wheel["conflicts"] or wheel["action"] == EXAMINE:
        return dict(wheel)
    conflicts = [explain_shadow(wheel["name"], wheel["action"], environment)]
    if wheel["action"] != KEEP:
        conflicts += obstacles
    return {**wheel, "conflicts": list(filter(None, conflicts))}


def list_leftovers(plan: Plan, staged: t.Iterable[str], keep_files: bool) -> list[str]:
    """The files that earlier runs have left in the folder that wheels are brought to. An operator may keep wheels there, too.

    :param staged: the names of all files in that folder
    :param keep_files: whether whole wheels are to stay there
    """
    planned = set() if keep_files else {wheel["filename"] for wheel in plan}
    return [name for name in staged if name in planned or staging.is_part(name)]


def explain_refusal(plan: Plan, prefix: str) -> str | None:
    """Why a node cannot have what is planned for it, and what to do; None if it can.

    :param prefix: the folder of the environment
    """
    refused = [wheel for wheel in plan if wheel["conflicts"]]
    if not refused:
        return None
    lines = [_explain_conflicts(wheel, prefix) for wheel in refused]
    return "\n".join([*lines, f"Nothing was changed in {prefix}."])


def _explain_conflicts(wheel: t.Mapping[str, t.Any], prefix: str) -> str:
    reasons = f"{'; '.join(conflict.rstrip('.') for conflict in wheel['conflicts'])}."
    if not wheel["version"]:  # there is no wheel, and the reasons say of what
        return reasons
    advice = f" {_ADVICE_FOR_GUESSES}" if wheel.get("source") == GUESS else ""
    return f"{wheel['name']} {wheel['version']} cannot be installed in {prefix}: {reasons}{advice}"

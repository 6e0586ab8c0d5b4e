# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The plan of a node: what to ask it, what the answers to all requirements come to, and what is refused."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import arguments
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import EXAMINE
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import parse_requirement

Plan = t.Sequence[t.Mapping[str, t.Any]]

#: of a planned wheel: what is for the operator, and long
_NOT_FOR_NODES = ("refused", "newer", "warnings")


class Questions(t.NamedTuple):
    """What to ask a node, as options of torch_info."""

    distributions: list[str]
    sdists: list[str]


def questions(terms: t.Iterable[str], mode: str, sdist_url: str | t.Mapping[str, str] | None) -> Questions:
    """What the plan for some requirements has to know of a node.

    What is no requirement of a known package is left out: the plan is to say so, for all of them.

    :param mode: of the installation, one of ``arguments.MODES``
    :param sdist_url: where the operator says that the sdists are, which then are not asked for
    """
    wanted = []
    for term in terms:
        try:
            wanted.append(parse_requirement(term))
        except TorchExtensionError:
            continue
    given = {canonical(name) for name in sdist_url} if isinstance(sdist_url, t.Mapping) else set()
    asks = mode == arguments.PIP_CACHE and (not sdist_url or isinstance(sdist_url, t.Mapping))
    sdists = [str(each) for each in wanted if asks and each.version and each.name not in given]
    return Questions(["*", *(each.name for each in wanted)], sdists)


def unclear(plan: Plan, mode: str) -> list[dict[str, t.Any]]:
    """The wheels that the node has to look closer for, without what it need not hear.

    What is in pip's cache, or in a folder of wheels, no environment tells.
    """
    return [arguments.for_node(wheel) for wheel in plan if mode != arguments.INSTALL or wheel["action"] == EXAMINE]


def for_node(wheel: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A planned wheel as the node needs it."""
    return {key: value for key, value in wheel.items() if key not in _NOT_FOR_NODES}


def cleared(plan: Plan, examined: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """A plan with what the node has found out about some of its wheels."""
    found = {wheel["filename"]: {key: wheel[key] for key in ("action", "reason")} for wheel in examined}
    return [{**wheel, **found.get(wheel["filename"], {})} for wheel in plan]


def staged(plan: Plan, there: t.Iterable[str], keep_files: bool) -> list[str]:
    """What runs of ours have left in the folder that wheels are brought to, where an operator may keep wheels, too.

    :param keep_files: whether whole wheels are to stay there
    """
    ours = set() if keep_files else {wheel["filename"] for wheel in plan}
    return [name for name in there if name in ours or staging.is_part(name)]


def refusal(plan: Plan, executable: str) -> str | None:
    """Why a node cannot have what is planned for it, and what to do; None if it can.

    :param executable: the interpreter whose environment it is
    """
    refused = [wheel for wheel in plan if wheel["conflicts"]]
    if not refused:
        return None
    lines = []
    for wheel in refused:
        name = " ".join(filter(None, (wheel["name"], wheel["version"])))
        lines.append(f"{name} cannot be put into {executable}: {'; '.join(wheel['conflicts']).rstrip('.')}.")
    lines.append("Nothing was changed on this node.")
    if not any("torch_extension_" in line for line in lines):
        lines[-1] += " Knobs: torch_extension_packages (another version), torch_extension_python (another environment)."
    return "\n".join(lines)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Write a lock from the plans of nodes."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import BUILD
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.pip_index import Unobtainable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.diff import build_diff
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_requirements import (
    NodeRequirements,
    WantedFiles,
    declare,
    find_requirements,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.summary import Totals, describe_outcome
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    describe_kind,
    kind_of_node,
)

Plan = t.Mapping[str, t.Any]

_UNKNOWN_YET = "(known when it is downloaded)"


class _Fetched(t.NamedTuple):
    """What there is for the nodes of a lock on the control node."""

    nodes: dict[str, dict[str, t.Any]]  # as fetch_for_nodes returns them
    requirements: dict[str, NodeRequirements]
    downloads: list[dict[str, t.Any]]
    warnings: list[str]


def write_lock(
    plans: t.Mapping[str, Plan], path: str, context: DownloadContext, predict: bool = False, skip_refused: bool = False
) -> dict[str, t.Any]:
    """Write the lock of all nodes, unless it is there already.

    :param plans: of each node its ``environment`` and its ``wheels``, or why it was ``refused``; and ``nodes``, where it stands
        for several that are alike
    :param context: what is locked is downloaded to its cache
    :param predict: tell what would be written, and download nothing
    :param skip_refused: whether to lock the others where nodes were refused, or their plans have conflicts
    :raises TorchExtensionError: if the lock would lack anything that another node asks for; it is then as it was
    """
    before = lock_file.read_lock_text(path) if os.path.lexists(path) else ""
    lock = lock_file.parse_lock(before, path) if before else None
    plans = {", ".join(plan.get("nodes") or [node]): plan for node, plan in plans.items()}
    unbuilt: list[str] = []
    if predict:
        plans, unbuilt = _set_unbuilt_aside(plans)
    left_out = _group_nodes(_list_refusals(plans))
    if left_out and not skip_refused:
        raise TorchExtensionError(_explain_nothing_locked(left_out, plans, "torch_extension_skip_refused: true, or "))
    plans = _without_nodes(plans, left_out)
    fetched = _fetch(plans, context, predict)
    lock_plans: dict[str, dict[str, t.Any]] = {}
    unknown: set[str] = set()
    for node, plan in plans.items():
        wheels, entries = fetched.nodes[node]["wheels"], fetched.requirements[node].entries
        if predict:
            wheels, entries, names = _fill_in_from_lock(plan["environment"], wheels, entries, lock)
            unknown.update(names)
        lock_plans[node] = {"environment": plan["environment"], "wheels": wheels, "requirements": entries}
    data = build_lock(lock_plans)
    after = format_lock(data)
    if not predict:
        lock_file.parse_lock(after, path)  # nothing is written that cannot be read
        temporary.remove_leftovers(os.path.dirname(path))
        if after != before:
            _write_atomically(path, after)
    totals = Totals.of(data["environments"])
    return {
        "changed": after != before or bool(unbuilt),
        "path": path,
        "environments": totals.kinds,
        "files": totals.files,
        "size": totals.size,
        "left_out": [{"nodes": _split_names(nodes), "reason": reason} for reason, nodes in left_out.items()],
        "report": [
            describe_outcome(
                path, after != before or bool(unbuilt), predict, totals, is_complete=not unknown and not unbuilt
            ),
            *(f"left out: {line}" for line in _name_nodes(left_out)),
        ],
        "downloads": fetched.downloads,
        "diff": build_diff(path, before, after),
        "warnings": [
            *fetched.warnings,
            *_omission_warnings(plans, fetched.requirements),
            *([_unknown_warning(unknown)] if unknown else []),
            *([f"To be built first, and then in the lock, too: {', '.join(unbuilt)}."] if unbuilt else []),
        ],
    }


def _set_unbuilt_aside(plans: t.Mapping[str, Plan]) -> tuple[dict[str, Plan], list[str]]:
    """The plans without wheels that have to be built first, and the names of these."""
    rest = {
        node: plan
        if "refused" in plan
        else {**plan, "wheels": [wheel for wheel in plan["wheels"] if wheel.get("action") != BUILD]}
        for node, plan in plans.items()
    }
    wheels = [wheel for plan in plans.values() for wheel in plan.get("wheels", ())]
    unbuilt = {wheel["filename"] for wheel in wheels if wheel.get("action") == BUILD}
    return rest, sorted(unbuilt)


def _list_refusals(plans: t.Mapping[str, Plan]) -> t.Iterator[tuple[str, str]]:
    """Nodes that cannot have what they ask for, each with a reason."""
    for node, plan in plans.items():
        if "refused" in plan:
            yield node, plan["refused"]
            continue
        try:
            with explain_unforeseen(f"The plan of {node}"):
                check_environment(plan.get("environment"))
                reasons = [
                    _explain_refusal(wheel)
                    for wheel in plan["wheels"]
                    if wheel.get("conflicts") or not wheel.get("url")
                ]
        except TorchExtensionError as exc:
            reasons = [str(exc)]
        yield from ((node, reason) for reason in reasons)


def _explain_refusal(wheel: t.Mapping[str, t.Any]) -> str:
    reason = "; ".join(wheel.get("conflicts") or ["there is no wheel for it"])
    return reason if reason.startswith(wheel["name"]) else f"{wheel['name']}: {reason}"


def _without_nodes(plans: t.Mapping[str, Plan], left_out: t.Mapping[str, t.Sequence[str]]) -> dict[str, Plan]:
    """
    :raises TorchExtensionError: if no plan is left
    """
    skipped = {node for nodes in left_out.values() for node in nodes}
    left = {node: plan for node, plan in plans.items() if node not in skipped}
    if not left:
        fact = "There is no node to lock anything for. See --limit, and the nodes of the inventory or the survey."
        raise TorchExtensionError("\n".join([*_name_nodes(left_out), fact]))
    return left


def _fetch(plans: t.Mapping[str, Plan], context: DownloadContext, predict: bool) -> _Fetched:
    """Download all wheels and what they require, as far as that is allowed.

    :raises TorchExtensionError: if anything cannot be had
    """
    # what the wheels require is asked for below, for a lock wants all of it
    answer = fetch_for_nodes({node: {**plan, "requirements": False} for node, plan in plans.items()}, context, predict)
    finder = context.requirement_finder(predict=predict)
    wanted: dict[str, WantedFiles] = {}
    errors = [(node, error) for node in plans for error in answer["nodes"][node]["errors"]]
    for node, plan in plans.items():
        if answer["nodes"][node]["errors"]:
            continue
        try:
            with explain_unforeseen(f"What the wheels of {node} declare"):
                declaring = declare(plan["wheels"], answer["nodes"][node]["files"], context)
        except TorchExtensionError as exc:
            errors.append((node, str(exc)))
            continue
        wanted[node] = WantedFiles(plan["environment"], plan["wheels"], declaring)
    requirements = find_requirements(wanted, finder)
    errors += [(node, error) for node, found in requirements.items() for error in found.errors]
    if errors:
        raise TorchExtensionError(_explain_nothing_locked(_group_nodes(errors), plans))
    required = [{"url": os.path.basename(new), "size": os.path.getsize(new)} for new in finder.downloaded]
    required += [{"url": item.filename, "size": item.size or 0} for item in finder.foreseen]
    return _Fetched(answer["nodes"], requirements, answer["downloads"] + required, answer["warnings"])


def _group_nodes(reasons: t.Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The nodes of each reason."""
    nodes_of: dict[str, list[str]] = {}
    for node, reason in reasons:
        nodes_of.setdefault(reason, []).append(node)
    return nodes_of


def _name_nodes(nodes_of: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    return [f"{', '.join(nodes)}: {reason}" for reason, nodes in nodes_of.items()]


def _split_names(nodes: t.Iterable[str]) -> list[str]:
    """The names of nodes, of which those that are alike stand together."""
    return [name for joined in nodes for name in joined.split(", ")]


def _explain_nothing_locked(
    nodes_of: t.Mapping[str, t.Sequence[str]], plans: t.Mapping[str, Plan], knob: str = ""
) -> str:
    """Why there is no lock, and how to lock the nodes that it is not for, if there are any.

    :param nodes_of: the nodes of each reason
    :param knob: what leaves these nodes out, besides a limit
    """
    concerned = {node for nodes in nodes_of.values() for node in nodes}
    if concerned == plans.keys():
        return "\n".join([*_name_nodes(nodes_of), "Nothing was locked."])
    names = sorted(_split_names(concerned))
    limit = ",".join(["localhost", "all", *(f"!{name}" for name in names)])
    advice = (
        "Nothing was locked, because an incomplete lock would look complete. To lock the others without"
        f" {'this node' if len(names) == 1 else 'these nodes'}: {knob}--limit '{limit}'."
    )
    return "\n".join([*_name_nodes(nodes_of), advice])


def _omission_warnings(plans: t.Mapping[str, Plan], requirements: t.Mapping[str, NodeRequirements]) -> t.Iterator[str]:
    kinds: dict[str, set[str]] = {}
    omitted: dict[str, Unobtainable] = {}
    for node, found in requirements.items():
        for each in found.omitted:
            omitted.setdefault(each.name, each)
            kinds.setdefault(each.name, set()).add(describe_kind(kind_of_node(plans[node]["environment"])))
    for name, each in sorted(omitted.items()):
        yield (
            f"{each.fact}, {each.reason.rstrip('.')}. The lock goes without it, for all nodes of these kinds have it"
            f" ({'; '.join(sorted(kinds[name]))}); one that lacks it will be refused. {each.remedy}, and run the playbook lock again."
        )


def _fill_in_from_lock(
    environment: t.Mapping[str, t.Any],
    wheels: t.Iterable[t.Mapping[str, t.Any]],
    requirements: t.Iterable[t.Mapping[str, t.Any]] | None,
    lock: lock_file.Lock | None,
) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]], list[str]]:
    """The wheels and requirements of a prediction, with what only a download tells taken from the lock that is there.

    :returns: and, as a third, the names of what was not known
    """
    unknown = []
    if requirements is None:
        requirements = lock.requirements(environment) if lock else []
        unknown.append("what the wheels require")
    locked = {(item.get("url"), item["filename"]): item for item in lock.files()} if lock else {}

    def fill_in(item: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        if item["sha256"] and item["size"]:
            return dict(item)
        unknown.append(item["filename"])
        locked_item = locked.get((item.get("url"), item["filename"]), {})
        return {**item, **{key: item[key] or locked_item.get(key, _UNKNOWN_YET) for key in ("sha256", "size")}}

    return [*map(fill_in, wheels)], [*map(fill_in, requirements)], unknown


def _unknown_warning(unknown: t.Collection[str]) -> str:
    return f"Not known without a download, and taken from the lock that is there, if that has it: {', '.join(sorted(unknown))}."


def _write_atomically(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        atomic.write_bytes(path, text.encode())
    except OSError as exc:
        raise TorchExtensionError(
            f"The lock {path} cannot be written ({exc.strerror}). Name another place in torch_extension_lock."
        ) from exc

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Write a lock from the plans of nodes."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    NotCachedError,
    Required,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.diff import build_diff
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
    without_locked_requirements,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file

Plan = t.Mapping[str, t.Any]

_UNKNOWN_YET = "(known when it is downloaded)"


def write_lock(
    plans: t.Mapping[str, Plan], path: str, context: DownloadContext, predict: bool = False
) -> dict[str, t.Any]:
    """Write the lock of all nodes, unless it is there already.

    :param plans: of each node its ``environment`` and its ``wheels``
    :param context: what is locked is downloaded to its cache
    :param predict: tell what would be written, using no network
    :raises TorchExtensionError: if the lock would lack anything that a node asks for; it is then as it was
    """
    if not plans:
        raise TorchExtensionError("There is no node to lock anything for. See --limit, and the nodes of the survey.")
    _refuse_conflicts(plans)
    before = lock_file.read_lock_text(path) if os.path.lexists(path) else ""
    lock = lock_file.parse_lock(before, path) if before else None
    fetch_plans = {
        node: {
            "environment": without_locked_requirements(plan["environment"], lock),
            "wheels": plan["wheels"],
            "requirements": False,  # asked for below, for a lock wants to know more of them
        }
        for node, plan in plans.items()
    }
    fetched = fetch_for_nodes(fetch_plans, context, predict)
    requirements = context.requirement_finder(offline=predict)
    lock_plans, errors, unknown = {}, [], set()
    for node, plan in fetch_plans.items():
        answer = fetched["nodes"][node]
        try:
            if answer["errors"]:
                raise TorchExtensionError(" ".join(answer["errors"]))
            wheels = answer["wheels"]
            if predict:
                wheels, uncached = _fill_in_from_lock(wheels, lock)
                unknown.update(uncached)
            if predict and len(answer["files"]) < len(wheels):
                raise NotCachedError
            required = requirements.find_missing(
                answer["files"], plan["environment"], lock_file.locked_requirements(plan["wheels"])
            )
            entries = [_requirement_entry(item) for item in required]
        except NotCachedError:
            entries = lock.requirements(plan["environment"]) if lock else []
            unknown.add("what the wheels require")
        except TorchExtensionError as exc:
            errors.append(f"{node}: {exc}")
            continue
        lock_plans[node] = {"environment": plan["environment"], "wheels": wheels, "requirements": entries}
    if errors:
        raise TorchExtensionError(_explain_nothing_locked("\n".join(dict.fromkeys(errors))))
    data = build_lock(lock_plans)
    after = format_lock(data)
    if not predict:
        lock_file.parse_lock(after, path)  # nothing is written that cannot be read
        if after != before:
            _write_atomically(path, after)
    return {
        "changed": after != before,
        "path": path,
        "environments": len(data["environments"]),
        "downloads": fetched["downloads"]
        + [{"url": os.path.basename(new), "size": os.path.getsize(new)} for new in requirements.downloaded],
        "diff": build_diff(path, before, after),
        "warnings": [*fetched["warnings"], *([_unknown_warning(unknown)] if unknown else [])],
    }


def _refuse_conflicts(plans: t.Mapping[str, Plan]) -> None:
    nodes_by_reason: dict[str, list[str]] = {}
    for node, plan in plans.items():
        for wheel in plan["wheels"]:
            if wheel.get("conflicts") or not wheel.get("url"):
                reason = "; ".join(wheel.get("conflicts") or ["there is no wheel for it"])
                nodes_by_reason.setdefault(f"{wheel['name']}: {reason}", []).append(node)
    if nodes_by_reason:
        raise TorchExtensionError(
            _explain_nothing_locked(
                "\n".join(f"{', '.join(nodes)}: {reason}" for reason, nodes in nodes_by_reason.items())
            )
        )


def _explain_nothing_locked(reasons: str) -> str:
    return (
        f"{reasons}\nNothing was locked, for a lock of half the nodes would pass for one of all. Knobs:"
        " torch_extension_packages, torch_extension_python, or --limit to leave nodes out on purpose."
    )


def _fill_in_from_lock(
    wheels: t.Iterable[t.Mapping[str, t.Any]], lock: lock_file.Lock | None
) -> tuple[list[dict[str, t.Any]], list[str]]:
    """The wheels of a prediction, with hashes and sizes that are unknown taken from the lock; and the names of those."""
    locked = {(item["url"], item["filename"]): item for item in lock.files() if "url" in item} if lock else {}
    filled_in, uncached = [], []
    for wheel in wheels:
        item = dict(wheel)
        if not item["sha256"] or not item["size"]:
            locked_item = locked.get((item["url"], item["filename"]), {})
            item["sha256"] = item["sha256"] or locked_item.get("sha256", _UNKNOWN_YET)
            item["size"] = item["size"] or locked_item.get("size", _UNKNOWN_YET)
            uncached.append(item["filename"])
        filled_in.append(item)
    return filled_in, uncached


def _unknown_warning(unknown: t.Collection[str]) -> str:
    names = ", ".join(sorted(unknown))
    return f"Not known without a download, and taken from the lock that is there, if that has it: {names}."


def _requirement_entry(item: Required) -> dict[str, t.Any]:
    return {
        "name": item.name,
        "version": item.version,
        "filename": item.filename,
        "size": os.path.getsize(item.path),
        "sha256": item.sha256,
        "required_by": list(item.required_by),
    }


def _write_atomically(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        atomic.write_bytes(path, text.encode())
    except OSError as exc:
        raise TorchExtensionError(
            f"The lock {path} cannot be written ({exc.strerror}). Name another place in torch_extension_lock."
        ) from exc

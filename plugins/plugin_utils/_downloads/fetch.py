# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring the files of many nodes' plans to the control node, each distinct one once."""

from __future__ import annotations

import os
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Download, Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import Requirements
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import locked_requirements

Plan = t.Mapping[str, t.Any]

_AT_ONCE = 4  # downloads


class _Wanted(t.NamedTuple):
    """What makes two files of two plans the same."""

    url: str
    filename: str
    sha256: str | None
    size: int | None  # bytes


def fetch(
    plans: t.Mapping[str, Plan],
    context: DownloadContext,
    predict: bool = False,
    meanwhile: t.Callable[[], object] = lambda: None,
) -> dict[str, t.Any]:
    """Download what nodes need.

    A file that cannot be had is an error of the nodes that need it, not of the others.

    :param plans: of each node its ``environment``, its ``wheels``, and whether to fetch what these require (``requirements``)
    :param predict: tell what would be downloaded, using no network
    :param meanwhile: is called while the files are on their way
    :returns: ``nodes``: for each node ``wheels``, ``requirements``, ``files`` and ``errors``; ``downloads``: what is new in
        the cache; ``facts``: what the binaries of each wheel need, by its SHA-256, as far as it is there; ``warnings``: what
        the operator should know
    :raises TorchExtensionError: if nothing can be fetched for anybody
    """
    downloader, requirements = context.wheels(), context.requirements()
    users: dict[_Wanted, list[str]] = {}
    for node, plan in plans.items():
        for wheel in plan["wheels"]:
            users.setdefault(_wanted(wheel), []).append(node)
    files: dict[_Wanted, Download] = {}
    errors: dict[_Wanted, str] = {}
    facts: dict[str, dict[str, t.Any]] = {}
    with context.progress, ThreadPoolExecutor(_AT_ONCE) as pool:
        bring = _predicted if predict else Downloader.get
        coming = {wanted: pool.submit(bring, downloader, *wanted) for wanted in users}
        meanwhile()
    for wanted, outcome in coming.items():
        try:
            files[wanted] = file = outcome.result()
            if file.path and file.sha256 not in facts:
                facts[file.sha256] = context.facts(file.path, file.sha256)
        except TorchExtensionError as exc:
            files.pop(wanted, None)
            errors[wanted] = f"{exc} Wanted by {_listed(users[wanted])}."
    answers = {node: _answer(plan, files, errors, None if predict else requirements) for node, plan in plans.items()}
    downloads = [{"url": wanted.url, "size": file.size} for wanted, file in files.items() if file.is_new]
    downloads += [{"url": os.path.basename(path), "size": os.path.getsize(path)} for path in requirements.new]
    warnings = [file.warning for file in files.values() if file.warning]
    return {"nodes": answers, "downloads": downloads, "facts": facts, "warnings": warnings}


def _predicted(downloader: Downloader, url: str, filename: str, sha256: str | None, size: int | None) -> Download:
    return downloader.cached(url, filename, sha256) or Download("", sha256 or "", size or 0, is_new=True)


def _wanted(wheel: t.Mapping[str, t.Any]) -> _Wanted:
    return _Wanted(wheel["url"], wheel["filename"], (wheel.get("sha256") or "").lower() or None, wheel.get("size"))


def _answer(
    plan: Plan, files: t.Mapping[_Wanted, Download], errors: t.Mapping[_Wanted, str], requirements: Requirements | None
) -> dict[str, t.Any]:
    wanted = [_wanted(wheel) for wheel in plan["wheels"]]
    answer: dict[str, t.Any] = {
        "wheels": [
            {**wheel, "sha256": files[key].sha256 or None, "size": files[key].size}
            for wheel, key in zip(plan["wheels"], wanted, strict=True)
            if key in files
        ],
        "requirements": [],
        "files": [files[key].path for key in wanted if key in files and files[key].path],
        "errors": [errors[key] for key in wanted if key in errors],
    }
    if plan.get("requirements") and requirements and not answer["errors"]:
        try:
            required = requirements.complete(answer["files"], plan["environment"], locked_requirements(plan["wheels"]))
        except TorchExtensionError as exc:
            return {**answer, "errors": [str(exc)]}
        answer["requirements"] = [
            {"name": item.name, "filename": item.filename, "sha256": item.sha256} for item in required
        ]
        answer["files"] += [item.path for item in required]
    return answer


def _listed(nodes: t.Sequence[str], most: int = 10) -> str:
    return ", ".join(nodes[:most]) + (f" and {len(nodes) - most} more" if len(nodes) > most else "")

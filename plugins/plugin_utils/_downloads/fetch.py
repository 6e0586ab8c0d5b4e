# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Download the files in many nodes' plans to the control node, each distinct one once."""

from __future__ import annotations

import os
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import join_names
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import (
    find_modules,
    read_metadata,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Download, Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.prediction import look_ahead
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    Declaring,
    RequirementFinder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import schema
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import locked_requirements

Plan = t.Mapping[str, t.Any]

_AT_ONCE = 4  # downloads
_FILE = {
    "filename": schema.words(255),
    "sha256": schema.nullable(schema.words(64)),
    "size": schema.nullable(schema.size),
}
_LOCKED = schema.record({**_FILE, "name": schema.words(255), "version": schema.words(255)})
_WHEEL = schema.record(
    {"url": schema.words(4096), "filename": _FILE["filename"]},
    {**_FILE, "requirements": schema.nullable(schema.list_of(_LOCKED, 10000))},
)
_PLAN = schema.record({"wheels": schema.list_of(_WHEEL, 1000)})


class _WheelKey(t.NamedTuple):
    """What tells whether two plans want the same file."""

    url: str
    filename: str
    sha256: str | None
    size: int | None  # bytes


def fetch_for_nodes(
    plans: t.Mapping[str, Plan],
    context: DownloadContext,
    predict: bool = False,
    meanwhile: t.Callable[[], object] = lambda: None,
) -> dict[str, t.Any]:
    """Download what nodes need.

    A file that cannot be had is an error of the nodes that need it, not of the others.

    :param plans: of each node its ``environment``, its ``wheels``, and whether to fetch what these require (``requirements``)
    :param predict: tell what would be downloaded, and download nothing
    :param meanwhile: is called while the files are on their way
    :returns: ``nodes``: for each node ``wheels``, ``requirements``, ``files`` and ``errors``; ``downloads``: what is new in
        the cache; ``facts``: what the binaries of each wheel need, by its SHA-256, as far as it is there; ``warnings``: what
        the operator should know
    :raises TorchExtensionError: if nothing can be fetched for anybody
    """
    downloader, requirements = context.wheel_downloader(), context.requirement_finder(predict=predict)
    results: dict[str, dict[str, t.Any]] = {}
    nodes_of: dict[_WheelKey, list[str]] = {}
    provenances: dict[_WheelKey, Provenance] = {}
    for node, plan in plans.items():
        try:
            with explain_unforeseen(f"The plan of {node}"):
                _check_plan(plan)
                wanted = {_key_of(wheel): Provenance.of(wheel) for wheel in plan["wheels"]}
        except TorchExtensionError as exc:
            results[node] = _failure(str(exc))
            continue
        for key, provenance in wanted.items():
            nodes_of.setdefault(key, []).append(node)
            provenances.setdefault(key, provenance)
    plans = {node: plan for node, plan in plans.items() if node not in results}
    files: dict[_WheelKey, Download] = {}
    declaring: dict[_WheelKey, Declaring] = {}  # those whose requirements are known
    errors: dict[_WheelKey, str] = {}
    facts: dict[str, dict[str, t.Any]] = {}
    with context.progress, ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = {
            key: pool.submit(_foresee_wheel if predict else _get_wheel, downloader, context, key, provenance)
            for key, provenance in provenances.items()
        }
        meanwhile()
    for key, future in futures.items():
        try:
            with explain_unforeseen(f"{key.filename} ({key.url})"):
                files[key], requires = future.result()
                if requires is not None:
                    declaring[key] = Declaring(key.filename, requires)
                file = files[key]
                if file.path and file.sha256 not in facts:
                    facts[file.sha256] = context.read_wheel_facts(file.path, file.sha256)
        except TorchExtensionError as exc:
            files.pop(key, None)
            errors[key] = f"{exc} Wanted by {join_names(nodes_of[key])}."
    for node, plan in plans.items():
        try:
            with explain_unforeseen(f"What {node} wants"):
                results[node] = _node_result(plan, files, declaring, errors, requirements)
        except TorchExtensionError as exc:
            results[node] = _failure(str(exc))
    downloads = [{"url": file.other_url or key.url, "size": file.size} for key, file in files.items() if file.is_new]
    downloads += [{"url": os.path.basename(path), "size": os.path.getsize(path)} for path in requirements.downloaded]
    downloads += [{"url": item.filename, "size": item.size or 0} for item in requirements.foreseen]
    warnings = [file.warning for file in files.values() if file.warning]
    warnings += [
        f"What {key.filename} requires besides torch is known when it is downloaded, for its server gives no part of a file."
        for key in dict.fromkeys(
            _key_of(wheel) for plan in plans.values() if plan.get("requirements") for wheel in plan["wheels"]
        )
        if key in files and key not in declaring
    ]
    return {"nodes": results, "downloads": downloads, "facts": facts, "warnings": warnings}


def _check_plan(plan: t.Any) -> None:
    """Refuse what is no plan of a node.

    :raises TorchExtensionError: with the first thing in it that cannot be so
    """
    misfit = _PLAN(plan, "plan")
    if misfit:
        raise TorchExtensionError(f"{misfit}. Wanted is what wheel_plan returned for the node.")
    if plan.get("requirements"):
        check_environment(plan.get("environment"))


def _failure(error: str) -> dict[str, t.Any]:
    """The result of a node for which nothing can be fetched."""
    return {"wheels": [], "requirements": [], "files": [], "errors": [error]}


def _get_wheel(
    downloader: Downloader, _context: DownloadContext, wheel: _WheelKey, provenance: Provenance
) -> tuple[Download, tuple[str, ...] | None]:
    file = downloader.get(wheel.url, wheel.filename, wheel.sha256, wheel.size, provenance)
    return file, read_metadata(file.path).requires


def _foresee_wheel(
    downloader: Downloader, context: DownloadContext, wheel: _WheelKey, provenance: Provenance
) -> tuple[Download, tuple[str, ...] | None]:
    cached = downloader.find_cached(wheel.url, wheel.filename, wheel.sha256, provenance)
    if cached:
        return cached, read_metadata(cached.path).requires
    prospect = look_ahead(wheel.url, wheel.filename, context.ca_path, provenance, context.locate)
    size = wheel.size or prospect.size or 0
    return Download("", wheel.sha256 or "", size, is_new=True), prospect.metadata and prospect.metadata.requires


def _key_of(wheel: t.Mapping[str, t.Any]) -> _WheelKey:
    return _WheelKey(wheel["url"], wheel["filename"], (wheel.get("sha256") or "").lower() or None, wheel.get("size"))


def _node_result(
    plan: Plan,
    files: t.Mapping[_WheelKey, Download],
    declaring: t.Mapping[_WheelKey, Declaring],
    errors: t.Mapping[_WheelKey, str],
    requirements: RequirementFinder,
) -> dict[str, t.Any]:
    keys = [_key_of(wheel) for wheel in plan["wheels"]]
    result: dict[str, t.Any] = {
        "wheels": [
            {
                **wheel,
                "url": files[key].other_url or wheel["url"],
                "sha256": files[key].sha256 or None,
                "size": files[key].size,
                **_find_imports(wheel, files[key]),
            }
            for wheel, key in zip(plan["wheels"], keys, strict=True)
            if key in files
        ],
        "requirements": [],
        "files": [files[key].path for key in keys if key in files and files[key].path],
        "errors": [errors[key] for key in keys if key in errors],
    }
    if plan.get("requirements") and not result["errors"]:
        wheels = [declaring[key] for key in keys if key in declaring]
        try:
            required = requirements.find_missing(wheels, plan["environment"], locked_requirements(plan["wheels"]))
        except TorchExtensionError as exc:
            return {**result, "errors": [str(exc)]}
        result["requirements"] = [
            {"name": item.name, "filename": item.filename, "sha256": item.sha256, "size": item.size}
            for item in required
        ]
        result["files"] += [item.path for item in required if item.path]
    return result


def _find_imports(wheel: t.Mapping[str, t.Any], file: Download) -> dict[str, list[str]]:
    """What to import to try out a wheel of a package that the table lacks."""
    if wheel.get("imports") != [] or not file.path:
        return {}
    with archives.open_zip(file.path, archives.WHEEL) as archive:  # whose METADATA has been read
        return {"imports": find_modules(archive.file_names())}

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the wheels of nodes require, for their lock: whether a node has it today or not."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.pip_index import Unobtainable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.prediction import look_ahead
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    Declaring,
    Required,
    RequirementFinder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import locked_requirements


class WantedFiles(t.NamedTuple):
    """What a node is to get."""

    environment: t.Mapping[str, t.Any]
    wheels: t.Sequence[t.Mapping[str, t.Any]]  # as they were planned
    declaring: t.Sequence[Declaring] | None  # what these declare; None if only a download tells


class NodeRequirements(t.NamedTuple):
    """What the wheels of a node require."""

    entries: list[dict[str, t.Any]] | None = None  # of a lock; None, as any size or hash, if only a download tells
    omitted: t.Sequence[Unobtainable] = ()  # what the lock goes without: it cannot be had, and the node has it
    errors: t.Sequence[str] = ()


def declare(
    wheels: t.Iterable[t.Mapping[str, t.Any]], paths: t.Iterable[str], context: DownloadContext
) -> list[Declaring] | None:
    """What wheels declare to require; of those that are not on the control node it is read where they are.

    :param paths: of those that are
    :returns: None if only a download tells
    :raises TorchExtensionError: if the download of one would fail
    """
    path_of = {os.path.basename(path): path for path in paths}
    declaring = []
    for wheel in wheels:
        path = path_of.get(wheel["filename"])
        if path:
            declaring.append(Declaring.read(path))
            continue
        provenance = context.provenance_of(wheel)
        metadata = look_ahead(wheel["url"], wheel["filename"], context.ca_path, provenance, context.locate).metadata
        if metadata is None:
            return None
        declaring.append(Declaring(wheel["filename"], metadata.requires))
    return declaring


def find_requirements(nodes: t.Mapping[str, WantedFiles], finder: RequirementFinder) -> dict[str, NodeRequirements]:
    """Find what the wheels of all nodes require.

    A file on the control node is preferred to a newer one on the index. So nodes with a newer Python come first, which may take
    newer files, and all is found anew until nothing more is downloaded: neither the order of the nodes nor what an earlier run
    has downloaded changes the result of the next run.
    """
    in_order = sorted(nodes, key=lambda node: (_sort_key(nodes[node].environment), node))
    while True:
        before = set(finder.downloaded)
        found = {node: _find_for_node(nodes[node], finder) for node in in_order}
        if set(finder.downloaded) == before:
            return found
        finder.forget_found()


def _sort_key(environment: t.Mapping[str, t.Any]) -> tuple[int, ...]:
    """The newest Python first; of its bugfix releases the oldest, for one choice is to serve all of a kind."""
    release = [int(digits) for digits in re.findall(r"\d+", str(environment["python"]["version"]))]
    return (*(-number for number in release[:2]), *release[2:])


def _find_for_node(node: WantedFiles, finder: RequirementFinder) -> NodeRequirements:
    if node.declaring is None:
        return NodeRequirements()
    try:
        with explain_unforeseen("What its wheels require"):
            required, unobtainable = finder.find_all(node.declaring, node.environment, locked_requirements(node.wheels))
    except TorchExtensionError as exc:
        return NodeRequirements(errors=[str(exc)])
    installed = {name for name, version in node.environment["distributions"].items() if version is not None}
    return NodeRequirements(
        [_lock_entry(item) for item in required],
        [each for each in unobtainable if each.name in installed],
        [str(each) for each in unobtainable if each.name not in installed],
    )


def _lock_entry(item: Required) -> dict[str, t.Any]:
    return {
        "name": item.name,
        "version": item.version,
        "filename": item.filename,
        "size": item.size,
        "sha256": item.sha256,
        "required_by": list(item.required_by),
    }

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What was found on a node and what was done there, in words for people, a line a fact."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import COPY
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import INSTALL, KEEP, REPLACE

_TRIED = {
    trial.GPU: "forward and backward on each GPU, against torch's own operators",
    trial.IMPORT: "imported",
    trial.NONE: "not at all",
}
_DONE = {INSTALL: "installed", REPLACE: "replaced"}


def planned(environment: t.Mapping[str, t.Any], plan: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """What a node is, and those wheels of its plan that are there already.

    :param environment: what torch_info returned
    :param plan: what wheel_plan returned
    """
    python, torch = environment["python"], environment["torch"] or {}
    gpus = [gpu["name"] for gpu in environment.get("gpus") or []]
    found = [
        f"Python {python['version']} ({python['executable']})",
        f"torch {torch.get('version') or 'none'}",
        f"CUDA {torch.get('cuda') or 'none'}",
        f"C++11 ABI {torch.get('cxx11_abi', 'unknown')}",
        environment["platform"]["machine"],
        f"GPUs: {', '.join(gpus) or 'none'}",
    ]
    kept = (line for wheel in plan if wheel["action"] == KEEP for line in _wheel(wheel, wheel, "kept"))
    return [f"found: {', '.join(found)}", *kept]


def done(
    wheels: t.Iterable[t.Mapping[str, t.Any]], result: t.Mapping[str, t.Any], mode: str, predicts: bool
) -> list[str]:
    """What has become of wheels on a node.

    :param wheels: as they were planned
    :param result: what torch_extension returned, and ``proofs`` and ``delivery``, if there are any
    :param mode: of the installation
    :param predicts: whether it only would be so
    """
    lines = []
    for wheel in wheels:
        outcome = next(each for each in result["wheels"] if each["filename"] == wheel["filename"])
        word = "put in place" if mode != "install" and outcome["action"] == INSTALL else _DONE.get(outcome["action"])
        is_kept = outcome["action"] == KEEP
        lines += _wheel(wheel, outcome, "kept" if is_kept else f"{'would be ' if predicts else ''}{word}")
        if outcome.get("verify"):
            lines.append(f"tried out: {_TRIED[outcome['verify']]}")
        for gpu in outcome.get("gpus") or []:
            lines.append(
                f"on {gpu['device']} ({gpu['name']}): forward and backward in {gpu['seconds']} s, largest error"
                f" {gpu['max_error']:.2g}"
            )
    for proof in result.get("proofs") or []:
        because = f" (it {'; it '.join(proof['reasons'])})" if proof["reasons"] else ""
        lines.append(f"proof: {proof['verdict']}{because}")
    lines += [f"with: {filename}" for filename in result["requirements"]]
    lines += _brought(result.get("delivery"))
    left = [*(result.get("leftovers") or []), *result["cleared"]]
    lines += [f"cleared away, for a killed run left it: {name}" for name in left]
    return [*lines, *(find_links(result["find_links"]) if result.get("find_links") else [])]


def _brought(delivery: t.Mapping[str, t.Any] | None) -> list[str]:
    """Over the connection of Ansible itself there is nothing to tell."""
    if not delivery or delivery["way"] == COPY:
        return []
    return [f"brought by: {delivery['way']}, {delivery.get('url') or delivery['folder']}"]


def find_links(folder: str) -> list[str]:
    """How the installers of a node come to the wheels in a folder of its environment."""
    return [
        f"pip install finds it in: {folder}",
        f"uv pip install finds it with: --no-index --find-links {folder}",
    ]


def _wheel(wheel: t.Mapping[str, t.Any], outcome: t.Mapping[str, t.Any], what: str) -> list[str]:
    return [
        f"{wheel['name']} {wheel['version']}: {what} (found: {outcome['reason']})",
        f"from: {wheel.get('url') or 'nowhere'}",
        f"why: {wheel.get('ground') or 'unknown'}",
    ]

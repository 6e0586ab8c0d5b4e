# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The report for the operator: what was found on a node and what was done there, one fact a line."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import format_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import COPY
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.self_description import (
    ADDED,
    USER,
    VARIABLE,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    BUILD,
    INSTALL,
    KEEP,
    REPLACE,
)

# done, and to be done
_TRIAL_DESCRIPTIONS = {
    trial.GPU: ("forward and backward on each GPU, against torch's own operators",) * 2,
    trial.IMPORT: ("imported", "import"),
    trial.NONE: ("not at all",) * 2,
}
# where torch is, if not in the environment's own folder
_PLACES = {USER: "of this user alone", VARIABLE: "on PYTHONPATH", ADDED: "added to the search path"}
_ACTION_PARTICIPLES = {INSTALL: "installed", REPLACE: "replaced"}
_PLANNED_PARTICIPLES = {KEEP: "kept", BUILD: "to be built, and installed then"}


def report_plan(environment: t.Mapping[str, t.Any], plan: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Report what a node is, and the wheels of its plan that are there already, or that there are none of yet.

    :param environment: what torch_info returned
    :param plan: what wheel_plan returned
    """
    python = environment["python"]
    facts = [
        f"Python {python['version']} ({python['executable']})",
        *_describe_torch(environment["torch"], python),
        environment["platform"]["machine"],
        *([f"GPUs: {_describe_gpus(environment['gpus'])}"] if "gpus" in environment else []),
    ]
    told = (
        line
        for wheel in plan
        if wheel["action"] in _PLANNED_PARTICIPLES
        for line in _report_wheel(wheel, wheel, _PLANNED_PARTICIPLES[wheel["action"]])
    )
    return [f"found: {', '.join(facts)}", *told]


def _describe_torch(torch: t.Mapping[str, t.Any] | None, python: t.Mapping[str, t.Any]) -> list[str]:
    if torch is None:
        return ["torch none"]
    folder = os.path.dirname(torch["path"])
    owner = next((entry["owner"] for entry in python.get("search_path", ()) if entry["folder"] == folder), None)
    place = f" ({_PLACES[owner]}: {folder})" if owner in _PLACES else ""
    abi = "unknown" if torch["cxx11_abi"] is None else torch["cxx11_abi"]
    return [f"torch {torch['version']}{place}", f"CUDA {torch['cuda'] or 'none'}", f"C++11 ABI {abi}"]


def _describe_gpus(gpus: t.Sequence[t.Mapping[str, t.Any]] | None) -> str:
    if gpus is None:
        return "unknown"
    return ", ".join(gpu["name"] or "of an unknown model" for gpu in gpus) or "none"


def report_result(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    result: t.Mapping[str, t.Any],
    mode: str,
    is_prediction: bool,
) -> list[str]:
    """Report what has become of wheels on a node.

    :param wheels: as they were planned
    :param requirements: what they require, as wheel_fetch returned it
    :param result: what torch_extension returned, and ``proofs`` and ``delivery``, if there are any
    :param mode: of the installation
    :param is_prediction: whether nothing was done yet (check mode)
    """
    lines = []
    for wheel in wheels:
        outcome = next((each for each in result.get("wheels", ()) if each["filename"] == wheel["filename"]), None)
        if outcome is None:
            raise TorchExtensionError(
                f"The node says nothing of {wheel['filename']}, of which it was asked. Run again."
            )
        is_placed = mode != "install" and outcome["action"] == INSTALL
        participle = "put in place" if is_placed else _ACTION_PARTICIPLES.get(outcome["action"])
        is_kept = outcome["action"] == KEEP
        change = "kept" if is_kept else f"{'would be ' if is_prediction else ''}{participle}"
        lines += _report_wheel(wheel, outcome, change)
        if outcome.get("verify"):
            description = _TRIAL_DESCRIPTIONS[outcome["verify"]][is_prediction]
            lines.append(f"{'would be ' if is_prediction else ''}tried out: {description}")
        for gpu in outcome.get("gpus") or []:
            lines.append(
                f"on {gpu['device']} ({gpu['name']}): forward and backward in {gpu['seconds']} s, largest error"
                f" {gpu['max_error']:.2g}"
            )
    for proof in result.get("proofs") or []:
        because = f" (it {'; it '.join(proof['reasons'])})" if proof["reasons"] else ""
        lines.append(f"proof: {proof['verdict']}{because}")
    sizes = {file["filename"]: file.get("size") for file in requirements}
    lines += [
        f"{'would come ' if is_prediction else ''}with: {_with_size(filename, sizes.get(filename))}"
        for filename in result["requirements"]
    ]
    lines += _report_delivery(result.get("delivery"))
    lines += _report_cleared(result, is_prediction)
    return [*lines, *(explain_find_links(result["find_links"]) if result.get("find_links") else [])]


def report_removal(result: t.Mapping[str, t.Any], is_prediction: bool) -> list[str]:
    """Report what has become of packages that shall not be on a node.

    :param result: what torch_extension returned
    :param is_prediction: whether nothing was done yet (check mode)
    """
    would_be = "would be " if is_prediction else ""
    lines = []
    for package in result["packages"]:
        if package["action"] == KEEP:
            lines.append(f"{package['name']}: nothing to remove (found: {package['reason']})")
            continue
        name = " ".join(filter(None, (package["name"], package["version"])))
        lines.append(f"{name}: {would_be}removed (found: {package['reason']})")
    lines += [f"{'would go ' if is_prediction else ''}with: {requirement}" for requirement in result["requirements"]]
    lines += [f"stays: {line}" for line in result["stays"]]
    return lines + _report_cleared(result, is_prediction)


def _report_cleared(result: t.Mapping[str, t.Any], is_prediction: bool) -> list[str]:
    cleared = "would be cleared away" if is_prediction else "cleared away"
    left = [*(result.get("leftovers") or []), *result["cleared"]]
    return [f"{cleared}, for a run that broke off left it: {name}" for name in left]


def _report_delivery(delivery: t.Mapping[str, t.Any] | None) -> list[str]:
    """Nothing, if the files came over Ansible's own connection, as usual."""
    if not delivery or delivery["way"] == COPY:
        return []
    return [f"brought by: {delivery['way']}, {delivery.get('url') or delivery['folder']}"]


def _with_size(file: str, size: int | None) -> str:
    return f"{file} ({format_size(size)})" if size else file


def explain_find_links(folder: str) -> list[str]:
    """How pip and uv on the node find the wheels in a folder of its environment."""
    return [
        f"pip install finds it in: {folder}",
        f"uv pip install finds it with: --no-index --find-links {folder}",
    ]


def _report_wheel(wheel: t.Mapping[str, t.Any], outcome: t.Mapping[str, t.Any], change: str) -> list[str]:
    sdist = (wheel.get("build") or {}).get("sdist", {}).get("filename") if outcome["action"] == BUILD else None
    origin = sdist or wheel.get("url") or wheel.get("filename") or "nowhere that is recorded"
    return [
        f"{wheel['name']} {wheel['version']}: {change} (found: {outcome['reason']})",
        f"from: {_with_size(origin, None if outcome['action'] == KEEP else wheel.get('size'))}",
        f"why: {wheel.get('ground') or 'unknown'}",
    ]

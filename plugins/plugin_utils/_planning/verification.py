# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the control node says of installed packages: whether they are the wanted ones and fit, and the report for people.

It compares versions, for which a node has no packaging.
"""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import remedies, trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify.remedies import Fault, describe_faults
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.selection import EXACT
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.coupling_check import find_unused
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import parse_requirement

OK, BROKEN, NOTHING = "ok", "BROKEN", "nothing installed"

Package = t.Mapping[str, t.Any]
Environment = t.Mapping[str, t.Any]

_NO_TORCH = Fault("it needs torch, and the environment has none", remedies.PROVIDE_TORCH)
_LOOKED_AT = {
    trial.GPU: "files, wheel, import, forward and backward on",
    trial.IMPORT: "files, wheel, import",
    trial.NONE: "files, wheel",
}


def judge_packages(
    packages: t.Sequence[Package], wanted: t.Iterable[str], environment: Environment, match: str
) -> list[dict[str, t.Any]]:
    """Installed packages as the node has described them, and wanted ones that are not installed, with all that is wrong with them.

    :param wanted: requirements that the node has to meet
    :param environment: as torch_info returns it, with all its distributions
    :param match: EXACT or PROVEN
    :raises TorchExtensionError: for a requirement that is none of a known package
    """
    terms: dict[str, list[str]] = {}
    for term in wanted:
        terms.setdefault(parse_requirement(term).name, []).append(term)
    unused = find_unused(environment)
    described = {package["name"]: package for package in packages}
    return [
        {
            **_add_faults(
                package,
                [*_find_misfits(package, environment, match), *_find_unmet(package, terms.get(package["name"], []))],
            ),
            "remarks": [each.reason for each in unused if each.name == package["name"]],
        }
        for package in (described.get(name) or _absent(name) for name in sorted({*described, *terms}))
    ]


def report_packages(packages: t.Collection[Package], environment: Environment) -> list[str]:
    """The report: what state a node is in, and why, a line a fact. Of nodes that are alike it is the same: nothing in it is measured."""
    if not packages:
        torch = environment["torch"]
        return [NOTHING, f"torch {torch['version']}, and no extension" if torch else "no torch, and no extension"]
    lines = [OK if all(package["ok"] for package in packages) else BROKEN]
    for package in packages:
        name = describe_name(package)
        lines += [f"{name}: {reason}" for reason in package["reasons"]]
        if package["ok"]:
            lines.append(f"{name}: ok ({_describe_check(package)})")
        lines += [f"{name}: {remark}" for remark in package["remarks"]]
    needed = dict.fromkeys(package["remedy"] for package in packages if package["remedy"])
    return [*lines, *(f"to repair it: {remedy}" for remedy in needed)]


def describe_name(package: Package) -> str:
    return " ".join(filter(None, (package["name"], package["version"])))


def _absent(name: str) -> dict[str, t.Any]:
    """A package that is wanted and not installed."""
    faults = [Fault("it is not installed", remedies.INSTALL_WANTED)]
    package: dict[str, t.Any] = {"name": name, "version": None, "filename": None, "verify": trial.NONE, "gpus": []}
    return {**package, **describe_faults(faults)}


def _add_faults(package: Package, faults: t.Sequence[Fault]) -> dict[str, t.Any]:
    """Add what is wrong with a package, as the cause of what the node has found."""
    if not faults:
        return dict(package)
    added = describe_faults(faults)
    return {**package, **added, "reasons": [*added["reasons"], *package["reasons"]]}


def _find_misfits(package: Package, environment: Environment, match: str) -> list[Fault]:
    """Why the wheel that a package was installed from is not for the environment. What was built there has no label."""
    if environment["torch"] is None:
        return [_NO_TORCH]
    if package["filename"] is None:
        return []
    asset = judging.Asset(package["filename"], url="")
    return [
        Fault(
            f"of the wheel it was installed from, {mismatch}"
            if mismatch.sentence
            else f"the wheel it was installed from is for {mismatch.part} {mismatch.wanted}, this node has {mismatch.found}",
            remedies.REPLACE_UNFIT,
        )
        for candidate in judging.judge_wheels(package["name"], [asset], environment).candidates
        for mismatch in candidate.mismatches
        if match == EXACT or mismatch.part not in ("torch", "label")  # whether it loads here was tried
    ]


def _find_unmet(package: Package, terms: t.Iterable[str]) -> t.Iterator[Fault]:
    """How an installed package is not the wanted one."""
    version, filename = package["version"], package["filename"]
    for term in terms if version else ():
        wanted = parse_requirement(term)
        other_label = wanted.label_mismatch(filename) if filename else None
        if not wanted.is_met_by(version):
            yield Fault(f"wanted is {term}", remedies.INSTALL_WANTED)
        elif other_label:
            yield Fault(f"the wheel it was installed from {other_label}", remedies.INSTALL_WANTED)


def _describe_check(package: Package) -> str:
    devices: dict[str, list[str]] = {}
    for gpu in package["gpus"]:
        devices.setdefault(gpu["name"], []).append(gpu["device"])
    on = ", ".join(f"{', '.join(numbers)} ({name})" for name, numbers in devices.items())
    return " ".join(filter(None, (_LOOKED_AT[package["verify"]], on)))

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether a wheel has to be installed on a node, decided from the node's environment alone."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.wheel_file import public_version

INSTALL = "install"  # it is not there
REPLACE = "replace"  # another one is there
KEEP = "keep"  # it is there
EXAMINE = "examine"  # the environment does not tell; only the node can
REMOVE = "remove"  # it shall not be there
BUILD = "build"  # there is no wheel of it yet

_MAX_FILES = 3  # that a reason names


class Action(t.NamedTuple):
    """What to do with a wheel on a node, and the reason in a few words."""

    action: str
    reason: str


def decide_from_environment(
    wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], reinstall: bool = False
) -> Action:
    """What to do with a wheel in the environment that pip installs into.

    A wheel is identified by its file name, which says for which torch, CUDA, Python and ABI it was built: if torch has been
    upgraded since, another name is wanted now than the one that was installed.

    :param wheel: ``name``, ``version``, ``filename`` and ``sha256`` of the wheel to install (``sha256`` may be None)
    :param environment: as torch_info returns it
    :param reinstall: whether one that is there is installed again
    """
    return apply_reinstall(_decide(wheel, environment), reinstall)


def apply_reinstall(action: Action, reinstall: bool) -> Action:
    """What to do with a wheel, where the operator may want to have it again although it is there."""
    if reinstall and action.action == KEEP:
        return Action(REPLACE, f"{action.reason}; reinstall replaces it all the same")
    return action


def _decide(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    name, version = wheel["name"], wheel["version"]
    if name not in environment["distributions"]:
        return Action(EXAMINE, f"whether {name} is installed was not asked")
    installed = environment["distributions"][name]
    if installed is None:
        return Action(INSTALL, f"{name} is not installed")
    if public_version(installed) != version:
        return Action(REPLACE, f"{name} {installed} is installed")
    damage = explain_damage(name, environment)
    if damage:
        return Action(REPLACE, damage)
    origin = environment["origins"].get(name)
    if origin is None:
        return Action(EXAMINE, f"{name} {installed} is installed, from which wheel is not recorded")
    if origin["filename"] != wheel["filename"]:
        return Action(REPLACE, f"{name} {installed} is installed from {origin['filename']}")
    if not wheel["sha256"] or not origin["sha256"]:
        unknown = "no hash is published" if origin["sha256"] else "its hash was not recorded"
        return Action(
            KEEP, f"{name} {installed} is installed from a wheel of this name, which is all that is known: {unknown}"
        )
    if wheel["sha256"].lower() != origin["sha256"]:
        return Action(
            REPLACE, f"{name} {installed} is installed from a file of this name with sha256 {origin['sha256']}"
        )
    return Action(KEEP, f"{name} {installed} is installed from this wheel")


def explain_damage(name: str, environment: t.Mapping[str, t.Any]) -> str | None:
    """That an installed distribution is not whole, with its files; None where nothing tells that it is not.

    :param environment: as torch_info returns it; one of a survey tells nothing of damage
    """
    damage = environment.get("damage", {}).get(name)
    if not damage:
        return None
    return f"{name} {environment['distributions'][name]} is installed, but {' and '.join(describe_files(**damage))}"


def describe_files(missing: t.Sequence[str], changed: t.Sequence[str]) -> list[str]:
    """What is wrong with files of a distribution, by their paths."""
    lines = []
    for paths, fault in ((missing, "missing"), (changed, "not as installed")):
        if paths:
            more = f" and {len(paths) - _MAX_FILES} more" if len(paths) > _MAX_FILES else ""
            lines.append(f"{', '.join(paths[:_MAX_FILES])}{more} {'is' if len(paths) == 1 else 'are'} {fault}")
    return lines


def explain_shadow(name: str, action: str, environment: t.Mapping[str, t.Any]) -> str | None:
    """Why a distribution would not be imported once it is installed, and what to do; None where it would be.

    A copy that comes first and is the one that is recorded as installed may stay: it is what Python imports.

    :param action: what has to be done with it
    """
    shadow = environment.get("shadows", {}).get(name)
    if shadow is None or (action == KEEP and shadow["version"] == environment["distributions"].get(name)):
        return None
    copy = f"{name} {shadow['version']}" if shadow["version"] else f"a copy of {name}"
    return (
        f"{copy} in {shadow['file']} ({shadow['place']}) comes before {environment['python']['site_packages']}: Python would import that"
        " one, whatever is installed. Remove it, or take it off the search path (PYTHONNOUSERSITE=1 or another PYTHONPATH in the play's"
        " environment and in that of the jobs)"
    )

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which wheels have to be built for a fleet, and where: each distinct one once."""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import join_names
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import BUILD
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import sort_architectures
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import glibc_numbers

#: values of torch_extension_builder that name no host: a node of the fleet is chosen, or Slurm allocates one
ANY_NODE, SLURM = "", "slurm"
#: the builder where the nodes are known from a survey alone
CONTROL_NODE = "localhost"
MAX_NODES = 5  # that a message names

Plan = t.Mapping[str, t.Any]


class Build(t.NamedTuple):
    """A wheel to build. All of it goes through JSON."""

    id: str  # of all that the wheel depends on
    name: str
    version: str
    builder: str  # a host
    is_slurm: bool  # the builder has Slurm allocate a machine
    python: str | None  # the interpreter on the builder, where that is a node of the kind
    nodes: list[str]  # that want it
    sdist: dict[str, t.Any]
    kind: dict[str, t.Any]  # BuildKind
    torch: str  # the version that nodes have, with its label
    cuda: str  # of that torch
    libc: str | None  # the oldest glibc of these nodes
    architectures: list[str]  # empty where nobody has told


class Builds(t.NamedTuple):
    """What is to be built, and for which nodes nothing can be."""

    builds: list[Build]
    refused: dict[str, list[str]]  # by node


class _Member(t.NamedTuple):
    """A node and a wheel of its plan that is built, or to be built."""

    node: str
    plan: Plan
    wheel: t.Mapping[str, t.Any]

    @property
    def libc(self) -> str | None:
        return t.cast("str | None", self.wheel["build"]["libc"])

    @property
    def package(self) -> str:
        return f"{self.wheel['name']} {self.wheel['version']}"


class _Place(t.NamedTuple):
    """Where to build."""

    host: str
    python: str | None = None  # the interpreter there, where it is a node of the kind
    environment: t.Mapping[str, t.Any] | None = None  # likewise


def plan_builds(plans: t.Mapping[str, Plan]) -> Builds:
    """Choose what to build for nodes, and where.

    :param plans: of each node what wheel_plan returned: ``environment``, ``builds``, ``builder``, ``delivery``, and ``machine``,
        if it may be the builder itself. Nodes that have a built wheel already count for the architectures.
    """
    groups: dict[str, list[_Member]] = {}
    builds: list[Build] = []
    refused: dict[str, list[str]] = {}
    for node, plan in plans.items():
        try:
            with explain_unforeseen(f"The plan of {node}"):
                keys = [(_group_key(plan, wheel), _Member(node, plan, wheel)) for wheel in plan["builds"]]
        except TorchExtensionError as exc:
            refused[node] = [str(exc)]
            continue
        for key, member in keys:
            groups.setdefault(key, []).append(member)
    for key, members in groups.items():
        wanting = [member for member in members if member.wheel["action"] == BUILD]
        if not wanting:
            continue
        try:
            with explain_unforeseen(f"To build {wanting[0].package}"):
                place, reasons = _choose_place(wanting)
                served = [member for member in wanting if member.node not in reasons]
                builds += [_describe_build(key, place, served, members)] if place else []
        except TorchExtensionError as exc:
            reasons = {member.node: str(exc) for member in wanting}
        for node, reason in reasons.items():
            refused.setdefault(node, []).append(reason)
    return Builds(builds, refused)


def _group_key(plan: Plan, wheel: t.Mapping[str, t.Any]) -> str:
    build = wheel["build"]
    sdist = build["sdist"]["sha256"] or build["sdist"]["url"]
    return json.dumps([wheel["name"], wheel["version"], sdist, build["kind"], plan["builder"]], sort_keys=True)


def _describe_build(key: str, place: _Place, served: t.Sequence[_Member], members: t.Sequence[_Member]) -> Build:
    wheel = served[0].wheel
    architectures = sort_architectures(name for member in members for name in member.wheel["build"]["architectures"])
    torch = (place.environment or served[0].plan["environment"])["torch"]
    digest = hashlib.sha256(json.dumps([key, architectures]).encode()).hexdigest()
    return Build(
        id=f"{wheel['name']}-{wheel['version']}-{digest[:16]}",
        name=wheel["name"],
        version=wheel["version"],
        builder=place.host,
        is_slurm=served[0].plan["builder"] == SLURM,
        python=place.python,
        nodes=[member.node for member in served],
        sdist=wheel["build"]["sdist"],
        kind=wheel["build"]["kind"],
        torch=torch["version"],
        cuda=torch["cuda"],
        libc=min((member.libc for member in served if member.libc), key=glibc_numbers, default=None),
        architectures=list(architectures),
    )


def _choose_place(members: t.Sequence[_Member]) -> tuple[_Place | None, dict[str, str]]:
    """Where to build what some nodes want, and for which of them it cannot be built there, with the reason."""
    setting = members[0].plan["builder"]
    if setting == SLURM:
        host = members[0].plan["delivery"]["slurm_host"]
        reason = (
            "torch_extension_builder is slurm, and torch_extension_slurm_host names no machine with Slurm's commands."
        )
        return (_Place(host), {}) if host else (None, {member.node: reason for member in members})
    if setting != ANY_NODE:
        return _Place(setting), {}
    if all(member.plan["machine"] is None for member in members):  # of nodes in a survey nobody can be asked
        return _Place(CONTROL_NODE), {}
    return _choose_node(members)


def _choose_node(members: t.Sequence[_Member]) -> tuple[_Place | None, dict[str, str]]:
    """Of the nodes that can compile the one with the oldest glibc, and of these the one with the most cores free.

    A node with an older glibc could not load what is built there.
    """
    obstacles = {member.node: explain_unable(member.plan["machine"]) for member in members}
    nodes_of: dict[str, list[str]] = {}
    for node, obstacle in obstacles.items():
        if obstacle:
            nodes_of.setdefault(obstacle, []).append(node)
    lacking = "; ".join(f"{join_names(nodes, MAX_NODES)}: {obstacle}" for obstacle, nodes in nodes_of.items())
    able = [member for member in members if not obstacles[member.node]]
    if not able:
        return None, {
            member.node: f"{member.package} has to be built, and no node that wants it can do that ({lacking}). Install what is missing"
            " on one of them, or name another machine in torch_extension_builder."
            for member in members
        }
    chosen = min(able, key=lambda member: (glibc_numbers(member.libc), -_free_cores(member.plan["machine"]), member.node))
    place = _Place(chosen.node, chosen.plan["machine"]["python"]["executable"], chosen.plan["environment"])
    reasons = {
        member.node: f"{member.package} can be built on {chosen.node}, whose glibc {chosen.libc} is newer than {member.libc} of this node,"
        f" and on no node with an older one ({lacking}). Install what is missing on one of them, or name a machine with an older glibc"
        " in torch_extension_builder."
        for member in members
        if member.libc and glibc_numbers(member.libc) < glibc_numbers(chosen.libc)
    }
    return place, reasons


def explain_unable(machine: t.Mapping[str, t.Any] | None) -> str | None:
    """Why a machine can compile no extension, in a few words; None if it can.

    :param machine: as build_job has described it
    """
    if machine is None:
        return "it was not asked"
    missing = []
    if machine["cxx"] is None:
        missing.append("no C++ compiler (g++)")
    if not machine["python_headers"]:
        missing.append(f"no headers of Python {machine['python']['version']} (Python.h)")
    return " and ".join(missing) or None


def explain_lost(build: Build, words: str) -> str:
    """That a builder cannot be reached.

    :param words: of the connection
    """
    return (
        f"{build.name} {build.version} cannot be built on {build.builder}, which cannot be reached: {' '.join(words.split()).rstrip('.')}."
        " Look at that machine, or name another one in torch_extension_builder."
    )


def _free_cores(machine: t.Mapping[str, t.Any]) -> float:
    return float(machine["cores"]) - float(machine["load"])

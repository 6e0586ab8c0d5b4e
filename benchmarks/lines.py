# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is compared: the lines of the benchmark, each with its command and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass

# What the commands count on, beside the stand. All else of Ansible is at its defaults.
ENVIRONMENT = {
    "STAND_STATE": "$PWD/.cache/stand-bench",
    "PATH": "$PWD/.venv-bench/bin:$PATH",
    "ANSIBLE_CONFIG": "$PWD/benchmarks/plays/ansible.cfg",
    "ANSIBLE_HOME": "$PWD/.cache/bench/ansible",
    "ANSIBLE_COLLECTIONS_PATH": "$PWD/.ansible/collections",
}
SIZES = {"large": 250_000_000, "small": 25_000_000}  # bytes
ANY = "any"

# NODES, LAST (of them), FORKS, RUNS and WHEEL (its file name) are filled in
STAND = "tests/stand/stand"
UP = f"{STAND} down; {STAND} up NODES"
PUBLISH = {
    size: f"{STAND} publish example/flash-attention-{size} v2.8.3.post2 .cache/bench/{size}/WHEEL" for size in SIZES
}
PLAY = f"{STAND} control ansible-playbook -i {STAND} --forks FORKS benchmarks/plays"
NAIVE = f"{PLAY}/naive.yml -e wheel=$PWD/.cache/bench/large/WHEEL"
FORGET = "rm -rf .cache/bench/downloads"
MEMORY = f"python benchmarks/memory.py {PLAY}"


@dataclass(frozen=True)
class Line:
    means: str
    command: str
    on: str = ""  # the nodes that this line leaves behind; ANY nodes; else new ones
    before: str = ""  # not timed
    changes: str = "none"  # which nodes Ansible must have changed: all, last or none
    downloads: bool = False  # whether the control node must have downloaded something, or must not
    leaves: str = ""  # the size of the wheel that every node must have afterwards
    layer: str = "torch"  # of the stand, what the nodes are made of


LINES = {
    "naive-first": Line("the play that one writes first", NAIVE, changes="all", leaves="large"),
    "naive-again": Line("the same again", NAIVE, on="naive-first", leaves="large"),
    "floor": Line("ssh, without Ansible", "benchmarks/floor.sh .cache/bench/large/WHEEL FORKS", leaves="large"),
    "role-download": Line(
        "the role, with the download",
        f"{PLAY}/role.yml",
        before=FORGET,
        changes="all",
        downloads=True,
        leaves="large",
    ),
    "role-first": Line("the role, the wheel is in its cache", f"{PLAY}/role.yml", changes="all", leaves="large"),
    "role-idle": Line("the role, nothing to do", f"{PLAY}/role.yml", on="role-first", leaves="large"),
    "role-idle-open": Line(
        "the same, asked for any version", f"{PLAY}/role.yml -e version=", on="role-first", leaves="large"
    ),
    "ping": Line("one bare module round trip", f"{PLAY}/ping.yml", on=ANY),
    "role-one-new": Line(
        "the role, one node is new",
        f"{PLAY}/role.yml",
        on="role-first",
        before=f"{STAND} ssh LAST /opt/venv/bin/pip uninstall --quiet --yes flash-attn einops",
        changes="last",
        leaves="large",
    ),
}
# In runs of their own, since watching takes time. With the download, for that is done on the control node, too.
MEMORY_LINES = {
    "memory-role-small": Line(
        "the role with the download, 25 MB",
        f"{MEMORY}/role.yml -e size=small",
        before=FORGET,
        changes="all",
        downloads=True,
        leaves="small",
    ),
    "memory-role": Line(
        "the role with the download, 250 MB",
        f"{MEMORY}/role.yml",
        before=FORGET,
        changes="all",
        downloads=True,
        leaves="large",
    ),
    "memory-role-idle": Line("the role, nothing to do", f"{MEMORY}/role.yml", on="memory-role", leaves="large"),
    "memory-ping": Line("one bare module round trip", f"{MEMORY}/ping.yml", on=ANY),
    "memory-bare-role": Line("a role with as many arguments, which only pings", f"{MEMORY}/bare_role.yml", on=ANY),
}
# What every machine of the cluster may send and receive, and what the control node may send.
LINKS = {"narrow": "512mbit 64mbit", "equal": "512mbit 512mbit"}
WAYS = ("copy", "shared", "pull", "slurm")
DELIVERY_LINES = {
    f"{way}-{links}": Line(
        f"the role by {way}, links {rates.replace(' ', ', the control node: ')}",
        f"{PLAY}/delivery.yml -e way={way}",
        before=f"benchmarks/site.sh {way} {rates}",
        changes="all",
        leaves="large",
        layer="slurm" if way == "slurm" else "torch",
    )
    for links, rates in LINKS.items()
    for way in WAYS
}
PROBE = "benchmarks/probe.sh RUNS"
DECISION = "python benchmarks/decision.py RUNS"
#: what needs no play, or no nodes
APART = {"probe": PROBE, "decision": DECISION}
ALL = {**LINES, **DELIVERY_LINES, **MEMORY_LINES}

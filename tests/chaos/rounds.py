# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens in a round, drawn from the campaign's seed and the round's number: the same for both are the same."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

INSTALL, LOCK, BUNDLE = "install", "lock", "bundle"
COPY, SHARED, PULL, SLURM = "copy", "shared", "pull", "slurm"
SITE_PACKAGES, FIND_LINKS, PIP_CACHE = "install", "find_links", "pip_cache"

#: of what a file gets in place of its bytes
DAMAGES = ("flipped", "cut", "emptied", "zeroed")

#: What goes wrong on a node while a run is going, and how often one is drawn.
ON_NODE = {
    "ssh killed on the node": 4,
    "ssh killed on the control node": 1,
    "module killed": 6,
    "node off": 5,
    "cable cut": 4,
    "line slow": 2,
    "node's disk full": 4,
    "share read-only": 1,
    "corrupt stage": 2,
    "corrupt share": 1,
    "corrupt pull folder": 1,
}
#: What goes wrong for all of them.
FOR_ALL = {
    "nothing": 5,
    "control node killed": 5,
    "control process killed": 3,
    "control node's disk full": 2,
    "second operator": 5,
    "source faulty": 3,
    "pull server down": 2,
}
#: What has gone wrong before it.
BEFORE = {
    "corrupt wheel in the cache": 3,
    "corrupt hash in the cache": 1,
    "corrupt requirement in the cache": 2,
    "corrupt answer in the cache": 2,
    "corrupt facts in the cache": 1,
    "corrupt stage": 1,
    "corrupt share": 1,
    "corrupt pull folder": 1,
    "corrupt find-links": 3,
    "corrupt pip's cache": 2,
    "corrupt installed file": 2,
    "corrupt bundle": 1,
    "corrupt lock": 1,
}


@dataclasses.dataclass(frozen=True)
class Event:
    kind: str
    node: str
    moment: float  # of the time that a run takes; below 0: before it
    seconds: float  # that it lasts, where it lasts
    amount: float  # 0 to 1: how much, or which
    damage: str


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the operator wants on a node."""

    way: str
    mode: str
    keeps: bool


@dataclasses.dataclass(frozen=True)
class Round:
    number: int
    action: str
    source: str
    new_version: bool
    empty_cache: bool
    looks: bool  # at the nodes before the next run, which otherwise finds them as they are
    again: bool  # another run that has nothing to do
    wishes: dict[str, Wish]
    events: tuple[Event, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def draw(seed: str, number: int, nodes: Sequence[str], cluster: Sequence[str]) -> Round:
    """
    :param cluster: nodes that Slurm serves; in a round there are these, or the other ones
    """
    dice = random.Random(f"{seed}-{number}")  # noqa: S311 - no secret
    is_slurm = bool(cluster) and dice.random() < 0.15
    chosen = list(cluster if is_slurm else nodes)
    wishes = {node: _draw_wish(dice, is_slurm) for node in chosen}
    action = dice.choices((INSTALL, LOCK, BUNDLE), (8, 1, 1))[0]
    source = dice.choices(("release", "directory", "lock", "bundle"), (5, 2, 2, 2))[0]
    before = [_draw(dice, BEFORE, node, -1) for node in chosen if dice.random() < 0.25]
    meanwhile = [_draw(dice, ON_NODE, node, _moment(dice, 0.15)) for node in chosen if dice.random() < 0.9]
    meanwhile.append(_draw(dice, FOR_ALL, chosen[0], _moment(dice, 0.4)))
    events = [
        event for event in (*before, *sorted(meanwhile, key=lambda event: event.moment)) if event.kind != "nothing"
    ]
    return Round(
        number=number,
        action=action,
        source=source,
        new_version=dice.random() < 0.9,
        empty_cache=dice.random() < 0.4,
        looks=dice.random() < 0.6,
        again=dice.random() < 0.1,
        wishes=wishes,
        events=tuple(events),
    )


def _draw_wish(dice: random.Random, is_slurm: bool) -> Wish:
    way = SLURM if is_slurm else dice.choices((COPY, SHARED, PULL), (3, 2, 2))[0]
    mode = dice.choices((SITE_PACKAGES, FIND_LINKS, PIP_CACHE), (6, 2, 2))[0]
    return Wish(way, mode, keeps=dice.random() < 0.04)


def _moment(dice: random.Random, first: float) -> float:
    return round(dice.uniform(first, 0.98), 3)


def _draw(dice: random.Random, kinds: dict[str, int], node: str, moment: float) -> Event:
    return Event(
        kind=dice.choices(list(kinds), list(kinds.values()))[0],
        node=node,
        moment=moment,
        seconds=dice.choice((0.5, 1, 2, 6)),
        amount=round(dice.random(), 3),
        damage=dice.choice(DAMAGES),
    )

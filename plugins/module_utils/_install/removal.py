# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What a removal does to a node, whatever the mode."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import KEEP, REMOVE


class Outcome(t.NamedTuple):
    """What becomes of a package that shall not be there."""

    name: str
    version: str | None  # None where it is not known, or there is none
    action: str  # REMOVE or KEEP
    reason: str


class Removal(t.NamedTuple):
    """What goes, and what stays though one may think that it goes."""

    packages: list[Outcome]
    requirements: list[str]  # what came with them and goes, too, in words
    stays: list[str]  # in words, with the reason
    leftovers: t.Sequence[str] = ()  # of killed runs, which are cleared away
    settings: dict[str, str] | None = None  # the change of a file of settings, as Ansible's diff has it

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        goes = any(package.action == REMOVE for package in self.packages)
        return bool(goes or self.requirements or self.leftovers or self.settings)


def removed(name: str, version: str | None, reason: str) -> Outcome:
    """A package that goes."""
    return Outcome(name, version, REMOVE, reason)


def explain_need(what: str, users: t.Sequence[str]) -> str:
    """That something stays because others need it."""
    return f"{what} ({' and '.join(users)} {'needs' if len(users) == 1 else 'need'} it)"


def not_there(name: str, place: str) -> Outcome:
    """A package that there is nothing to do for.

    :param place: where it is not
    """
    return Outcome(name, None, KEEP, f"{name} is not {place}")

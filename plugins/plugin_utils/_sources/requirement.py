# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A requirement of a known package, as sources are asked for it."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet


class WheelRequirement(t.NamedTuple):
    """A requirement of a known package."""

    name: str  # normalised
    specifier: SpecifierSet
    version: str | None  # the one that the specifier pins, if it pins one

    def __str__(self) -> str:
        return f"{self.name}{self.specifier}"

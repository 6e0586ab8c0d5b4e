# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A requirement of a known package, as sources are asked for it."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import labels

with contextlib.suppress(ImportError):  # whoever reads a requirement says so before
    from packaging.version import InvalidVersion

if t.TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet


class WheelRequirement(t.NamedTuple):
    """A requirement of a known package."""

    name: str  # normalised
    specifier: SpecifierSet
    version: str | None  # the one that the specifier pins, if it pins one
    label: str | None = None  # the local label that the wheel is to bear, normalised; None if any will do

    def __str__(self) -> str:
        """Without the label, by which nothing is listed."""
        return f"{self.name}{self.specifier}"

    def is_met_by(self, version: str) -> bool:
        """Whether an installed version will do, as pip has it."""
        try:
            return self.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            return False

    def label_mismatch(self, filename: str) -> str | None:
        """How the label of a wheel differs from the one that is asked for, in words that follow "it"; None if it does not."""
        found = normalise_label(labels.pip_filename(filename).split("-")[1].partition("+")[2])
        if self.label in (None, found):
            return None
        has = f"bears the label +{found}" if found else "bears no label"
        return f"{has}, and +{self.label} is asked for"


def normalise_label(label: str) -> str:
    """A local label as PEP 440 compares it."""
    parts = re.split(r"[._-]", label.lower())
    return ".".join(str(int(part)) if part.isdecimal() else part for part in parts)

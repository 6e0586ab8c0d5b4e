# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What a lock or a bundle comes to, in words."""

from __future__ import annotations

import typing as t


class Totals(t.NamedTuple):
    """The files of a lock, each distinct one once."""

    kinds: int  # of nodes
    files: int
    size: int  # bytes, of the files of which it is known

    @classmethod
    def of(cls, environments: t.Sequence[t.Mapping[str, t.Any]]) -> Totals:
        """Count what is in the environments of a lock, or of a prediction of one, where sizes may be anything."""
        items = [item for entry in environments for item in (*entry["wheels"], *entry["requirements"])]
        sizes = {(item["filename"], item["sha256"]): item["size"] for item in items}
        return cls(len(environments), len(sizes), sum(size for size in sizes.values() if isinstance(size, int)))

    def __str__(self) -> str:
        return f"{_count(self.kinds, 'kind')} of nodes, {_count(self.files, 'wheel')}, {_format_size(self.size)}"


def describe_outcome(path: str, changed: bool, predict: bool, totals: Totals, is_complete: bool = True) -> str:
    """Which file it is, whether this run has written it, and what is in it.

    :param is_complete: whether all is known that the totals count
    """
    outcome = f"{'would be' if predict else 'was'} written" if changed else "is up to date"
    return f"{path} {outcome}: {totals}{'' if is_complete else ' (as far as is known without a download)'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _format_size(size: int) -> str:
    return f"{size} bytes" if size < 100_000 else f"{size / 1e6:.1f} MB ({size} bytes)"

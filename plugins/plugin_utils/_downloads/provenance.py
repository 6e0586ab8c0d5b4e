# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Who has told that a wheel is at its address, which is what there is to say where it is not there."""

from __future__ import annotations

import re
import typing as t
from urllib.parse import urlsplit

_GUESS, _INDEX = "guess", "index"  # sources as the operator writes them
_GITHUB_HOST = "github.com"
_VERSION_KNOBS = "Choose another version in torch_extension_packages, or another torch on the node."


class Provenance(t.NamedTuple):
    """Who has told of a wheel, as the lookup ``wheel`` has it; None stands for what is not known."""

    source: str | None = None
    release: str | None = None  # the tag of the release in which GitHub's API lists it
    ground: str | None = None  # why it was chosen, in words
    other_urls: tuple[str, ...] = ()  # further links to this file
    is_locked: bool = False  # a lock has told of it, which had it from that source

    @classmethod
    def of(cls, wheel: t.Mapping[str, t.Any]) -> Provenance:
        """That of a planned wheel, which need not have all of its keys."""
        return cls(
            wheel.get("source"),
            wheel.get("release"),
            wheel.get("ground"),
            tuple(wheel.get("other_urls") or ()),
            is_locked=wheel.get("requirements") is not None,
        )

    def explain_missing(self, url: str) -> str:
        """Why a wheel may be missing at its address, and what to do. It follows "URL does not exist (404)"."""
        host = urlsplit(url).hostname
        if self.is_locked:
            return (
                f", though the lock has it (from {self.source}): it was removed there since, or {host} has not got it. Run the"
                " playbook lock again, or have it put back."
            )
        if self.source == _GUESS:
            releases = re.sub(r"/releases/download/([^/]+)/.*", r"/releases/tag/\1", url)
            mirror = "" if host == _GITHUB_HOST else f" Or {host} (torch_extension_github_url) has not got it."
            return (
                f", and nobody has told that it does: {self.ground or 'it was guessed'}. Most likely there is no wheel of this"
                f" version for this torch, CUDA, Python and C++ ABI; what there is stands at {releases}.{mirror} Source release"
                f" (torch_extension_sources) knows what there is, where GitHub's API answers. {_VERSION_KNOBS}"
            )
        if self.release:
            told = f", though GitHub's API lists it in release {self.release}"
            if host == _GITHUB_HOST:
                return (
                    f"{told}: it was removed just now, or the repository is private, of which GitHub gives no file to who is not"
                    f" signed in. {_VERSION_KNOBS}"
                )
            return (
                f"{told}: {host} has not got it. If that is a mirror, have it fetch the file, or set torch_extension_github_url to"
                " another mirror (https://github.com is GitHub's own address); or name another source in"
                " torch_extension_sources."
            )
        if self.source and self.source.partition(":")[0] != _INDEX:
            return (
                f", though {self.source} has told of it: the file was removed, or {host} has not got all of it. See"
                " torch_extension_sources."
            )
        if self.source:
            return (
                f", though the page of {self.source} links to it: the page is out of date, or {host} has not got all that is"
                " listed. Mend the index, or name another source in torch_extension_sources."
            )
        return f": {host} has not got it. See where the address comes from."

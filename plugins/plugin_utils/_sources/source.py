# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The sources of wheels, as the operator writes them: ``KIND`` or ``KIND:LOCATION``."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings

RELEASE, GUESS, GITHUB, INDEX, DIRECTORY, BUNDLE = "release", "guess", "github", "index", "directory", "bundle"

#: how each kind is written
SOURCE_EXAMPLES = {
    RELEASE: "release",
    GUESS: "guess",
    GITHUB: "github:mjun0812/flash-attention-prebuild-wheels",
    INDEX: "index:https://wheels.example/simple/",
    DIRECTORY: "directory:/srv/wheels",
    BUNDLE: "bundle:/media/disk/bundle",
}


class Source(t.NamedTuple):
    """A source of wheels."""

    text: str  # as the operator wrote it
    kind: str
    location: str


def parse_source(text: str) -> Source:
    """Read one entry of torch_extension_sources.

    :raises TorchExtensionError: if it is no source
    """
    kind, colon, location = str(text).strip().partition(":")
    if kind not in SOURCE_EXAMPLES or bool(colon) != (":" in SOURCE_EXAMPLES[kind]) or (colon and not location):
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources is no source of wheels. Wanted is one of: {', '.join(SOURCE_EXAMPLES.values())}."
        )
    if kind == GITHUB and not re.fullmatch(r"[\w.-]+/[\w.-]+", location):
        raise TorchExtensionError(
            f"{text!r} in torch_extension_sources names no repository. Wanted is github:OWNER/NAME."
        )
    if kind == INDEX:
        settings.check_url(location, f"{kind} in torch_extension_sources")
    if kind in (DIRECTORY, BUNDLE):
        location = os.path.expanduser(location)
        if not os.path.isabs(location):
            raise TorchExtensionError(
                f"{text!r} in torch_extension_sources has a relative path. Wanted is an absolute one, or one from ~."
            )
    return Source(str(text).strip(), kind, location)

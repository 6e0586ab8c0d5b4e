# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Packages of the site's own, of which the table knows nothing: they are those that the operator's folders have."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import DIRECTORY, Source


def is_in_folder(name: str, sources: t.Iterable[Source]) -> bool:
    """Whether a folder among the sources has a wheel or an sdist of a package; one that cannot be read has none.

    :param name: normalised
    """
    folders = [source.location for source in sources if source.kind == DIRECTORY]
    if not folders:
        return False
    # most packages are in the table
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import folder, sdists

    def is_sdist(filename: str) -> bool:
        return sdists.parse_filename(filename, {name}) is not None

    for path in folders:
        with contextlib.suppress(TorchExtensionError):
            if folder.list_wheels(path, name) or folder.list_files(path, is_sdist):
                return True
    return False

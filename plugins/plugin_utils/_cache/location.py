# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Where the control node keeps what it downloads, which is for the user alone who runs Ansible."""

from __future__ import annotations

import os

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import find_stranger, trust
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.users import user_name

#: of the cache, for wheels that were built for this control node
BUILT_FOLDER = "built"


def locate_cache(chosen: str | None) -> str:
    """The cache folder: the operator's choice, or else the one that the XDG base directory specification wants.

    It need not exist.

    :param chosen: torch_extension_cache_dir
    :raises TorchExtensionError: if others can change what is in it, which is installed on nodes
    """
    folder = os.path.abspath(chosen or _default_folder())
    try:
        stranger = find_stranger(folder, trust())
    except OSError as exc:
        raise TorchExtensionError(
            f"The cache folder {folder} on the control node cannot be reached ({exc.strerror}: {exc.filename}). Set"
            " torch_extension_cache_dir."
        ) from exc
    if stranger:
        remedy = f"Take that right away ({stranger.remedy})" if stranger.remedy else "Make it this user's"
        raise TorchExtensionError(
            f"The cache folder {folder} on the control node cannot be used, for what is in it is installed on nodes: {stranger}. Wanted is"
            f" a folder that nobody but {' and '.join(dict.fromkeys([user_name(os.geteuid()), 'root']))} can change. {remedy}, or set"
            " torch_extension_cache_dir to another folder."
        )
    return folder


def _default_folder() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "airgap.torch_extensions")

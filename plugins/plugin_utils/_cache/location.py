# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Where the control node keeps what it downloads, unless torch_extension_cache_dir says otherwise."""

from __future__ import annotations

import os

#: of the cache, for wheels that were built for this control node
BUILT_FOLDER = "built"


def default_cache_dir() -> str:
    """The cache folder that the XDG base directory specification wants."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "airgap.torch_extensions")

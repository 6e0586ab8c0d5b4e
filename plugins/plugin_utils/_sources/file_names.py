# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which names of files a server may tell."""

from __future__ import annotations

#: characters; the file becomes one of the cache, which gives it prefix and suffix, and a file system has 255
_MAX_LENGTH = 200


def is_file_name(name: str) -> bool:
    """Whether a name can be that of a wheel or an sdist on the control node; others do no harm, and are left out."""
    return 0 < len(name) <= _MAX_LENGTH and name.isascii() and name.isprintable() and "/" not in name

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Which names and addresses of files a server may tell."""

from __future__ import annotations

from urllib.parse import urlsplit

#: characters; the file becomes one of the cache, which gives it prefix and suffix, and a file system has 255
_MAX_LENGTH = 200


def is_file_name(name: str) -> bool:
    """Whether a name can be that of a wheel or an sdist on the control node; others do no harm, and are left out."""
    return 0 < len(name) <= _MAX_LENGTH and name.isascii() and name.isprintable() and "/" not in name


def is_address(url: str) -> bool:
    """Whether a file can be asked for at a URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

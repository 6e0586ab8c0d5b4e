# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Links with a signature or a token in them, which stay on the control node, for its user alone.

Plans, locks and reports have them without (``?sig=***``), and whoever downloads asks here for the whole link. A signature lasts some
minutes or days, so a lock would have no use of it either.
"""

from __future__ import annotations

import hashlib
import os

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import REDACTED, redact
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import explain_write_errors


class SignedLinks:
    """A folder of the control node's cache."""

    def __init__(self, cache: str) -> None:
        """
        :param cache: the folder of the control node's cache
        """
        self._folder = os.path.join(cache, "links")

    def keep(self, url: str) -> str:
        """
        :param url: as a page has it
        :returns: the link as others may see it
        :raises TorchExtensionError: if it cannot be written
        """
        public = redact(url)
        if is_redacted(public):
            path = self._path(public)
            with explain_write_errors(path):
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                atomic.write_bytes(path, url.encode(), 0o600)
        return public

    def restore(self, public: str) -> str:
        """The link that was kept last; what is given, if that has no signature or none is kept."""
        if not is_redacted(public):
            return public
        try:
            with open(self._path(public), encoding="utf-8") as file:
                url = file.read()
        except (OSError, UnicodeDecodeError):
            return public
        return url if redact(url) == public else public

    def _path(self, public: str) -> str:
        return os.path.join(self._folder, hashlib.sha256(public.encode()).hexdigest()[:32])


def is_redacted(url: str) -> bool:
    """Whether a link lacks its signature."""
    return f"={REDACTED}" in url

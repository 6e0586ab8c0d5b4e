# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring a built wheel from the builder to the control node, over the output of commands: so it goes over any connection, as any user."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.disk import (
    check_free_space,
    explain_write_errors,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    Execute,
    last_error_line,
)

_BLOCK = 1 << 20  # bytes, of dd(1)
_BLOCKS_AT_ONCE = 8  # Ansible has all that a command prints in memory, more than once


def fetch_wheel(wheel: t.Mapping[str, t.Any], folder: str, execute: Execute) -> str:
    """Copy a wheel into a folder of the control node.

    :param wheel: ``path`` on the builder, ``filename``, ``size`` and ``sha256``, as build_job returned them
    :returns: its path; nothing is left of it where it did not come whole
    :raises TorchExtensionError: if it does not come, or another file comes
    """
    wheel_file.parse_name(wheel["filename"])  # it becomes a path
    path = os.path.join(folder, wheel["filename"])
    with explain_write_errors(path):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        check_free_space(path, wheel["size"])
        try:
            _copy(wheel, path, execute)
        except BaseException:
            if os.path.exists(path):
                os.unlink(path)
            raise
    return path


def _copy(wheel: t.Mapping[str, t.Any], path: str, execute: Execute) -> None:
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        while size < wheel["size"]:
            begin = size // _BLOCK
            result = execute(
                f"dd if={shlex.quote(wheel['path'])} bs={_BLOCK} skip={begin} count={_BLOCKS_AT_ONCE} 2>/dev/null | base64"
            )
            data = _decode(result.out)
            if result.status != 0 or not data:
                raise TorchExtensionError(
                    f"{wheel['path']} was built, and cannot be read on the builder ({last_error_line(result)}). Run again: what was built"
                    " is taken from there."
                )
            file.write(data)
            digest.update(data)
            size += len(data)
            if len(data) % _BLOCK and size < wheel["size"]:
                break
    if (size, digest.hexdigest()) != (wheel["size"], wheel["sha256"]):
        raise TorchExtensionError(
            f"{wheel['filename']} came from the builder with {size} bytes and sha256 {digest.hexdigest()}, wanted are {wheel['size']} and"
            f" {wheel['sha256']}. Run again."
        )


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The uv that serves an environment."""

from __future__ import annotations

import os
import re
import shutil

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run


def read_uv_version(prefix: str, run: Run) -> str | None:
    """The version of the uv that serves an environment, or None if there is no uv."""
    program = find_uv(prefix)
    if program is None:
        return None
    _status, out, _err = run([program, "--version"])
    match = re.match(r"uv (\S+)", out)
    return match.group(1) if match else None


def find_uv(prefix: str) -> str | None:
    """The uv that serves an environment: its own, or the user's."""
    folders = [os.path.join(prefix, "bin"), os.environ.get("PATH", os.defpath), os.path.expanduser("~/.local/bin")]
    return shutil.which("uv", path=os.pathsep.join(folders))

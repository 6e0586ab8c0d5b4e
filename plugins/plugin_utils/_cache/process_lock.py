# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""A lock between the processes of the user who runs Ansible."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import waiting

#: a large file may be on its way over a slow line, and nobody sees how far it is
PATIENCE_SECONDS = 2 * 3600


@contextlib.contextmanager
def process_lock(folder: str, name: str, run_id: str = "", patience: float = PATIENCE_SECONDS) -> t.Iterator[None]:
    """Hold a named lock; wait while another process has it, and tell the operator so.

    :param folder: of the control node, for locks; made if it is not there
    :param name: of the lock; it becomes the name of a file
    :param run_id: names a run in which what failed under this lock for one process fails for all, without another try
    :param patience: seconds for which one process may hold it while this one waits
    :raises TorchExtensionError: if the lock cannot be taken, or the error that another process of this run had
    """
    path = os.path.join(folder, f"{name}.lock")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        file = waiting.open_lock(path)
    except OSError as exc:
        raise TorchExtensionError(
            f"{path} on the control node cannot be written to ({exc.strerror}). Set torch_extension_cache_dir."
        ) from exc
    with file:
        try:
            waiting.lock_file(file, path, waiting.Patience(patience))
        except OSError as exc:
            raise TorchExtensionError(
                f"{path} on the control node cannot be locked ({exc.strerror}): wanted is a file system that has locks. Set"
                " torch_extension_cache_dir."
            ) from exc
        file.seek(0)
        failed_in, _newline, reason = file.read().partition("\n")
        if run_id and failed_in == run_id:
            raise TorchExtensionError(reason)
        waiting.write_holder(file)
        try:
            yield
        except TorchExtensionError as exc:
            file.truncate(0)
            file.write(f"{run_id}\n{exc}")
            raise

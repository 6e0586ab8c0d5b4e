# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Libraries of the control node that may be missing. Nodes need none."""

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


def require_library(name: str, import_error: ImportError | None, alternative: str = "") -> None:
    """
    :param name: of the distribution
    :param import_error: what its import raised, if it did
    :param alternative: what else the operator can do, after "or"
    :raises TorchExtensionError: if it could not be imported
    """
    if import_error:
        end = f", or {alternative}" if alternative else ""
        raise TorchExtensionError(
            f"The Python that runs Ansible on the control node lacks {name} ({import_error}). Install the collection's"
            f" requirements.txt into it{end}."
        )

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What one module has told and users hand to the next."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError

_ENVIRONMENT = ("python", "platform", "torch", "installers", "pip_cache", "variables", "distributions", "origins")


def check_environment(environment: t.Any) -> None:
    """
    :raises TorchExtensionError: if this is not an environment of a node
    """
    wanted = "wanted is the dictionary 'environment' that torch_info returns."
    if not isinstance(environment, t.Mapping):
        raise TorchExtensionError(f"environment is {type(environment).__name__}, {wanted}")
    missing = [key for key in _ENVIRONMENT if key not in environment]
    if missing:
        raise TorchExtensionError(f"environment lacks {', '.join(missing)}: {wanted}")

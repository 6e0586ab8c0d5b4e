# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What one module has told and users hand to the next."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_ENVIRONMENT_KEYS = ("python", "platform", "torch", "installers", "pip_cache", "variables", "distributions", "origins")


def check_environment(environment: t.Any) -> None:
    """
    :raises TorchExtensionError: if this is not an environment of a node
    """
    wanted = "wanted is the dictionary 'environment' that torch_info returns."
    if not isinstance(environment, t.Mapping):
        raise TorchExtensionError(f"environment is {_type_name(environment)}, {wanted}")
    missing = [key for key in _ENVIRONMENT_KEYS if key not in environment]
    if missing:
        raise TorchExtensionError(f"environment lacks {', '.join(missing)}: {wanted}")


def check_facts(facts: t.Any) -> None:
    """
    :raises TorchExtensionError: if these are not the facts of wheels by their SHA-256
    """
    if not isinstance(facts, t.Mapping):
        raise TorchExtensionError(
            f"facts is {_type_name(facts)}, wanted is the dictionary 'facts' that wheel_fetch returns."
        )


def _type_name(value: t.Any) -> str:
    """The type, and not what Ansible has derived from it (ansible-core 2.19: _AnsibleTaggedList)."""
    return next(base.__name__ for base in type(value).__mro__ if base.__module__ == "builtins")

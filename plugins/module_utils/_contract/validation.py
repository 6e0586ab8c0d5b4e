# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Checks of values that one module returns and users pass to the next."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_ENVIRONMENT_KEYS = ("python", "platform", "torch", "installers", "pip_cache", "variables", "distributions", "origins")


def check_environment(environment: t.Any) -> None:
    """Refuse what is not the environment of a node.

    :raises TorchExtensionError: with what it lacks
    """
    expected = "wanted is the dictionary 'environment' that torch_info returns."
    if not isinstance(environment, t.Mapping):
        raise TorchExtensionError(f"environment is {_type_name(environment)}, {expected}")
    missing = [key for key in _ENVIRONMENT_KEYS if key not in environment]
    if missing:
        raise TorchExtensionError(f"environment lacks {', '.join(missing)}: {expected}")
    damage = environment.get("damage", {})  # which a survey leaves out
    if not isinstance(damage, t.Mapping) or not all(map(_is_damage, damage.values())):
        raise TorchExtensionError(f"damage in environment does not list files that are missing or changed: {expected}")


def _is_damage(files: t.Any) -> bool:
    return (
        isinstance(files, t.Mapping)
        and set(files) == {"missing", "changed"}
        and all(isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in files.values())
    )


def check_facts(facts: t.Any) -> None:
    """Refuse what are not the facts of wheels by their SHA-256.

    :raises TorchExtensionError: with the type of it
    """
    if not isinstance(facts, t.Mapping):
        raise TorchExtensionError(
            f"facts is {_type_name(facts)}, wanted is the dictionary 'facts' that wheel_fetch returns."
        )


def _type_name(value: t.Any) -> str:
    """The name of the built-in type, not of what Ansible derives from it (ansible-core 2.19: _AnsibleTaggedList)."""
    return next(base.__name__ for base in type(value).__mro__ if base.__module__ == "builtins")

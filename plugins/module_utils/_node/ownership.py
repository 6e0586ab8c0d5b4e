# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whose an environment is, and whether it may be changed."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError


def check_ownership(environment: t.Mapping[str, t.Any], folders: t.Iterable[str | None]) -> None:
    """Refuse to change an environment that is not the user's to change.

    :param folders: those that would be written to; None for one that does not exist
    :raises TorchExtensionError: if it belongs to the operating system (PEP 668) or to somebody else
    """
    python = environment["python"]
    advice = "Make a venv there and name it in torch_extension_python."
    if python["externally_managed"]:
        raise TorchExtensionError(
            f"{python['executable']} belongs to the operating system (EXTERNALLY-MANAGED, PEP 668): nothing is"
            f" installed into it. {advice}"
        )
    for folder in folders:
        if folder is None or not os.access(folder, os.W_OK):
            raise TorchExtensionError(
                f"User id {os.geteuid()} cannot write to {folder}. Become its owner (become, become_user). Or:"
                f" {advice.lower()}"
            )

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The one error that the core raises and that modules and plugins turn into a failure."""

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import redact


class TorchExtensionError(Exception):
    """Something cannot work.

    The message is for the operator: the fact seen, the fact wanted, the knob to turn.
    It is printed as it is; the secrets in addresses are taken out here.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(each) if isinstance(each, str) else each for each in args))

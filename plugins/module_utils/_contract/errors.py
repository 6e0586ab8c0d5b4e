# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The one error that the core raises and that modules and plugins turn into a failure."""

from __future__ import annotations


class TorchExtensionError(Exception):
    """Something cannot work.

    The message is for the operator: the fact seen, the fact wanted, the knob to turn.
    It is printed as it is, so it holds no credentials.
    """

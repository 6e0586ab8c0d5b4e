# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""How an operator may have wheels delivered to a node, as an argument of modules."""

from __future__ import annotations

COPY, SHARED, PULL, SLURM = "copy", "shared", "pull", "slurm"
METHODS = [COPY, SHARED, PULL, SLURM]

#: argument_spec of a delivery (doc fragment ``_delivery``)
OPTIONS = {
    "ways": {"type": "list", "elements": "str", "choices": METHODS, "default": [COPY]},
    "shared_dir": {"type": "str"},
    "pull_url": {"type": "str"},
    "pull_ca_path": {"type": "path"},
    "slurm_host": {"type": "str"},
    "slurm_node": {"type": "str"},
}

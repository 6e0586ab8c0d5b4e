# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The ways in which wheels get to a node, and the options that each of them needs."""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.options import (
    METHODS,
    OPTIONS,
    PULL,
    SHARED,
    SLURM,
)

_REQUIRED_OPTIONS = {
    SHARED: ("shared_dir", "a folder on a file system that the nodes share"),
    PULL: ("pull_url", "a folder on a server that the nodes reach, as in https://artifacts.example/wheels/"),
    SLURM: ("slurm_host", "the machine of the inventory on which salloc and sbcast run"),
}


def validate_delivery(delivery: t.Mapping[str, t.Any], stage_dir: str | None) -> dict[str, t.Any]:
    """Check that the options of a delivery are sound, and that its ways have all that they need.

    :param delivery: as :data:`OPTIONS` has it; empty texts count as not set
    :param stage_dir: the folder of a node that wheels are brought to; None where none are to be brought
    :returns: the delivery with all its options
    :raises TorchExtensionError: for the first thing that is wrong
    """
    validator = ArgumentSpecValidator(OPTIONS)
    result = validator.validate({name: value for name, value in delivery.items() if value not in ("", None)})
    if result.error_messages:
        raise TorchExtensionError(f"delivery: {'; '.join(result.error_messages)}.")
    validated = result.validated_parameters
    _check_required_options(validated, stage_dir)
    return validated


def _check_required_options(delivery: t.Mapping[str, t.Any], stage_dir: str | None) -> None:
    ways = delivery["ways"]
    if not ways:
        raise TorchExtensionError(f"torch_extension_delivery is empty, wanted is one of {', '.join(METHODS)}.")
    for way in ways:
        name, description = _REQUIRED_OPTIONS.get(way, (None, None))
        if name and not delivery[name]:
            raise TorchExtensionError(
                f"torch_extension_delivery is {way}, and torch_extension_{name} is empty. Set it: {description}."
            )
    if PULL in ways:
        # most plans do without this module, which is slow to load
        from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import check_url

        check_url(delivery["pull_url"])
        if delivery["pull_ca_path"] and not os.path.isfile(delivery["pull_ca_path"]):
            raise TorchExtensionError(
                f"torch_extension_pull_ca_path is {delivery['pull_ca_path']}, and there is no such file on the control node."
            )
    if SLURM in ways[1:]:
        raise TorchExtensionError(
            f"torch_extension_delivery is {', '.join(ways)}. Wanted is slurm as the first of them, since it serves all nodes"
            " before any other way is tried."
        )
    if SLURM in ways and stage_dir and not os.path.isabs(stage_dir):
        raise TorchExtensionError(
            f"torch_extension_stage_dir is {stage_dir}, and Slurm brings files to the same path on all nodes. Set it to a"
            " folder on each node's own disk, as in /var/local/airgap.torch_extensions."
        )

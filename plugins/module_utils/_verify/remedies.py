# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What is wrong with an installed package, and what repairs it."""

from __future__ import annotations

import typing as t

_RUN = "run the role (playbook install_flash_attn)"
REPLACE_DAMAGED = f"{_RUN} again, which replaces what is not whole"
REPLACE_UNFIT = f"{_RUN} again, which takes a wheel for what the node has now"
INSTALL_WANTED = f"{_RUN} with these torch_extension_packages, which installs what is wanted"
CLEAR = f"{_RUN} again, which clears it away"
REINSTALL_HIDDEN = f"{_RUN} with torch_extension_reinstall=true; without it the role does not notice this change"
REINSTALL_UNLOADABLE = (
    f"{_RUN} with torch_extension_reinstall=true, which also brings what the package requires, and says why if the wheel"
    " does not load"
)
REMOVE_COPY = "remove that copy, or take it off the search path"
CHOOSE_ANOTHER = "take another version in torch_extension_packages, or another source in torch_extension_sources"
PROVIDE_TORCH = "install torch, or name another environment in torch_extension_python"


class Fault(t.NamedTuple):
    """Something that is wrong with a package."""

    reason: str  # without a full stop
    remedy: str | None  # None where the reason says what to do


def describe_faults(faults: t.Sequence[Fault]) -> dict[str, t.Any]:
    """What the result of a check says of a package: ``ok``, the ``reasons`` and the ``remedy`` of the first, the others' cause."""
    return {
        "ok": not faults,
        "reasons": [fault.reason for fault in faults],
        "remedy": faults[0].remedy if faults else None,
    }

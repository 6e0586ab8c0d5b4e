# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What a node is told of wheels and of what to do with them: as much as it uses, and no more."""

from __future__ import annotations

import typing as t

#: where wheels are put: into the environment, into pip's cache, or into a folder that pip looks into
INSTALL, PIP_CACHE, FIND_LINKS = "install", "pip_cache", "find_links"
MODES = [INSTALL, PIP_CACHE, FIND_LINKS]

#: what is wanted of packages
PRESENT, ABSENT = "present", "absent"
STATES = [PRESENT, ABSENT]

#: argument_spec of a file that is delivered
FILE: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "filename": {"type": "str", "required": True},
    "sha256": {"type": "str"},
    "subfolder": {"type": "str", "default": ""},
}

#: argument_spec of a wheel that is delivered
WHEEL: dict[str, t.Any] = {
    **FILE,
    "version": {"type": "str", "required": True},
    "imports": {"type": "list", "elements": "str", "required": True},
    "pip_cache_path": {"type": "str"},
    "sdist_url": {"type": "str"},
    "conflicts": {"type": "list", "elements": "str", "default": []},
}

#: what the lookup ``wheel`` tells besides
CONTROL_NODE_ONLY = frozenset(
    (
        "action",
        "build",
        "built",
        "ground",
        "newer",
        "other_urls",
        "provable",
        "reason",
        "refused",
        "release",
        "requirement",
        "requirements",
        "size",
        "source",
        "url",
        "warnings",
    )
)


def for_node(wheel: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A wheel as the node is told of it. A key that the lookup does not have is kept, for the module to refuse it."""
    return {key: value for key, value in wheel.items() if key not in CONTROL_NODE_ONLY}

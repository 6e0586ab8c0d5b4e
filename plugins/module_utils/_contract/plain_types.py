# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Values that Ansible hands over, as Python's own types."""

from __future__ import annotations

import typing as t


def to_plain_types(value: t.Any) -> t.Any:
    """A value without the types that Ansible derives from Python's own, such as its unsafe or tagged texts.

    They pass for what they derive from, but not where something asks for the type itself, as YAML does when it writes.
    """
    if isinstance(value, t.Mapping):
        return {to_plain_types(key): to_plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain_types(item) for item in value]
    if isinstance(value, str):
        # not str(), which asks the derived type, and there an unsafe text stays one (ansible-core 2.16 to 2.18)
        return str.__str__(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (int if isinstance(value, int) else float)(value)
    return value

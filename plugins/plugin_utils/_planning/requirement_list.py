# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The list of requirements that an operator wrote, as a string or as a list."""

from __future__ import annotations

import re
import typing as t

# A comma before an operator, or in brackets, belongs to one requirement: flash-attn>=2.7,<2.8
_BETWEEN_REQUIREMENTS = re.compile(r",(?!\s*[<>=!~])(?![^\[]*\])")


def whole_requirements(items: t.Sequence[str]) -> list[str]:
    """Requirements, from a list that Ansible may have made of a string: it splits that at each comma."""
    return [item.strip() for item in _BETWEEN_REQUIREMENTS.split(",".join(items))] if items else []

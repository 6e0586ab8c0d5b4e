# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from packaging.version import Version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.couplings import COUPLINGS
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES

GATES = [(coupling, first, gate) for coupling in COUPLINGS for first, gate in coupling.gates]


@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda coupling: coupling.title)
def test_rows_are_in_order_and_end_with_what_was_read(coupling):
    firsts = [Version(first) for first, _gate in coupling.gates]
    assert firsts == sorted(set(firsts))
    assert firsts[-1] <= Version(coupling.newest_read)


@pytest.mark.parametrize(("coupling", "first", "gate"), GATES, ids=[f"{row[0].title} {row[1]}" for row in GATES])
def test_a_row_has_its_source_and_leaves_a_known_version_to_take(coupling, first, gate):
    assert re.fullmatch(rf"(v|release_v){re.escape(first)}:[\w/]+\.py", gate.source)
    limits = [gate.minimum, *(minimum for _first, minimum in gate.minimum_by_capability), gate.maximum]
    assert [Version(limit) for limit in limits] == sorted(Version(limit) for limit in limits)
    known = PACKAGES[coupling.accepts].versions
    assert gate.maximum in known or gate.excludes_maximum
    assert any(Version(gate.minimum) <= Version(version) <= Version(gate.maximum) for version in known)

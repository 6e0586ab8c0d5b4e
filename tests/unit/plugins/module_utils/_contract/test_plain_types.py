# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.plain_types import to_plain_types

VALUE = {"a text": ["a", 1, 1.5, True, None, {"size": 74301, "found": False}]}


def types(value: t.Any) -> set[type]:
    """The types of a value and of all that is in it."""
    within = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value)}.union(*map(types, within))


@pytest.fixture
def load():
    """Reads a YAML text as Ansible reads variables."""
    return DataLoader().load


def test_what_ansible_read_becomes_what_yaml_writes(load):
    given = load("{!unsafe 'a text': [!unsafe 'a', 1, 1.5, true, null, {!unsafe 'size': 74301, found: false}]}")
    assert given == VALUE
    assert types(given) != types(VALUE), "Ansible's own types"
    plain = to_plain_types(given)
    assert types(plain) == types(VALUE)
    assert yaml.safe_load(yaml.safe_dump(plain)) == VALUE


def test_tuples_and_mappings_become_lists_and_dictionaries():
    class Table(t.Mapping):
        def __getitem__(self, key):
            return {"a": ("b",)}[key]

        def __iter__(self):
            return iter("a")

        def __len__(self):
            return 1

    assert to_plain_types(Table()) == {"a": ["b"]}
    assert types(to_plain_types(Table())) == {dict, list, str}

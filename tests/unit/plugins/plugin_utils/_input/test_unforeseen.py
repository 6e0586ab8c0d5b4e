# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.node import ModuleFailedError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import (
    UnforeseenError,
    explain_unforeseen,
)

PLUGINS = Path(unforeseen.__file__).parents[2]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (ValueError("of a library\nin two lines."), r"\(ValueError: of a library in two lines\)"),
        (RecursionError(), r"\(RecursionError\)"),
        (MemoryError(), r"\(MemoryError\)"),
        (KeyError("x" * 5000), r"\(KeyError: 'x{100,300}\)"),
    ],
)
def test_what_a_library_raises_is_an_error_of_what_it_was_about(raised, words):
    wanted = rf"^a\.whl could not be dealt with, .*{words}\. .*-vvv"
    with pytest.raises(UnforeseenError, match=wanted), explain_unforeseen("a.whl"):
        raise raised


@pytest.mark.parametrize(
    "raised",
    [
        TorchExtensionError("ours"),
        ModuleFailedError({"msg": "the module's"}),
        AnsibleConnectionFailure("lost"),
        KeyboardInterrupt(),
        SystemExit(1),
    ],
)
def test_what_has_its_meaning_already_passes(raised):
    with pytest.raises(type(raised)) as error, explain_unforeseen("a.whl"):
        raise raised
    assert error.value is raised


def test_this_is_the_only_place_of_the_control_node_that_catches_everything():
    """But what clears up, which raises again."""
    nets = set()
    for path in [*(PLUGINS / "plugin_utils").rglob("*.py"), *(PLUGINS / "action").glob("*.py")]:
        for handler in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)):
            if handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"):
                is_raised_again = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
                nets |= set() if is_raised_again else {str(path.relative_to(PLUGINS))}
    # the other one tries transfers again, and has the rest explained
    assert nets - {"plugin_utils/_network/transfer.py"} == {"plugin_utils/_input/unforeseen.py"}

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node whose interpreter answers whatever it likes, with the ansible-core at hand."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions import outcome

PLUGINS = Path(outcome.__file__).parents[2]


@pytest.fixture
def ask(on_node, tmp_path):
    """Runs an action on a node that answers as it is told; the task's result."""

    def ask(action, printed, **arguments):
        (tmp_path / "answer").write_text(printed)
        interpreter = tmp_path / "python"
        interpreter.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {tmp_path}/answer\n")
        interpreter.chmod(0o755)
        options = ("-e", f"ansible_python_interpreter={interpreter}", "-e", "ansible_pipelining=true")
        return on_node(action, *options, **arguments)

    return ask


def answer(environment, **more):
    return json.dumps({"changed": False, "environment": environment, "environments": [environment], **more})


@pytest.mark.parametrize(
    ("action", "asked"), [("torch_info", {"python": "/opt/venv"}), ("wheel_plan", {"packages": ["flash-attn"]})]
)
def test_a_node_that_says_what_cannot_be_is_refused_in_one_message_with_its_name(action, asked, ask, environment):
    environment["platform"]["libc"]["version"] = "2.1000000"
    failed = ask(action, answer(environment), **asked)
    assert failed["failed"]
    assert failed["msg"].startswith(
        "node has answered what torch_info does not answer: torch_info.environments[0].platform.libc.version is '2.1000000', wanted is"
    )


def test_what_it_writes_reaches_no_terminal_and_sets_no_facts(ask, environment):
    environment["shadows"] = {"a": {"module": "a", "file": "/a", "version": None, "place": "\x1b[31mred\x9b2J\u202e"}}
    printed = answer(environment, warnings=["\x1b]0;title\x07", "\u009b2J"], ansible_facts={"ansible_user": "root"})
    shown = ask("torch_info", python="/opt/venv", printed=f"\x1b[2J\n{printed}\n\x1b[H\u202e\n")
    assert not shown["failed"]
    assert r"\x1b[31mred" in shown["environment"]["shadows"]["a"]["place"].replace(r"\u001b", r"\x1b")
    assert "ansible_facts" not in shown
    assert not set("\x1b\x07\x9b\u202e") & set(shown["output"])


def test_every_action_has_its_result_from_the_place_that_shows_and_explains():
    """Either by its base, or by itself."""
    for path in sorted((PLUGINS / "action").glob("*.py")):
        (action,) = (node for node in ast.parse(path.read_text()).body if getattr(node, "name", "") == "ActionModule")
        methods = {node.name: ast.unparse(node) for node in action.body if isinstance(node, ast.FunctionDef)}
        base = ast.unparse(action.bases[0])
        concludes = "return conclude(" in methods.get("run", "") or "return super().run(" in methods.get("run", "")
        assert concludes if "run" in methods else base != "ActionBase", path

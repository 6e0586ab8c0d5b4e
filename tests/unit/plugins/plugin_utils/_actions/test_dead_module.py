# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real interpreters, and programs in place of broken ones, are asked by a real shell. Real nodes: scenario refusals."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from other_users import OWNER, needs_root

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions import dead_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming

OLDEST = ".".join(map(str, dead_module.OLDEST_PYTHON))
OWN_VERSION = "{}.{}".format(*sys.version_info)
DIED = {"failed": True, "msg": "No start of json char found", "module_stdout": ""}


def execute(command, data=None):
    process = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return streaming.CommandResult(process.returncode, f"welcome{process.stdout}", process.stderr)


@pytest.fixture
def program(tmp_path):
    """Makes a program of sh(1)."""

    def program(body, name="python"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return program


def explain(interpreter, own=None, variables=None, is_named=True, **result):
    question = dead_module.Question(str(interpreter), is_named, own, variables or {})
    return dead_module.explain_death({"rc": 1, "module_stderr": "", **DIED, **result}, question, execute)[0]


def test_what_a_module_answers_itself_is_no_death():
    assert not dead_module.is_dead({"failed": True, "msg": "no"})
    assert dead_module.is_dead(DIED)
    too_old = "ansible-core requires a minimum of Python version 3.8. Current version: 3.7.16 (default)"
    assert dead_module.is_dead({"failed": True, "msg": too_old})


@pytest.mark.parametrize("own", [sys.prefix, f"{sys.prefix}/bin/python"])
def test_of_an_interpreter_that_is_too_old_the_environments_own_is_the_way_out(own, program):
    old = program("echo 3.6.8")
    stderr = '  File "<stdin>", line 3\nSyntaxError: future feature annotations is not defined\n'
    assert explain(old, own, module_stderr=stderr) == (
        f"No module runs on this node: {old}, which ansible_python_interpreter names, ended with exit status 1 and said SyntaxError:"
        f" future feature annotations is not defined. Modules need Python {OLDEST} or newer, and this is 3.6. Set"
        f" ansible_python_interpreter={sys.prefix}/bin/python for this node: that is the environment's own Python {OWN_VERSION}, and"
        " runs."
    )


def test_what_ansible_says_of_an_old_python_is_told_with_the_way_out(program):
    old = program("echo 3.5.2")
    said = explain(
        old, sys.prefix, is_named=False, msg="ansible-core requires a minimum of Python version 3.8. Current …"
    )
    assert f"{old}, which Ansible has found by itself, is too old. Modules need" in said
    assert f"ansible_python_interpreter={sys.prefix}/bin/python" in said


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (None, "Set ansible_python_interpreter for this node to such a Python."),
        (
            "/nowhere/at/all",
            "The environment's own would do, but there is no /nowhere/at/all (torch_extension_python).",
        ),
        ("{old}", "The environment's own is none: {old} is Python 3.6."),
        ("{dead}", "but {dead} (torch_extension_python) does not run either: no libpython."),
        ("{interpreter}", "Set ansible_python_interpreter for this node to such a Python."),
    ],
)
def test_a_way_out_that_is_none_is_not_proposed(own, words, program):
    programs = {
        "old": program("echo 3.6.8", "old/python"),
        "dead": program("echo no libpython >&2; exit 127", "dead/python"),
        "interpreter": program("exit 3", "interpreter"),
    }
    said = explain(programs["interpreter"], own and own.format(**programs), rc=3)
    assert "ended with exit status 3 and said nothing. Modules need Python" in said
    assert said.endswith(words.format(**programs))


def test_variables_of_the_task_that_keep_a_python_from_starting_are_named():
    said = explain(sys.executable, sys.prefix, {"PYTHONHOME": "/no where", "TOKEN": "secret"}, rc=-11)
    assert "was ended by SIGSEGV" in said
    assert said.endswith(
        "It runs without the environment of the task, which has PYTHONHOME=/no where. Take that out of environment of the play, role"
        " or task."
    )
    said = explain("/nowhere", sys.prefix, {"PYTHONHOME": "/nowhere"}, rc=127)
    assert f"say {sys.prefix}/bin/python, the environment's own. It runs without" in said


def test_a_secret_in_the_environment_of_the_task_is_not_told(program):
    fussy = program(f'[ -z "$TOKEN" ] || exit 1; exec {sys.executable} "$@"')
    assert explain(fussy, None, {"TOKEN": "secret"}).endswith(
        "which has TOKEN. Take that out of environment of the play, role or task."
    )


def test_of_a_killed_connection_the_node_is_not_blamed():
    said = explain(sys.executable, sys.prefix, rc=-9)
    assert "what connects to it was ended by SIGKILL on the control node. Run this again" in said
    assert sys.executable not in said


def test_a_limit_of_the_node_is_no_fault_of_the_interpreter():
    said = explain(sys.executable, sys.prefix, rc=137)
    assert "did not get to its end on this node" in said
    assert "for want of memory" in said
    assert "ansible_python_interpreter to" not in said
    said = explain(sys.executable, module_stderr="OSError: [Errno 28] No space left on device: '/tmp/x'\n")
    assert "make room there" in said


def test_what_cannot_be_explained_is_shown():
    question = dead_module.Question(sys.executable, is_named=True, own=None, variables={})
    said, keys = dead_module.explain_death({**DIED, "rc": 0, "module_stdout": "{ hello }"}, question, execute)
    assert "gave no answer" in said
    assert "said { hello }." in said
    assert keys == ("module_stderr", "module_stdout")


def test_where_no_command_runs_the_login_shell_is_to_blame():
    question = dead_module.Question("/usr/bin/python3", is_named=False, own=None, variables={})
    nothing = streaming.CommandResult(139, "", "")
    said, _keys = dead_module.explain_death({**DIED, "rc": 139}, question, lambda command: nothing)
    assert "Nor does a command of sh(1)" in said
    assert "LD_LIBRARY_PATH" in said


@needs_root
def test_root_does_not_ask_an_interpreter_that_another_user_could_change(program, open_folder):
    old = program("echo 3.6.8")
    own = open_folder / "theirs" / "python"
    own.parent.mkdir()
    own.write_text(f"#!/bin/sh\necho >{open_folder}/ran\necho 3.11.2\n")
    own.chmod(0o755)
    os.chown(own.parent, OWNER, OWNER)
    said = explain(old, str(own), module_stderr="SyntaxError: invalid syntax")
    assert f"{own} (torch_extension_python) does not run either: root runs nothing that others can change." in said
    assert not (open_folder / "ran").exists()
    os.chown(own.parent, 0, 0)
    assert f"Set ansible_python_interpreter={own}" in explain(
        old, str(own), module_stderr="SyntaxError: invalid syntax"
    )
    assert (open_folder / "ran").exists()

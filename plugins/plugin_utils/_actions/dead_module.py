# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Why a module ended without an answer, and what the operator can do: mostly its interpreter is not one that modules can use."""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible.module_utils import basic

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import may_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.limits import (
    describe_end,
    explain_limit,
    last_words,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming

# a boolean in ansible-core 2.16, whose own modules run on older ones than ours
_OLDEST_FOR_US, _OLDEST_FOR_ANSIBLE = (3, 7), basic._PY_MIN
#: The oldest Python that modules of this collection run on, by its major and minor number.
OLDEST_PYTHON = max(_OLDEST_FOR_US, _OLDEST_FOR_ANSIBLE if isinstance(_OLDEST_FOR_ANSIBLE, tuple) else _OLDEST_FOR_US)

_TOO_OLD = "ansible-core requires a minimum of Python"  # the answer of Ansible's own half of a module, where that runs
#: keys of what Ansible returns, with what the module has printed
OUTPUTS = ("module_stderr", "module_stdout")
_NOT_RUN = "root runs nothing that others can change"
_TELL_VERSION = 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")
# variables by which a program, or a Python, does not start; others may hold secrets
_LOADING_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH")

# Has interpreters tell their versions, with the variables of the task and without. The interpreter alone gets them: other programs
# may die of them, too.
_QUESTION = """
tell() {{ printf '\\n{marker}%s:%s\\n' "$1" "$2"; }}
ask() {{
  kind=$1; shift
  words=$(exec "$@" -c {code} 2>&1 </dev/null); status=$?
  tell "$kind" "$status $(printf '%s' "$words" | tail -n 1)"
  words=$({export} exec "$@" -c {code} 2>&1 </dev/null); status=$?
  tell "$kind"_in_task "$status $(printf '%s' "$words" | tail -n 1)"
}}
ask used {used}
own={own}
case $own in */*) ;; *) own=$(command -v "$own") ;; esac
[ ! -d "$own" ] || for path in "$own/bin/python3" "$own/bin/python"; do [ ! -x "$path" ] || found=$path; done
own=${{found:-$own}}
if [ -x "$own" ] && [ ! -d "$own" ]; then
  tell own_path "$own"
  if {may_run}; then ask own "$own"; else for kind in own own_in_task; do tell "$kind" "126 {not_run}"; done; fi
fi
"""


class _Answer(t.NamedTuple):
    """What came of asking an interpreter for its version."""

    status: int
    words: str  # the last ones

    @property
    def version(self) -> tuple[int, int] | None:
        """The major and minor number; None if it told none."""
        match = _VERSION.fullmatch(self.words)
        return (int(match[1]), int(match[2])) if match and not self.status else None

    @property
    def serves(self) -> bool:
        """Whether modules can use it."""
        return self.version is not None and self.version >= OLDEST_PYTHON


class Question(t.NamedTuple):
    """What is known of the task whose module died."""

    interpreter: str  # that Ansible has used
    is_named: bool  # by the operator, and not found by Ansible
    own: str | None  # the interpreter or folder of an environment that the task is about, as the operator names it
    variables: dict[str, str]  # of the task's environment


def is_dead(result: t.Mapping[str, t.Any]) -> bool:
    """Whether what Ansible returns for a module is none of the module's own answers."""
    # ansible-core 2.16 to 2.21 add it where they find no JSON, and no module of ours returns it
    return _is_too_old(result) or "module_stdout" in result


def _is_too_old(result: t.Mapping[str, t.Any]) -> bool:
    return bool(result.get("failed")) and str(result.get("msg")).startswith(_TOO_OLD)


def explain_death(
    result: t.Mapping[str, t.Any], question: Question, execute: streaming.Execute
) -> tuple[str, tuple[str, ...]]:
    """Find out on the node why a module has ended without an answer.

    :param result: what Ansible returns for it (:func:`is_dead`)
    :returns: the message for the operator, and the keys of the result that it refers to
    """
    status = int(result.get("rc") or 0)
    said = last_words(*(str(result.get(key, "")) for key in OUTPUTS))
    who = "which ansible_python_interpreter names" if question.is_named else "which Ansible has found by itself"
    fact = f"{question.interpreter}, {who}, {describe_end(status)} and said {said or 'nothing'}"
    if _is_too_old(result):
        fact = f"{question.interpreter}, {who}, is too old"
    answers, own_path = _ask(question, execute)
    used, used_in_task = answers.get("used"), answers.get("used_in_task")
    if used is None or used_in_task is None:
        return (
            f"No module runs on this node: {fact}. Nor does a command of sh(1). Look at the login shell of the user on the node,"
            " at the files that it runs first, and at LD_LIBRARY_PATH and LD_PRELOAD there.",
            (),
        )
    if used.serves and not used_in_task.serves:
        return f"No module runs on this node: {fact}. {_blame_variables(question.variables)}", ()
    if not used.serves:
        this = f", and this is {_dotted(used.version)}" if used.version else " that runs"
        need = f"Modules need Python {_dotted(OLDEST_PYTHON)} or newer{this}."
        return f"No module runs on this node: {fact}. {need} {_advise(question, own_path, answers)}", ()
    if status < 0:  # of a process of the control node: a shell on the node tells of a signal by 128 and more
        return (
            f"How a module of this collection has ended on this node is not known: what connects to it {describe_end(status)} on the"
            " control node. Run this again, which goes on from what is there. If nobody has killed it, look at the control node's memory"
            " (dmesg).",
            (),
        )
    limit = explain_limit(said or describe_end(status))
    if limit:
        return f"A module of this collection did not get to its end on this node: {fact} ({limit}).", ()
    return (
        f"A module of this collection gave no answer on this node: {fact}. Wanted is a line of JSON. Look at module_stdout and"
        " module_stderr of this result, and at what the login shell prints by itself; or name another Python in"
        " ansible_python_interpreter.",
        OUTPUTS,
    )


def _blame_variables(variables: t.Mapping[str, str]) -> str:
    named = [f"{name}={variables[name]}" for name in _LOADING_VARIABLES if name in variables] or sorted(variables)
    return (
        f"It runs without the environment of the task, which has {', '.join(named)}. Take that out of environment of the play,"
        " role or task."
    )


def _advise(question: Question, own_path: str | None, answers: t.Mapping[str, _Answer]) -> str:
    """Which interpreter to set instead."""
    knob = "Set ansible_python_interpreter for this node to"
    own, own_in_task = answers.get("own"), answers.get("own_in_task")
    if question.own is None or own_path == question.interpreter:
        return f"{knob} such a Python."
    if own_path is None or own is None or own_in_task is None:
        return f"{knob} such a Python. The environment's own would do, but there is no {question.own} (torch_extension_python)."
    if own.version is None:
        return (
            f"{knob} such a Python. The environment's own would do, but {own_path} (torch_extension_python) does not run either:"
            f" {own.words or describe_end(own.status)}."
        )
    if not own.serves:
        return f"{knob} such a Python. The environment's own is none: {own_path} is Python {_dotted(own.version)}."
    if not own_in_task.serves:
        return f"{knob} such a Python, say {own_path}, the environment's own. {_blame_variables(question.variables)}"
    return f"Set ansible_python_interpreter={own_path} for this node: that is the environment's own Python {_dotted(own.version)}, and runs."


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _ask(question: Question, execute: streaming.Execute) -> tuple[dict[str, _Answer], str | None]:
    """What the interpreters answer, by kind, and where the environment's own one is; nothing if no command gets to the node."""
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in question.variables.items())
    result = execute(
        _QUESTION.format(
            marker=streaming.MARKER,
            code=shlex.quote(_TELL_VERSION),
            export=f"export {variables};" if variables else "",
            used=shlex.join(question.interpreter.split()),  # it may have arguments, as a #! line may
            own=streaming.quote_path(question.own or ""),
            may_run=may_run('"$own"'),
            not_run=_NOT_RUN,
        )
    )
    answers, own_path = {}, None
    for kind, value in streaming.find_reports(result.out):
        status, _space, words = value.partition(" ")
        if kind == "own_path":
            own_path = value
        elif status.isdigit():
            answers[kind] = _Answer(int(status), words.strip())
    return answers, own_path

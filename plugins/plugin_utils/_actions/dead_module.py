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

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.limits import (
    describe_end,
    explain_limit,
    last_words,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming

_OLDEST_FOR_US = (3, 7)
# a boolean in ansible-core 2.16, whose own modules run on older ones than ours
_OLDEST_FOR_ANSIBLE = basic._PY_MIN if isinstance(basic._PY_MIN, tuple) else _OLDEST_FOR_US
#: The oldest Python that modules of this collection run on, by its major and minor number.
OLDEST_PYTHON = max(_OLDEST_FOR_US, _OLDEST_FOR_ANSIBLE)

_TOO_OLD = "ansible-core requires a minimum of Python"  # the answer of Ansible's own half of a module, where that runs
_TELL_VERSION = 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")
# variables that decide whether a program starts at all
_LOADING_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH")

# Runs an interpreter, with the variables of the task and without, and tells what came of it. Programs may die by these variables,
# so that only the interpreter itself has them.
_QUESTION = """
say() {{ printf '\\n{marker}%s:%s\\n' "$1" "$2"; }}
ask() {{
  out=$(exec "$2" -c {code} 2>&1 </dev/null); say "$1" "$? $(printf '%s' "$out" | tail -n 1)"
  out=$({export} exec "$2" -c {code} 2>&1 </dev/null); say "$1_in_task" "$? $(printf '%s' "$out" | tail -n 1)"
}}
ask used {used}
own={own}
case $own in */*) ;; *) own=$(command -v "$own") ;; esac
for path in "$own/bin/python" "$own/bin/python3"; do [ ! -d "$own" ] || [ ! -x "$path" ] || own=$path; done
[ -d "$own" ] || [ ! -x "$own" ] || {{ say own_path "$own"; ask own "$own"; }}
"""


class _Trial(t.NamedTuple):
    """What an interpreter answered when it was asked for its version."""

    status: int
    words: str

    @property
    def version(self) -> tuple[int, int] | None:
        """Its major and minor number; None if it gave none."""
        match = _VERSION.fullmatch(self.words)
        return (int(match[1]), int(match[2])) if match and not self.status else None

    @property
    def serves(self) -> bool:
        """Whether modules can use it."""
        return self.version is not None and self.version >= OLDEST_PYTHON


def is_dead(result: t.Mapping[str, t.Any]) -> bool:
    """Whether what Ansible returns for a module was none of the module's own answers."""
    is_refused = bool(result.get("failed")) and str(result.get("msg")).startswith(_TOO_OLD)
    return is_refused or not result.get("_ansible_parsed", True)


def explain_death(
    result: t.Mapping[str, t.Any],
    interpreter: str,
    origin: str,
    own: str | None,
    environment: t.Mapping[str, str],
    execute: streaming.Execute,
) -> str:
    """Find out on the node why a module has ended without an answer.

    :param result: what Ansible returns for it (:func:`is_dead`)
    :param interpreter: the one that Ansible has used
    :param origin: who has chosen that, in words
    :param own: the interpreter or folder of the environment that the task is about, as the operator names it; None if there is none
    :param environment: variables that the task sets
    :returns: the message for the operator
    """
    words = str(result.get("module_stderr", "")), str(result.get("module_stdout", ""))
    if str(result.get("msg")).startswith(_TOO_OLD):
        words = str(result["msg"]), ""
    status = int(result.get("rc") or 0)
    said = last_words(*words)
    end = f"{describe_end(status)}{f' and said: {said}' if said else ' and said nothing'}"
    fact = f"{interpreter}, {origin}, {end}."
    answers = _ask(interpreter, own, environment, execute)
    used, used_in_task = answers.get("used"), answers.get("used_in_task")
    if used is None or used_in_task is None:  # not even a shell runs
        return f"No module runs on this node: {fact} {_NO_SHELL}"
    if not used_in_task.serves:
        if used.serves:
            return f"No module runs on this node: {fact} {_blame_variables(environment)}"
        return f"No module runs on this node: {fact} {_describe_need(used)} {_advise(own, answers)}"
    limit = explain_limit(status, said)
    if limit:
        return f"A module of this collection was ended on this node: {fact} {limit}"
    if not said and not status:
        return (
            f"A module of this collection did not run on this node: {fact} What it is made of goes to its standard input, and"
            " something else has read that: mostly a file that the login shell runs first (.bashrc). Have that read nothing"
            " where nobody types, or set ansible_pipelining to false."
        )
    return (
        f"A module of this collection gave no answer on this node: {fact} Wanted is a line of JSON with nothing else in it. Look at"
        " what the login shell prints by itself, and at module_stdout and module_stderr of this result; or set"
        " ansible_python_interpreter to another Python."
    )


_NO_SHELL = (
    "Nor does a command of sh(1). Look at the login shell of the user on the node and the files that it runs first, and at"
    " LD_LIBRARY_PATH and LD_PRELOAD there."
)


def _ask(
    interpreter: str, own: str | None, environment: t.Mapping[str, str], execute: streaming.Execute
) -> dict[str, _Trial | str]:
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    result = execute(
        _QUESTION.format(
            marker=streaming.MARKER,
            code=shlex.quote(_TELL_VERSION),
            export=f"export {variables};" if variables else "",
            used=shlex.quote(interpreter),
            own=streaming.quote_path(own) if own else "''",
        )
    )
    answers: dict[str, _Trial | str] = {}
    for kind, value in streaming.read_reports(result.out):
        status, _space, words = value.partition(" ")
        answers[kind] = value if kind == "own_path" else _Trial(int(status), words.strip())
    return answers

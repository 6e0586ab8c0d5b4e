# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Have Slurm bring files from one of its machines to its compute nodes (sbcast(1), within an allocation by salloc(1)).

Slurm's commands are run where they are, by sh(1). What they say is for people; what we want to know each node says itself.
"""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    ITS_USERS_ALONE,
    TELL,
    Done,
    Execute,
    File,
    last_line,
)

_JOB = "airgap.torch_extensions"
_MINUTES = 30  # after which a job ends whose control node is lost; a later --time of the operator's counts
_TRIES = 3  # jobs, each without the nodes that the one before has shown to be of no use
_SAID = re.compile(rf"^{TELL}node:([^:]+):(\w+):(.*?)\r?$", re.MULTILINE)
_HAS, _WANTS, _CANNOT = "has", "wants", "cannot"
#: States of a node (sinfo(1)) in which no job gets to it; and the mark of one that does not answer.
_OUT_OF_USE = ("down", "drain", "fail", "error", "unknown", "inval", "future")
_SILENT = "*"
# Their words for what went wrong on one of them.
_ON_NODE = (
    ("sbcast cannot bring it to", re.compile(r"^sbcast: error: .*\(([\w.-]+)\): (.+)", re.MULTILINE)),
    ("srun starts nothing on", re.compile(r"^srun: error: .*failed on node ([\w.-]+): (.+)", re.MULTILINE)),
)
_SHELL = re.compile(r"^\S*sh: (line )?\d+: ")  # in front of what it says
_USAGE = re.compile(r"^Try .*--help.*$", re.MULTILINE)
_NOT_ALLOCATED = "Unable to allocate resources"
_ELSE = "Or set torch_extension_delivery to [slurm, copy], or to copy for this node."


class Job(t.NamedTuple):
    """How a job is asked for."""

    options: t.Sequence[str] = ()  # more of salloc's
    wait: int = 60  # seconds until there must be an allocation
    fanout: int | None = None  # how many nodes each node sends to; as Slurm has it (TreeWidth), if None


class Broadcast:
    """Brings the same files into the same folder of nodes."""

    def __init__(
        self, host: str, files: t.Sequence[File], source: str, target: str, execute: Execute, job: Job
    ) -> None:
        """
        :param host: what the operator calls the machine on which commands are run
        :param files: with their SHA-256
        :param source: the folder on that machine that has them
        :param target: the folder on each node, absolute
        :param execute: runs a command there
        """
        self._host, self._files, self._source, self._target = host, files, source, target
        self._execute, self._job = execute, job

    def bring(self, nodes: t.Iterable[str]) -> dict[str, str | None]:
        """Bring the files to nodes that lack them.

        :param nodes: as Slurm calls them
        :returns: why a node does not have them now; None for one that has
        """
        outcome = dict.fromkeys(nodes, "")
        outcome.update(self._out_of_use(list(outcome)))
        reason = ""
        for _try in range(_TRIES):
            left = [node for node, reason in outcome.items() if reason == ""]
            if not left:
                break
            told, reason = self._run(left)
            outcome.update(told)
            if not told:
                break
        return {node: why if why != "" else reason for node, why in outcome.items()}

    def _out_of_use(self, nodes: t.Sequence[str], waited: int | None = None) -> dict[str, str | None]:
        """Why Slurm gives no job some of the nodes.

        :param waited: for how many seconds in vain; those in use are some of them then
        """
        listed = self._execute(
            f"sinfo --all --noheader --Node --format='%N|%T|%E' --nodes={shlex.quote(','.join(nodes))}"
        )
        states = {
            line[0]: line[1:]
            for line in (text.strip().split("|", 2) for text in listed.out.splitlines())
            if len(line) == 3
        }
        if listed.status != 0 and not states:
            reason = (
                f"{self._host} cannot tell what Slurm has ({last_line(listed)}). Wanted is a machine with Slurm's commands, whose"
                f" controller answers. Look at torch_extension_slurm_host. {_ELSE}"
            )
            return dict.fromkeys(nodes, reason)
        found: dict[str, str | None] = {}
        for node in nodes:
            if node not in states:
                found[node] = f"Slurm on {self._host} knows no node {node}. Set torch_extension_slurm_node. {_ELSE}"
                continue
            state, why = states[node]
            if state.lower().startswith(_OUT_OF_USE) or _SILENT in state:
                because = f" ({why})" if why not in ("", "none") else ""
                found[node] = f"Slurm on {self._host} has {node} as {state}{because}. Have it resumed. {_ELSE}"
            elif waited is not None and not state.lower().startswith("idle"):
                found[node] = self._refused(f"{node} was not free within {waited} s, it is {state}")
        return found

    def _run(self, nodes: t.Sequence[str]) -> tuple[dict[str, str | None], str]:
        """One job. What has come out of it for nodes, and why nothing has for the others."""
        size = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1"]
        wait = max(self._job.wait, 1)  # 0 is for ever
        # with a word of its own after it, --immediate would take that for the command
        where = [f"--nodelist={','.join(nodes)}", f"--immediate={wait}", f"--job-name={_JOB}", f"--time={_MINUTES}"]
        salloc = ["salloc", "--quiet", *size, *where, *self._job.options, "sh", "-c", self._script(len(nodes))]
        done = self._execute(shlex.join(salloc))
        done = done._replace(err=_USAGE.sub("", done.err))
        said = {node: (what, why) for node, what, why in _SAID.findall(done.out)}  # the last that a node has said
        if not said and _NOT_ALLOCATED in done.err:
            return self._out_of_use(nodes, wait), self._refused(f"there was no allocation within {wait} s")
        told: dict[str, str | None] = {}
        for node, (what, why) in said.items():
            if what == _HAS:
                told[node] = None
            elif what == _CANNOT:
                told[node] = (
                    f"{node} cannot take it: {_SHELL.sub('', why).rstrip('.')}. Set torch_extension_stage_dir. {_ELSE}"
                )
        for what, pattern in _ON_NODE:
            for node, why in pattern.findall(done.err):
                because = why.strip().rstrip(".").replace("Unspecified error", "Unspecified error, as of a full disk")
                told.setdefault(node, f"{what} {node}: {because}. {_ELSE}")
        if said:  # by the others
            silent = f"did nothing in the job of Slurm on {self._host}: {_last(done)}. {_ELSE}"
            told.update({node: f"{node} {silent}" for node in nodes if node not in said and node not in told})
        is_refused = not said and _last(done).startswith("salloc: ")
        reason = self._refused(_last(done)) if is_refused else self._not_brought(f"{_last(done)}.")
        return {node: why for node, why in told.items() if node in nodes}, reason

    def _refused(self, why: str) -> str:
        knobs = "torch_extension_slurm_options (partition, account, …) and torch_extension_slurm_wait"
        return self._not_brought(f"{why}. Look at {knobs}.")

    def _not_brought(self, why: str) -> str:
        return f"Slurm on {self._host} has not brought it: {why} {_ELSE}"

    def _script(self, number: int) -> str:
        """What runs in the allocation, as sh(1)."""
        fanout = f" --fanout={self._job.fanout}" if self._job.fanout else ""
        lines = [
            f"told=$({_srun(self._prepare())})",
            'printf "%s\\n" "$told"',
            # with others among them there is another job, without those
            f'[ "$(printf "%s\\n" "$told" | grep -c "^{TELL}node:[^:]*:{_WANTS}:")" -eq {number} ] || exit 0',
        ]
        clear = _srun(self._clear())
        for file in self._files:
            source, part = shlex.quote(f"{self._source}/{file.name}"), shlex.quote(f"{self._target}/{file.part}")
            lines.append(f"sbcast --force{fanout} {source} {part} || {{ {clear} 2>/dev/null; exit 1; }}")
        lines.append(_srun(self._finish()))
        return "\n".join(lines)

    def _prepare(self) -> str:
        target = shlex.quote(self._target)
        whole = " && ".join(
            f'[ "$(wc -c 2>/dev/null < {shlex.quote(file.name)})" -eq {file.size} ] 2>/dev/null' for file in self._files
        )
        kib = -(-sum(file.size for file in self._files) // 1024)
        return "\n".join(
            [
                "umask 077",
                f'say() {{ printf "{TELL}node:%s:%s:%s\\n" "$SLURMD_NODENAME" "$1" "$2"; exit; }}',
                f'why=$( {{ mkdir -p {target} && cd {target}; }} 2>&1) && cd {target} || say {_CANNOT} "$why"',
                f'why=$({ITS_USERS_ALONE[:-1]} 2>&1) || say {_CANNOT} "the folder $(pwd) cannot be used: $why"',
                f"if {whole}; then say {_HAS}; fi",
                "free=$(df -Pk . | tail -n 1 | awk '{print $4}')",
                f'[ "$free" -ge {kib} ] || say {_CANNOT} "$(pwd) has $((free / 1024)) MiB free, wanted are {-(-kib // 1024)} MiB"',
                f"say {_WANTS}",
            ]
        )

    def _finish(self) -> str:
        moves = " && ".join(
            f'[ "$(wc -c < {shlex.quote(file.part)})" -eq {file.size} ] && mv -f {shlex.quote(file.part)} {shlex.quote(file.name)}'
            for file in self._files
        )
        return (
            f'{{ cd {shlex.quote(self._target)} && {moves}; }} 2>/dev/null && echo "{TELL}node:$SLURMD_NODENAME:{_HAS}:" ||'
            f' {{ echo "{TELL}node:$SLURMD_NODENAME:{_CANNOT}:what sbcast brought is not whole"; {self._clear()}; }}'
        )

    def _clear(self) -> str:
        parts = shlex.join(file.part for file in self._files)
        target = shlex.quote(self._target)
        return f"cd {target} && rm -f {parts}; cd / && rmdir {target} 2>/dev/null"


def _last(done: Done) -> str:
    return "its job ended without a word" if done.status == 0 and not done.err.strip() else last_line(done)


def _srun(script: str) -> str:
    """As one task on each node. One that fails leaves the others alone."""
    return shlex.join(["srun", "--quiet", "--input=none", "--kill-on-bad-exit=0", "sh", "-c", script])

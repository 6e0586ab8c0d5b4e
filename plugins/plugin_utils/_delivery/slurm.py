# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Have Slurm bring files from one of its machines to its compute nodes (sbcast(1), within an allocation by salloc(1)).

Slurm's commands run where they are installed, by sh(1). Their output is for people; what we need to know each node reports
itself.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import (
    CHECK_FOLDER,
    discard_planted,
    enter_folder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    MARKER,
    CommandResult,
    Execute,
    File,
    last_error_line,
)

_JOB_NAME = "airgap.torch_extensions"
#: minutes, after which a job ends that has lost its control node; a later --time of the operator's counts
_TIME_LIMIT = 30
_MAX_JOBS = 3  # each without the nodes that the one before has shown to be unusable
_NODE_REPORT = re.compile(rf"^{MARKER}node:([^:]+):(\w+):(.*?)\r?$", re.MULTILINE)
_HAS, _WANTS, _CANNOT = "has", "wants", "cannot"
#: States of a node (sinfo(1)) in which no job gets to it; and the mark of one that does not respond.
_UNUSABLE_STATES = ("down", "drain", "fail", "error", "unknown", "inval", "future")
_NOT_RESPONDING = "*"
# What Slurm's commands print when something fails on a single node.
_NODE_ERRORS = (
    ("sbcast cannot bring it to", re.compile(r"^sbcast: error: .*\(([\w.-]+)\): (.+)", re.MULTILINE)),
    ("srun starts nothing on", re.compile(r"^srun: error: .*failed on node ([\w.-]+): (.+)", re.MULTILINE)),
)
_SHELL_PREFIX = re.compile(r"^\S*sh: (line )?\d+: ")  # of its error messages
_USAGE_HINT = re.compile(r"^Try .*--help.*$", re.MULTILINE)
_NOT_ALLOCATED = "Unable to allocate resources"
_ADVICE = "Or set torch_extension_delivery to [slurm, copy], or to copy for this node."


class JobOptions(t.NamedTuple):
    """Options of a job."""

    options: t.Sequence[str] = ()  # further ones of salloc
    wait: int = 60  # seconds for the allocation
    fanout: int | None = None  # how many nodes each node sends to; Slurm's own default (TreeWidth), if None
    #: who besides the user and root may change folders on the way to that of a node
    trusted_owners: t.Sequence[str] = ()


def name_writer(locks: str) -> str:
    """Who writes a part on nodes by sbcast, which goes on with none and cuts off what is there: this control node, one run at a time.

    :param locks: the folder on the control node by whose locks its runs wait for each other
    """
    return f"{socket.gethostname()}:{os.path.realpath(locks)}"


class Broadcast:
    """Brings the same files into the same folder of several nodes."""

    def __init__(
        self, host: str, files: t.Sequence[File], source: str, target: str, execute: Execute, job: JobOptions
    ) -> None:
        """
        :param host: the operator's name for the machine on which commands run
        :param files: with their SHA-256
        :param source: the folder on that machine that has the files
        :param target: the folder on each node, absolute
        :param execute: runs a command there
        """
        self._host, self._files, self._source, self._target = host, files, source, target
        self._execute, self._job = execute, job

    def deliver(self, nodes: t.Iterable[str]) -> dict[str, str | None]:
        """Bring the files to the nodes that lack them.

        :param nodes: by Slurm's names
        :returns: for each node why it does not have them now; None if it has
        """
        nodes = list(dict.fromkeys(nodes))
        outcomes = self._find_unusable(nodes)
        reason = ""
        for _job in range(_MAX_JOBS):
            remaining = [node for node in nodes if node not in outcomes]
            if not remaining:
                break
            job_outcomes, reason = self._run_job(remaining)
            outcomes.update(job_outcomes)
            if not job_outcomes:
                break
        return {node: outcomes.get(node, reason) for node in nodes}

    def _find_unusable(self, nodes: t.Sequence[str], waited: int | None = None) -> dict[str, str | None]:
        """The nodes that no job can get, and why.

        :param waited: for how many seconds in vain; nodes in use are unusable then
        """
        result = self._execute(
            f"sinfo --all --noheader --Node --format='%N|%T|%E' --nodes={shlex.quote(','.join(nodes))}"
        )
        states = {
            line[0]: line[1:]
            for line in (text.strip().split("|", 2) for text in result.out.splitlines())
            if len(line) == 3
        }
        if result.status != 0 and not states:
            reason = (
                f"{self._host} cannot tell what Slurm has ({last_error_line(result)}). Wanted is a machine with Slurm's commands, whose"
                f" controller answers. Look at torch_extension_slurm_host. {_ADVICE}"
            )
            return dict.fromkeys(nodes, reason)
        reasons: dict[str, str | None] = {}
        for node in nodes:
            if node not in states:
                reasons[node] = f"Slurm on {self._host} knows no node {node}. Set torch_extension_slurm_node. {_ADVICE}"
                continue
            state, why = states[node]
            if state.lower().startswith(_UNUSABLE_STATES) or _NOT_RESPONDING in state:
                because = f" ({why})" if why not in ("", "none") else ""
                reasons[node] = f"Slurm on {self._host} has {node} as {state}{because}. Have it resumed. {_ADVICE}"
            elif waited is not None and not state.lower().startswith("idle"):
                reasons[node] = self._explain_refusal(f"{node} was not free within {waited} s, it is {state}")
        return reasons

    def _run_job(self, nodes: t.Sequence[str]) -> tuple[dict[str, str | None], str]:
        """Run one job.

        :returns: the outcomes of nodes, as :meth:`deliver` has them; and the reason why others have none
        """
        size = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1"]
        wait = max(self._job.wait, 1)  # 0 is for ever
        # salloc would take a separate word after --immediate for the command
        request = [
            f"--nodelist={','.join(nodes)}",
            f"--immediate={wait}",
            f"--job-name={_JOB_NAME}",
            f"--time={_TIME_LIMIT}",
        ]
        salloc = ["salloc", "--quiet", *size, *request, *self._job.options, "sh", "-c", self._job_script(len(nodes))]
        result = self._execute(shlex.join(salloc))
        result = result._replace(err=_USAGE_HINT.sub("", result.err))
        # the last report of each node
        reports = {node: (state, why) for node, state, why in _NODE_REPORT.findall(result.out)}
        if not reports and _NOT_ALLOCATED in result.err:
            reason = self._explain_refusal(f"there was no allocation within {wait} s")
            return self._find_unusable(nodes, wait), reason
        outcomes: dict[str, str | None] = {}
        for node, (state, why) in reports.items():
            if state == _HAS:
                outcomes[node] = None
            elif state == _CANNOT:
                outcomes[node] = (
                    f"{node} cannot take it: {_SHELL_PREFIX.sub('', why).rstrip('.')}. Set torch_extension_stage_dir. {_ADVICE}"
                )
        for failure, pattern in _NODE_ERRORS:
            for node, why in pattern.findall(result.err):
                because = why.strip().rstrip(".").replace("Unspecified error", "Unspecified error, as of a full disk")
                outcomes.setdefault(node, f"{failure} {node}: {because}. {_ADVICE}")
        error = _last_error(result)
        if reports:  # of other nodes
            silent = f"did nothing in the job of Slurm on {self._host}: {error}. {_ADVICE}"
            outcomes.update(
                {node: f"{node} {silent}" for node in nodes if node not in reports and node not in outcomes}
            )
        is_refused = not reports and error.startswith("salloc: ")
        reason = self._explain_refusal(error) if is_refused else self._explain_failure(f"{error}.")
        return {node: outcome for node, outcome in outcomes.items() if node in nodes}, reason

    def _explain_refusal(self, why: str) -> str:
        knobs = "torch_extension_slurm_options (partition, account, …) and torch_extension_slurm_wait"
        return self._explain_failure(f"{why}. Look at {knobs}.")

    def _explain_failure(self, why: str) -> str:
        return f"Slurm on {self._host} has not brought it: {why} {_ADVICE}"

    def _job_script(self, node_count: int) -> str:
        """The script of sh(1) that runs in the allocation."""
        fanout = f" --fanout={self._job.fanout}" if self._job.fanout else ""
        lines = [
            f"reports=$({_srun_command(self._prepare_script())})",
            'printf "%s\\n" "$reports"',
            # if not all nodes want the files, the next job does without those that do not
            f'[ "$(printf "%s\\n" "$reports" | grep -c "^{MARKER}node:[^:]*:{_WANTS}:")" -eq {node_count} ] || exit 0',
        ]
        clean_up = _srun_command(self._cleanup_script())
        for file in self._files:
            source, part = shlex.quote(f"{self._source}/{file.name}"), shlex.quote(f"{self._target}/{file.part}")
            lines.append(f"sbcast --force{fanout} {source} {part} || {{ {clean_up} 2>/dev/null; exit 1; }}")
        lines.append(_srun_command(self._finish_script()))
        return "\n".join(lines)

    def _prepare_script(self) -> str:
        target = shlex.quote(self._target)
        all_whole = " && ".join(
            f'[ "$(wc -c 2>/dev/null < {shlex.quote(file.name)})" -eq {file.size} ] 2>/dev/null' for file in self._files
        )
        needed_kib = -(-sum(file.size for file in self._files) // 1024)
        return "\n".join(
            [
                "umask 077",
                f'report() {{ printf "{MARKER}node:%s:%s:%s\\n" "$SLURMD_NODENAME" "$1" "$2"; exit; }}',
                f'why=$( {{ {enter_folder(target, self._job.trusted_owners)} }} 2>&1) && cd {target} || report {_CANNOT} "$why"',
                f'why=$( {{ {CHECK_FOLDER} }} 2>&1) || report {_CANNOT} "the folder $(pwd) cannot be used: $why"',
                *(discard_planted(shlex.quote(file.part)) for file in self._files),
                f"if {all_whole}; then report {_HAS}; fi",
                "free=$(df -Pk . | tail -n 1 | awk '{print $4}')",
                f'[ "$free" -ge {needed_kib} ] || report {_CANNOT} "$(pwd) has $((free / 1024)) MiB free, wanted are {-(-needed_kib // 1024)} MiB"',
                f"report {_WANTS}",
            ]
        )

    def _finish_script(self) -> str:
        moves = " && ".join(
            f'[ "$(wc -c < {shlex.quote(file.part)})" -eq {file.size} ] && mv -f {shlex.quote(file.part)} {shlex.quote(file.name)}'
            for file in self._files
        )
        return (
            f'{{ cd {shlex.quote(self._target)} && {moves}; }} 2>/dev/null && echo "{MARKER}node:$SLURMD_NODENAME:{_HAS}:" ||'
            f' {{ echo "{MARKER}node:$SLURMD_NODENAME:{_CANNOT}:what sbcast brought is not whole"; {self._cleanup_script()}; }}'
        )

    def _cleanup_script(self) -> str:
        parts = shlex.join(file.part for file in self._files)
        target = shlex.quote(self._target)
        return f"cd {target} && rm -f {parts}; cd / && rmdir {target} 2>/dev/null"


def _last_error(result: CommandResult) -> str:
    is_silent = result.status == 0 and not result.err.strip()
    return "its job ended without a word" if is_silent else last_error_line(result)


def _srun_command(script: str) -> str:
    """The command that runs a script once on each node; a node where it fails does not stop the others."""
    return shlex.join(["srun", "--quiet", "--input=none", "--kill-on-bad-exit=0", "sh", "-c", script])

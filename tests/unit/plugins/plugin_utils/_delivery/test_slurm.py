# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of which node, and that our scripts get through all their layers of quotes to the real sh.

Nothing here is Slurm: its commands are stand-ins that run what they are given.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import pytest
import shells
from shells import ANY_NAMES, Node, read_content, read_folder
from slurms import install_stand_ins, read_log

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.slurm import Broadcast, JobOptions
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import CommandResult

ADVICE = "Or set torch_extension_delivery to [slurm, copy], or to copy for this node."


class Slurm:
    """Answers as the commands of a machine do: by states of nodes, and by what each job says."""

    def __init__(self, states, *jobs):
        self.states, self.jobs, self.requested = states, list(jobs), []

    def __call__(self, command):
        words = shlex.split(command)
        if words[0] == "sinfo":
            assert words[-1].startswith("--nodes=")
            if isinstance(self.states, CommandResult):
                return self.states
            return CommandResult(0, "".join(f"{node}|{state}\n" for node, state in self.states.items()), "")
        assert words[0] == "salloc"
        self.requested.append(
            next(word.removeprefix("--nodelist=") for word in words if word.startswith("--nodelist="))
        )
        return self.jobs.pop(0)


def job_output(*reports, err="", status=0):
    return CommandResult(status, "".join(f"torch_extension:node:{each}\n" for each in reports), err)


def deliver(slurm, *nodes, job=None):
    return Broadcast("login", [], "/source", "/target", slurm, job or JobOptions()).deliver(nodes)


IDLE = {"cn1": "idle|none", "cn2": "idle|none", "cn3": "mixed|none"}


def test_the_last_report_of_a_node_counts():
    slurm = Slurm(IDLE, job_output("cn1:wants:", "cn2:wants:", "cn1:has:", "cn2:has:"))
    assert deliver(slurm, "cn1", "cn2") == {"cn1": None, "cn2": None}
    assert slurm.requested == ["cn1,cn2"]


def test_carriage_returns_of_a_terminal_are_ignored():
    slurm = Slurm(IDLE, CommandResult(0, "Welcome!\r\ntorch_extension:node:cn1:has:\r\n", ""))
    assert deliver(slurm, "cn1") == {"cn1": None}


def test_without_nodes_there_is_no_job():
    assert deliver(Slurm({}), *[]) == {}


@pytest.mark.parametrize("state", ["idle", "mixed", "allocated", "completing", "idle~", "planned", "IDLE", "reserved"])
def test_nodes_in_usable_states_are_in_the_job(state):
    assert deliver(Slurm({"cn1": f"{state}|none"}, job_output("cn1:has:")), "cn1") == {"cn1": None}


@pytest.mark.parametrize(
    "state",
    [
        "down",
        "down*",
        "DOWN",
        "drained",
        "draining",
        "draining*",
        "drain",
        "fail",
        "failing",
        "error",
        "unknown",
        "inval",
        "future",
        "idle*",
        "allocated*",
    ],
)
def test_nodes_in_unusable_states_are_not_in_the_job_and_others_are(state):
    slurm = Slurm({"cn1": f"{state}|bad disk", "cn2": "idle|none"}, job_output("cn2:has:"))
    assert deliver(slurm, "cn1", "cn2") == {
        "cn1": f"Slurm on login has cn1 as {state} (bad disk). Have it resumed. {ADVICE}",
        "cn2": None,
    }
    assert slurm.requested == ["cn2"]


@pytest.mark.parametrize(("why", "words"), [("none", ""), ("", ""), ("a|b (c)", " (a|b (c))")])
def test_slurms_reason_for_a_state_is_in_the_message_if_there_is_one(why, words):
    outcomes = deliver(Slurm({"cn1": f"down|{why}"}), "cn1")
    assert outcomes == {"cn1": f"Slurm on login has cn1 as down{words}. Have it resumed. {ADVICE}"}


def test_a_node_that_slurm_does_not_know_is_an_error_that_names_the_variable():
    slurm = Slurm(IDLE, job_output("cn1:has:"))
    assert deliver(slurm, "cn1", "other") == {
        "cn1": None,
        "other": f"Slurm on login knows no node other. Set torch_extension_slurm_node. {ADVICE}",
    }


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (
            CommandResult(127, "", "sh: 1: sinfo: not found\n"),
            "(sh: 1: sinfo: not found). Wanted is a machine with Slurm's commands",
        ),
        (
            CommandResult(1, "", "slurm_load_partitions: Unable to contact slurm controller\n"),
            "(slurm_load_partitions: Unable to",
        ),
    ],
)
def test_a_host_without_a_working_slurm_is_an_error_that_names_the_variable(listed, words):
    slurm = Slurm(listed)
    outcomes = deliver(slurm, "cn1", "cn2")
    assert list(outcomes) == ["cn1", "cn2"]
    assert f"login cannot tell what Slurm has {words}" in outcomes["cn1"]
    assert "Look at torch_extension_slurm_host. Or set" in outcomes["cn1"]
    assert slurm.requested == []


def test_a_refused_job_is_an_error_with_slurms_own_message_and_not_tried_again():
    err = "salloc: error: Job submit/allocate failed: Invalid account\n"
    slurm = Slurm(IDLE, CommandResult(1, "", err))
    outcomes = deliver(slurm, "cn1", "cn2")
    assert outcomes["cn1"] == outcomes["cn2"]
    assert outcomes["cn1"].startswith(
        f"Slurm on login has not brought it: {err.strip()}. Look at torch_extension_slurm_options"
    )
    assert outcomes["cn1"].endswith(ADVICE)
    assert len(slurm.requested) == 1


def test_a_node_that_cannot_take_the_files_is_left_out_of_another_job():
    slurm = Slurm(
        IDLE,
        job_output("cn1:wants:", "cn2:cannot:/target has 1 MiB free, wanted are 2 MiB.", "cn3:has:"),
        job_output("cn1:has:"),
    )
    assert deliver(slurm, "cn1", "cn2", "cn3") == {
        "cn1": None,
        "cn2": f"cn2 cannot take it: /target has 1 MiB free, wanted are 2 MiB. Set torch_extension_stage_dir. {ADVICE}",
        "cn3": None,
    }
    assert slurm.requested == ["cn1,cn2,cn3", "cn1"]


def test_a_node_on_which_sbcast_fails_is_left_out_of_another_job():
    err = "sbcast: error: REQUEST_FILE_BCAST(cn2): No space left on device\n"
    slurm = Slurm(IDLE, job_output("cn1:wants:", "cn2:wants:", err=err, status=1), job_output("cn1:wants:", "cn1:has:"))
    assert deliver(slurm, "cn1", "cn2") == {
        "cn1": None,
        "cn2": f"sbcast cannot bring it to cn2: No space left on device. {ADVICE}",
    }
    assert slurm.requested == ["cn1,cn2", "cn1"]


def test_a_node_on_which_srun_fails_is_left_out_of_another_job():
    err = "srun: error: Task launch for StepId=1.0 failed on node cn2: Communication connection failure\n"
    slurm = Slurm(IDLE, job_output("cn1:wants:", err=err), job_output("cn1:wants:", "cn1:has:"))
    outcomes = deliver(slurm, "cn1", "cn2")
    assert outcomes["cn1"] is None
    assert outcomes["cn2"] == f"srun starts nothing on cn2: Communication connection failure. {ADVICE}"
    assert slurm.requested == ["cn1,cn2", "cn1"]


def test_reports_of_other_nodes_are_ignored():
    err = "sbcast: error: REQUEST_FILE_BCAST(other): No space left on device\n"
    outcomes = deliver(Slurm(IDLE, job_output("cn1:wants:", "other:has:", err=err, status=1)), "cn1")
    assert list(outcomes) == ["cn1"]
    assert "has not brought it: sbcast: error: REQUEST_FILE_BCAST(other)" in outcomes["cn1"]


def test_there_are_no_more_than_three_jobs():
    """Each of them shows one more node to be of no use."""
    wants = [f"{node}:wants:" for node in "abcde"]
    jobs = [job_output(*wants, f"{node}:cannot:no") for node in "abcd"]
    slurm = Slurm(dict.fromkeys("abcde", "idle|none"), *jobs)
    outcomes = deliver(slurm, *"abcde")
    assert slurm.requested == ["a,b,c,d,e", "b,c,d,e", "c,d,e"]
    assert "Slurm on login has not brought it: its job ended without a word. Or" in outcomes["e"]


def test_a_job_that_ends_without_any_output_is_an_error():
    assert (
        "has not brought it: its job ended without a word."
        in deliver(Slurm(IDLE, CommandResult(0, "", "")), "cn1")["cn1"]
    )


# From here on the scripts are run by the real sh.


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    return install_stand_ins(tmp_path, monkeypatch)


@pytest.fixture
def files(cluster):
    return [
        shells.make_file(cluster / "source", 200_000),
        shells.make_file(cluster / "source", 7, "einops-1-py3-none-any.whl"),
    ]


@pytest.fixture
def fan_out(cluster, files):
    """Brings files to the one node; why it does not have them."""

    def fan_out(target, source=cluster / "source", node="cn1", job=None):
        execute = Node(cluster / "home").execute
        return Broadcast("login", files, str(source), str(target), execute, job or JobOptions()).deliver([node])[node]

    return fan_out


def test_files_get_their_names_in_a_folder_of_the_user_alone(fan_out, cluster, files):
    target = cluster / "a" / "b"
    assert fan_out(target) is None
    assert read_folder(target) == {file.name: read_content(file) for file in files}
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(target.parent.stat().st_mode) == 0o700
    assert [line for line in read_log(cluster) if line.startswith(str(target))] == [
        f"{target}/{file.part}" for file in files
    ]


def test_files_that_are_there_are_not_sent_again(fan_out, cluster):
    assert [fan_out(cluster / "target") for _run in range(2)] == [None, None]
    assert len([line for line in read_log(cluster) if line == "--force"]) == 2


def test_a_file_of_another_size_is_sent_again(fan_out, cluster, files):
    fan_out(cluster / "target")
    (cluster / "target" / files[0].name).write_bytes(b"old")
    assert fan_out(cluster / "target") is None
    assert read_folder(cluster / "target") == {file.name: read_content(file) for file in files}


@pytest.mark.parametrize("name", ANY_NAMES)
def test_folders_may_have_any_name(name, fan_out, cluster, files):
    source, target = cluster / f"{name} from", cluster / f"{name} to"
    (cluster / "source").rename(source)
    for number, file in enumerate(files):
        files[number] = file._replace(path=str(source / file.name))
    assert fan_out(target, source) is None
    assert read_folder(target) == {file.name: read_content(file) for file in files}
    assert not list(cluster.rglob("pwned"))


@pytest.mark.parametrize("node", ["it's", "a b", "$(touch pwned)", "cn-1.cluster_2"])
def test_nodes_may_have_any_name(node, fan_out, cluster):
    (cluster / "states").write_text(f"{node}|idle|none\n")
    fan_out(cluster / "target", node=node)
    assert f"--nodes={node}" in read_log(cluster)
    assert f"--nodelist={node}" in read_log(cluster)
    assert not list(cluster.rglob("pwned"))


def test_the_job_has_the_operators_options(fan_out, cluster):
    fan_out(cluster / "target", job=JobOptions(["--partition=gpu", "--comment=a 'b'"], wait=7, fanout=4))
    assert {"--immediate=7", "--partition=gpu", "--comment=a 'b'", "--fanout=4"} <= set(read_log(cluster))


def test_a_job_is_limited_to_half_an_hour_unless_the_operator_sets_a_limit(fan_out, cluster):
    fan_out(cluster / "target", job=JobOptions(["--time=5"]))
    assert [word for word in read_log(cluster) if word.startswith("--time")] == [
        "--time=30",
        "--time=5",
    ]  # the last one counts


def test_salloc_gets_only_options_before_the_command(fan_out, cluster):
    """A word that is no option it takes for the command, also behind an option that may stand alone (--immediate)."""
    fan_out(cluster / "target")
    arguments = read_log(cluster)
    words = arguments[arguments.index("--quiet") : arguments.index("sh")]
    assert "--nodes=1" in words
    assert [word for word in words if not word.startswith("--")] == []


def test_without_a_fanout_slurms_default_applies(fan_out, cluster):
    fan_out(cluster / "target")
    assert not [line for line in read_log(cluster) if line.startswith("--fanout")]


def test_a_failed_sbcast_leaves_neither_parts_nor_the_folder(fan_out, cluster):
    (cluster / "full").write_text("sbcast: error: REQUEST_FILE_BCAST(cn1): No space left on device\n")
    target = cluster / "target"
    assert fan_out(target) == f"sbcast cannot bring it to cn1: No space left on device. {ADVICE}"
    assert not target.exists()


def test_a_failed_sbcast_leaves_files_of_others_alone(fan_out, cluster, files):
    (cluster / "full").write_text("sbcast: error: something\n")
    target = cluster / "target"
    target.mkdir(mode=0o755)
    (target / "mine").touch()
    (target / files[1].name).write_bytes(read_content(files[1]))
    assert "has not brought it: sbcast: error: something. Or set" in fan_out(target)
    assert read_folder(target) == {"mine": b"", files[1].name: read_content(files[1])}


def test_a_file_that_arrives_incomplete_does_not_get_its_name_and_is_removed(fan_out, cluster, files, monkeypatch):
    monkeypatch.setenv("SENDS", "1000")
    target = cluster / "target"
    assert (
        fan_out(target)
        == f"cn1 cannot take it: what sbcast brought is not whole. Set torch_extension_stage_dir. {ADVICE}"
    )
    assert not target.exists()


def test_without_room_nothing_is_sent(fan_out, cluster):
    (cluster / "bin" / "df").write_text("#!/bin/sh\necho head\necho tmpfs 300 200 100 66% /var\n")
    (cluster / "bin" / "df").chmod(0o755)
    target = cluster / "target"
    assert (
        fan_out(target)
        == f"cn1 cannot take it: {target} has 0 MiB free, wanted are 1 MiB. Set torch_extension_stage_dir. {ADVICE}"
    )
    assert "--force" not in read_log(cluster)


@pytest.mark.parametrize("name", [r"back\new", "100%s", "a:b", "it's"])
def test_a_message_names_the_folder_whatever_its_name(name, fan_out, cluster):
    (cluster / name).mkdir()
    (cluster / name).chmod(0o777)
    assert fan_out(cluster / name).startswith(
        f"cn1 cannot take it: the folder {cluster / name} cannot be used: it belongs"
    )


@pytest.mark.parametrize("others", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(others, fan_out, cluster):
    target = cluster / "target"
    target.mkdir()
    target.chmod(others)
    assert fan_out(target) == (
        f"cn1 cannot take it: the folder {target} cannot be used: it belongs to another user, or others may write to it (owner"
        f" {target.owner()}, mode {stat.filemode(target.stat().st_mode)}). Set torch_extension_stage_dir. {ADVICE}"
    )
    assert read_folder(target) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_another_user_is_refused(fan_out, cluster):
    (cluster / "target").mkdir()
    os.chown(cluster / "target", 12345, -1)
    assert "it belongs to another user" in fan_out(cluster / "target")


def test_a_folder_that_cannot_be_made_is_an_error_with_the_nodes_own_message(fan_out, cluster):
    (cluster / "file").touch()
    reason = fan_out(Path(cluster, "file", "x"))
    assert "Not a directory. Set torch_extension_stage_dir." in reason
    assert "--force" not in read_log(cluster)

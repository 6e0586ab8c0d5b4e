# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the action asks for and tells. Slurm's commands are stand-ins; with Slurm itself it is tried on the test stand."""

from __future__ import annotations

import os

import pytest
from slurms import install_stand_ins, read_log
from wheels import build_wheel, sha256


@pytest.fixture
def cluster(tmp_path, on_node, monkeypatch):  # whose PATH comes first
    return install_stand_ins(tmp_path, monkeypatch)


@pytest.fixture
def target(tmp_path):
    """The folder on the compute node."""
    return tmp_path / "target"


@pytest.fixture
def wheel(shelf):
    return build_wheel(shelf)


@pytest.fixture
def plan(target):
    def plan(ways=("slurm",), host="login", node=None):
        return {"delivery": {"ways": list(ways), "slurm_host": host, "slurm_node": node}, "stage_dir": str(target)}

    return plan


@pytest.fixture
def fetched(wheel):
    listed = [{"filename": wheel.name, "sha256": sha256(wheel)}]
    return {"wheels": listed, "requirements": [], "files": [str(wheel)], "errors": []}


@pytest.fixture
def broadcast(on_node, cluster, fetched):
    def broadcast(plans, *options, **more):
        arguments = {"plans": plans, "fetched": dict.fromkeys(plans, fetched), "slurm_host": "login", **more}
        return on_node("wheel_broadcast", *options, **{"stage_dir": "~/slurm", **arguments})

    return broadcast


def test_only_nodes_that_use_this_slurm_host_are_served(broadcast, plan, fetched, wheel, target, home):
    plans = {
        "gpu01": plan(node="cn1"),
        "cn2": plan(),
        "by copy": plan(("copy",)),
        "of another cluster": plan(host="other"),
        "with an error": plan(),
        "that was lost": plan(),
    }
    fetched_by_node = {**dict.fromkeys(plans, fetched), "with an error": {**fetched, "errors": ["The server is down."]}}
    del fetched_by_node["that was lost"]
    done = broadcast(plans, fetched=fetched_by_node)
    assert (done["failed"], done["changed"]) == (False, True), done["output"]
    assert sorted(done["nodes"]) == ["cn2", "gpu01"]
    assert done["nodes"]["gpu01"] == {"reason": None}
    assert "Slurm on login knows no node cn2." in done["nodes"]["cn2"]["reason"]
    assert [path.read_bytes() for path in target.iterdir()] == [wheel.read_bytes()]
    assert not (home / "slurm").exists()


def test_check_mode_changes_nothing(broadcast, plan, cluster, home):
    done = broadcast({"cn1": plan()}, "--check")
    assert (done["failed"], done["changed"], done["nodes"]) == (False, True, {"cn1": {"reason": None}})
    assert (read_log(cluster), (home / "slurm").exists()) == ([], False)


def test_without_nodes_slurm_is_not_used(broadcast, plan, cluster):
    done = broadcast({"node": plan(("copy",))})
    assert (done["failed"], done["changed"], done["nodes"], read_log(cluster)) == (False, False, {}, [])


def test_an_unusable_host_is_an_error_of_its_nodes_only(broadcast, plan, home):
    (home / "slurm").touch()
    done = broadcast({"cn1": plan()})
    assert (done["failed"], done["changed"]) == (False, False)
    reason = done["nodes"]["cn1"]["reason"]
    assert reason.startswith(
        "login cannot be used to bring it through Slurm: The folder ~/slurm on the node cannot be made"
    )
    assert "Look at torch_extension_slurm_host and torch_extension_slurm_stage_dir" in reason


def test_a_failed_broadcast_leaves_nothing_on_the_host_and_the_job_has_its_options(
    broadcast, plan, cluster, target, home
):
    (cluster / "full").write_text("sbcast: error: REQUEST_FILE_BCAST(cn1): No space left on device\n")
    done = broadcast({"cn1": plan()}, options=["--partition=gpu"], wait=7, fanout=4)
    assert "sbcast cannot bring it to cn1: No space left on device." in done["nodes"]["cn1"]["reason"]
    assert (target.exists(), os.path.lexists(home / "slurm")) == (False, False)
    assert {"--partition=gpu", "--fanout=4", "--immediate=7"} <= set(read_log(cluster))


def test_the_folder_of_the_host_must_not_be_that_of_the_nodes(broadcast, plan, target):
    reason = broadcast({"cn1": plan()}, stage_dir=str(target))["nodes"]["cn1"]["reason"]
    assert f"{target} is where it is brought from, and where it is brought to" in reason
    assert "Look at torch_extension_slurm_host and torch_extension_slurm_stage_dir" in reason


def test_broadcasts_from_one_host_run_one_after_the_other(broadcast, plan, cluster, tmp_path):
    (tmp_path / "cache").touch()  # no place for locks
    reason = broadcast({"cn1": plan()}, cache_dir=str(tmp_path / "cache"))["nodes"]["cn1"]["reason"]
    assert ".lock on the control node cannot be written to" in reason
    assert read_log(cluster) == []

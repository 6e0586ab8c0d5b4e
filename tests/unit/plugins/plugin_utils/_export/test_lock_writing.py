# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil

import pytest
from wheels import build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    Declaring,
    RequirementFinder,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file

pytestmark = pytest.mark.slow  # most of them run pip


def file_identity(path):
    """What is different when a file was written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_a_lock_has_hashes_and_sizes_and_the_requirements_of_its_wheels(
    write_lock, make_plan, publish, index, environment, lock_path, tmp_path
):
    wheel = publish()
    result = write_lock({"n1": make_plan(wheel), "n2": make_plan(wheel)})
    assert (result["changed"], result["environments"], result["path"]) == (True, 1, str(lock_path))
    assert [item["url"].rpartition("/")[2] for item in result["downloads"]] == [
        wheel["filename"],
        "einops-0.8.1-py3-none-any.whl",
    ]
    locked = lock_file.read_lock(str(lock_path)).find("flash-attn", environment)
    original = tmp_path / "published" / wheel["filename"]
    assert (locked["sha256"], locked["size"]) == (sha256(original), original.stat().st_size)
    [einops] = locked["requirements"]
    assert einops == {
        "name": "einops",
        "version": "0.8.1",
        "filename": "einops-0.8.1-py3-none-any.whl",
        "size": (tmp_path / "index" / "einops-0.8.1-py3-none-any.whl").stat().st_size,
        "sha256": sha256(tmp_path / "index" / "einops-0.8.1-py3-none-any.whl"),
        "required_by": ["flash-attn"],
    }
    assert lock_path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(lock_path.parent) == [lock_path.name]


def test_a_second_run_changes_nothing_and_uses_no_network(write_lock, make_plan, publish, index, lock_path, tls_server):
    plans = {"n1": make_plan(publish())}
    first = write_lock(plans)
    tls_server.requests.clear()
    before = file_identity(lock_path)
    again = write_lock(plans)
    assert (again["changed"], again["downloads"], tls_server.requests) == (False, [], [])
    assert file_identity(lock_path) == before
    assert again["diff"]["before"] == again["diff"]["after"] == first["diff"]["after"] == lock_path.read_text()


def test_what_nodes_have_already_changes_no_byte_of_the_lock(
    write_lock, make_plan, publish, index, environment, lock_path
):
    wheel = publish()
    write_lock({"n1": make_plan(wheel)})
    before = lock_path.read_text()
    environment["distributions"].update(einops="0.7", **{"flash-attn": "2.8.3"})
    assert write_lock({"n1": make_plan(wheel)})["changed"] is False
    lock_path.unlink()
    write_lock({"n1": make_plan(wheel)})
    assert lock_path.read_text() == before
    assert [item["version"] for item in lock_file.read_lock(str(lock_path)).requirements(environment)] == ["0.8.1"]


def test_what_cannot_be_had_and_all_nodes_have_is_left_out_with_a_warning(
    write_lock, make_plan, publish, index, environment, other_environment, lock_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    environment["distributions"]["einops"] = other_environment["distributions"]["einops"] = "0.7"
    wheel = publish()
    result = write_lock({"n1": make_plan(wheel), "n2": make_plan(wheel, environment=other_environment)})
    assert lock_file.read_lock(str(lock_path)).requirements(environment) == []
    [warning] = result["warnings"]
    assert warning.startswith(f"einops, which {wheel['filename']} requires, cannot be had from the index of")
    assert "The lock goes without it, for all nodes of these kinds have it (Python cp311, " in warning
    assert "torch 2.2.0+cu121" in warning
    assert "torch 2.9.0+cu128" in warning
    assert "Configure pip on the control node" in warning


def test_a_node_without_a_wheel_leaves_the_lock_as_it_was(write_lock, make_plan, publish, index, lock_path, tls_server):
    wheel = publish()
    write_lock({"n1": make_plan(wheel)})
    before = lock_path.read_text()
    bad = publish(conflicts=["built for CUDA 12, torch for CUDA 13.0"])
    none = publish(url=None)
    tls_server.requests.clear()
    with pytest.raises(TorchExtensionError) as error:
        write_lock(
            {
                "n1": make_plan(publish("2.8.4")),
                "n2": make_plan(bad),
                "n3": make_plan(bad),
                "n4": make_plan(none),
            }
        )
    assert (
        "n2, n3: flash-attn: built for CUDA 12, torch for CUDA 13.0\nn4: flash-attn: there is no wheel for it\n"
        in str(error.value)
    )
    assert "because an incomplete lock would look complete" in str(error.value)
    assert "torch_extension_skip_refused: true, or --limit 'localhost,all,!n2,!n3,!n4'." in str(error.value)
    assert (lock_path.read_text(), tls_server.requests) == (before, [])


def test_refused_nodes_can_be_left_out_and_all_of_their_kind_are_named(
    write_lock, make_plan, publish, index, environment, lock_path
):
    plans = {
        "n1": {**make_plan(publish()), "nodes": ["n1", "n7"]},
        "n2": {**make_plan(publish(conflicts=["it is a fork"])), "nodes": ["n2", "n5"]},
        "n3": {"refused": "No interpreter at /opt/venv."},
    }
    result = write_lock(plans, skip_refused=True)
    assert result["left_out"] == [
        {"nodes": ["n2", "n5"], "reason": "flash-attn: it is a fork"},
        {"nodes": ["n3"], "reason": "No interpreter at /opt/venv."},
    ]
    assert result["report"][1:] == [
        "left out: n2, n5: flash-attn: it is a fork",
        "left out: n3: No interpreter at /opt/venv.",
    ]
    text = lock_path.read_text()
    assert write_lock({"n1": plans["n1"]})["changed"] is False, text
    with pytest.raises(TorchExtensionError, match=r"n2, n5: flash-attn: it is a fork\nThere is no node to lock"):
        write_lock({"n2": plans["n2"]}, skip_refused=True)
    assert lock_path.read_text() == text


def test_a_failed_download_is_no_refusal_that_could_be_left_out(
    write_lock, make_plan, publish, index, lock_path, tls_server
):
    missing = publish("2.8.4")
    del tls_server.handlers[f"/{missing['filename']}"]
    with pytest.raises(TorchExtensionError) as error:
        write_lock({"n1": make_plan(publish()), "n2": make_plan(missing)}, skip_refused=True)
    assert "To lock the others without this node: --limit 'localhost,all,!n2'." in str(error.value)
    assert "skip_refused" not in str(error.value)
    assert not lock_path.exists()


def test_the_report_counts_kinds_of_nodes_files_and_bytes(
    write_lock, make_plan, publish, index, environment, other_environment, lock_path, tmp_path, cache
):
    wheel = publish()
    plans = {"n1": make_plan(wheel), "n2": make_plan(wheel, environment=other_environment)}
    files = [tmp_path / "published" / wheel["filename"], tmp_path / "index" / "einops-0.8.1-py3-none-any.whl"]
    size = sum(file.stat().st_size for file in files)
    result = write_lock(plans)
    assert (result["environments"], result["files"], result["size"]) == (2, 2, size)
    assert result["report"] == [f"{lock_path} was written: 2 kinds of nodes, 2 wheels, {size} bytes"]
    lock_path.unlink()
    predicted = write_lock(plans, predict=True)
    assert predicted["report"] == [f"{lock_path} would be written: 2 kinds of nodes, 2 wheels, {size} bytes"]
    shutil.rmtree(cache)
    [line] = write_lock(plans, predict=True)["report"]
    assert line.endswith(": 2 kinds of nodes, 1 wheel, 0 bytes (as far as is known without a download)")


def test_where_all_nodes_are_refused_there_are_no_others_to_lock(write_lock, make_plan, publish):
    refused = make_plan(publish(conflicts=["it is a fork"]))
    with pytest.raises(TorchExtensionError) as error:
        write_lock({"n1": refused, "n2": refused})
    assert str(error.value) == "n1, n2: flash-attn: it is a fork\nNothing was locked."


def test_all_wheels_that_cannot_be_downloaded_are_named_and_nothing_is_locked(
    write_lock, make_plan, publish, index, lock_path, tls_server
):
    missing = [publish(version) for version in ("2.8.3", "2.8.4")]
    for wheel in missing:
        del tls_server.handlers[f"/{wheel['filename']}"]
    with pytest.raises(TorchExtensionError) as error:
        write_lock({"n1": make_plan(missing[0]), "n2": make_plan(missing[1])})
    for wheel in missing:
        assert f"{wheel['url']} does not exist (404)" in str(error.value)
    assert not lock_path.exists()


def test_a_requirement_that_cannot_be_downloaded_is_an_error(write_lock, make_plan, publish, lock_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TorchExtensionError, match=r"n1: einops, which .* requires and the node lacks, cannot be had"):
        write_lock({"n1": make_plan(publish())})
    assert not lock_path.exists()


def test_without_nodes_there_is_nothing_to_lock(write_lock, lock_path):
    with pytest.raises(TorchExtensionError, match="There is no node"):
        write_lock({})
    assert not lock_path.exists()


def test_any_other_file_in_the_place_of_the_lock_stays(write_lock, make_plan, publish, lock_path):
    lock_path.parent.mkdir()
    lock_path.write_text("- hosts: all\n")
    with pytest.raises(TorchExtensionError, match="is not a sound lock"):
        write_lock({"n1": make_plan(publish())})
    assert lock_path.read_text() == "- hosts: all\n"


def test_a_lock_that_cannot_be_written_is_an_error(write_lock, make_plan, publish, index, lock_path):
    lock_path.parent.write_text("a file")
    with pytest.raises(TorchExtensionError, match=r"cannot be written .*torch_extension_lock"):
        write_lock({"n1": make_plan(publish())})


def test_a_prediction_downloads_nothing_and_says_what_it_cannot_know(
    write_lock, make_plan, publish, index, lock_path, tls_server
):
    wheel = publish(sha256=None)
    result = write_lock({"n1": make_plan(wheel)}, predict=True)
    looked_at = {f"/{wheel['filename']}"}  # by a server that gives no part of a file
    assert (result["changed"], set(tls_server.requests), lock_path.exists()) == (True, looked_at, False)
    for field in ("sha256", "size"):
        assert f"{field}: (known when it is downloaded)\n" in result["diff"]["after"]
    [warning] = result["warnings"]
    assert "flash_attn-2.8.3+" in warning
    assert "what the wheels require" in warning


def test_a_prediction_says_which_wheels_have_to_be_built_first(write_lock, make_plan, publish, index, lock_path):
    filename = "causal_conv1d-1.7.0+cu13torch2.14cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
    unbuilt = {"name": "causal-conv1d", "filename": filename, "url": None, "action": "build", "conflicts": []}
    plan = make_plan(publish(), unbuilt)
    result = write_lock({"n1": plan}, predict=True)
    assert (result["changed"], lock_path.exists()) == (True, False)
    assert f"To be built first, and then in the lock, too: {filename}." in result["warnings"]
    with pytest.raises(TorchExtensionError, match="there is no wheel for it"):
        write_lock({"n1": plan})


def test_a_prediction_without_a_cache_is_what_happens_where_servers_give_parts_of_files(
    write_lock, make_plan, publish, index, environment, cache, tls_server, tmp_path, lock_path
):
    environment["distributions"]["einops"] = "0.7"
    wheel = publish()
    tls_server.serve_file(f"/{wheel['filename']}", (tmp_path / "published" / wheel["filename"]).read_bytes())
    predicted = write_lock({"n1": make_plan(wheel)}, predict=True)
    assert (list(cache.rglob("*.whl")), lock_path.exists()) == ([], False)
    written = write_lock({"n1": make_plan(wheel)})
    for key in ("diff", "environments", "files", "size", "warnings"):
        assert predicted[key] == written[key], key
    assert [item["size"] for item in predicted["downloads"]] == [item["size"] for item in written["downloads"]]
    assert lock_file.read_lock(str(lock_path)).requirements(environment) != []


def test_a_prediction_is_what_happens_where_all_files_are_cached(
    write_lock, make_plan, publish, index, lock_path, cache, tls_server
):
    plans = {"n1": make_plan(publish())}
    write_lock(plans)
    lock_path.unlink()
    tls_server.requests.clear()
    predicted = write_lock(plans, predict=True)
    assert (predicted["changed"], predicted["warnings"], tls_server.requests, lock_path.exists()) == (
        True,
        [],
        [],
        False,
    )
    assert write_lock(plans)["diff"] == predicted["diff"]
    assert write_lock(plans, predict=True)["changed"] is False
    shutil.rmtree(cache)
    predicted = write_lock(plans, predict=True)
    assert (predicted["changed"], len(predicted["warnings"])) == (False, 1)
    assert write_lock({"n1": make_plan(publish("2.8.4"))}, predict=True)["changed"] is True


def test_a_node_gets_the_locked_requirements_and_nothing_newer(
    write_lock, make_plan, publish, index, environment, lock_path, cache, tmp_path, tls_server
):
    wheel = publish()
    write_lock({"n1": make_plan(wheel)})
    locked = lock_file.read_lock(str(lock_path)).requirements(environment)
    index({"name": "einops", "version": "0.9"})
    [file] = map(str, (cache / "wheels").glob(f"*/{wheel['filename']}"))
    other = RequirementFinder(str(tmp_path / "other"))
    assert [item.filename for item in other.find_missing([Declaring.read(file)], environment, locked)] == [
        "einops-0.8.1-py3-none-any.whl"
    ]
    assert len(other.downloaded) == 1
    tls_server.requests.clear()
    assert [item.name for item in other.find_missing([Declaring.read(file)], environment, locked)] == ["einops"]
    environment["distributions"]["einops"] = "0.7"
    assert other.find_missing([Declaring.read(file)], environment, locked) == [], "the node has one"
    assert tls_server.requests == []


def test_a_requirement_that_the_lock_lacks_is_refused(publish, environment, tmp_path, index, tls_server):
    wheel = tmp_path / "published" / publish()["filename"]
    requirements = RequirementFinder(str(tmp_path / "cache"))
    with pytest.raises(
        TorchExtensionError,
        match=r"einops, which flash_attn.* and the node lacks, is not in the lock, which lists no einops for this kind of node\. Run",
    ):
        requirements.find_missing([Declaring.read(str(wheel))], environment, [])
    assert tls_server.requests == []


def test_a_locked_requirement_of_a_bundle_comes_from_the_bundle(publish, environment, tmp_path, tls_server):
    wheel = tmp_path / "published" / publish()["filename"]
    einops = build_wheel(tmp_path / "bundle", name="einops", version="0.8.1")
    requests = []

    class Got:
        path = str(einops)

    def get(*arguments):
        requests.append(arguments)
        return Got

    item = {"name": "einops", "version": "0.8.1", "filename": einops.name, "size": 5, "sha256": sha256(einops)}
    locked = [{**item, "url": einops.as_uri()}]
    [found] = RequirementFinder(str(tmp_path / "cache"), get).find_missing(
        [Declaring.read(str(wheel))], environment, locked
    )
    assert (found.path, requests) == (str(einops), [(einops.as_uri(), einops.name, sha256(einops), 5)])
    assert tls_server.requests == []


@pytest.mark.parametrize(
    "environment_of_broken", [None, {"python": {}}, {"platform": {"system": 5}}], ids=["none", "half", "odd"]
)
def test_a_node_that_says_what_cannot_be_is_named_and_may_be_left_out(
    environment_of_broken, write_lock, make_plan, publish, index, environment, lock_path
):
    broken = environment_of_broken and {**environment, **environment_of_broken}
    plans = {"n1": make_plan(publish()), "n2": make_plan(publish(), environment=broken)}
    with pytest.raises(TorchExtensionError, match=r"^n2: environment[^\n]*\n.*--limit 'localhost,all,!n2'"):
        write_lock(plans)
    assert not lock_path.exists()
    result = write_lock(plans, skip_refused=True)
    assert (result["environments"], [each["nodes"] for each in result["left_out"]]) == (1, [["n2"]])


def test_what_a_killed_run_has_left_beside_a_lock_goes_with_the_next_one(
    write_lock, make_plan, publish, index, lock_path
):
    lock_path.parent.mkdir()
    (lock_path.parent / ".torch_extension-x").touch()
    write_lock({"n1": make_plan(publish())}, predict=True)
    assert os.listdir(lock_path.parent) == [".torch_extension-x"]
    write_lock({"n1": make_plan(publish())})
    assert os.listdir(lock_path.parent) == [lock_path.name]

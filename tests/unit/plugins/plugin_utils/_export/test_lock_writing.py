# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import os
import shutil

import pytest
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import RequirementFinder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import state
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_writing import write_bundle
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_writing import write_lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


@pytest.fixture
def server(tls_server):
    """As GitHub and an index are."""
    return tls_server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "git" / "wheels.lock.yml"


@pytest.fixture
def index(server, tmp_path, monkeypatch):
    """Puts wheels on an index of the control node's pip."""

    def index(*wheels):
        for wheel in wheels:
            build_wheel(tmp_path / "index", **wheel)
        monkeypatch.setenv("PIP_INDEX_URL", server.serve_index(tmp_path / "index"))

    index({"name": "einops", "version": "0.8.1"})
    return index


@pytest.fixture
def publish(server, tmp_path):
    """Puts a wheel on a release; as the lookup describes it."""

    def publish(version="2.8.3", content="V = 1\n", **more):
        wheel = build_wheel(
            tmp_path / "published",
            version=version,
            label=LABEL,
            requires=["torch", "einops"],
            files={"flash_attn/__init__.py": content},
        )
        url = server.serve_body(f"/{wheel.name}", wheel.read_bytes())
        facts = {"name": "flash-attn", "version": version, "requirement": "flash-attn", "source": "guess"}
        known = {"sha256": sha256(wheel), "size": None, "conflicts": [], "ground": None}
        return {**facts, **known, "filename": wheel.name, "url": url, **more}

    return publish


@pytest.fixture
def lock(path, cache):
    def lock(plans, **more):
        return write_lock(plans, str(path), DownloadContext(str(cache)), **more)

    return lock


@pytest.fixture
def bundle(path, cache, tmp_path):
    def bundle(dest="bundle", **more):
        return write_bundle(str(path), str(tmp_path / dest), DownloadContext(str(cache)), **more)

    return bundle


def plan(environment, *wheels):
    return {"environment": environment, "wheels": list(wheels)}


def stamp(path):
    """What differs when a file was written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def asked_for(server):
    return [item.rpartition("/")[2] for item in server.requests if item.endswith(".whl")]


def test_a_lock_has_hashes_sizes_and_what_the_nodes_lacked(lock, publish, index, environment, path, tmp_path):
    wheel = publish()
    result = lock({"n1": plan(environment, wheel), "n2": plan(environment, wheel)})
    assert (result["changed"], result["environments"], result["path"]) == (True, 1, str(path))
    assert [item["url"].rpartition("/")[2] for item in result["downloads"]] == [
        wheel["filename"],
        "einops-0.8.1-py3-none-any.whl",
    ]
    found = lock_file.read(str(path)).find("flash-attn", environment)
    original = tmp_path / "published" / wheel["filename"]
    assert (found["sha256"], found["size"]) == (sha256(original), original.stat().st_size)
    [einops] = found["requirements"]
    assert einops == {
        "name": "einops",
        "version": "0.8.1",
        "filename": "einops-0.8.1-py3-none-any.whl",
        "size": (tmp_path / "index" / "einops-0.8.1-py3-none-any.whl").stat().st_size,
        "sha256": sha256(tmp_path / "index" / "einops-0.8.1-py3-none-any.whl"),
        "required_by": ["flash-attn"],
    }
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == [path.name]


def test_a_second_run_changes_nothing_and_asks_nobody(lock, publish, index, environment, path, server):
    plans = {"n1": plan(environment, publish())}
    first = lock(plans)
    server.requests.clear()
    before = stamp(path)
    again = lock(plans)
    assert (again["changed"], again["downloads"], server.requests) == (False, [], [])
    assert stamp(path) == before
    assert again["diff"]["before"] == again["diff"]["after"] == first["diff"]["after"] == path.read_text()


def test_the_lock_stays_when_the_nodes_have_got_what_it_brought(lock, publish, index, environment, path):
    wheel = publish()
    lock({"n1": plan(environment, wheel)})
    environment["distributions"].update(einops="0.8.1", **{"flash-attn": "2.8.3"})
    assert lock({"n1": plan(environment, wheel)})["changed"] is False
    path.unlink()
    lock({"n1": plan(environment, wheel)})
    assert lock_file.read(str(path)).requirements(environment) == [], "what a node had from elsewhere"


def test_nodes_of_one_kind_share_what_any_of_them_lacks(lock, publish, index, environment, path):
    wheel, complete = publish(), copy.deepcopy(environment)
    complete["distributions"]["einops"] = "0.7"
    lock({"n1": plan(complete, wheel), "n2": plan(environment, wheel)})
    assert [item["name"] for item in lock_file.read(str(path)).requirements(complete)] == ["einops"]


def test_a_node_that_cannot_be_served_keeps_the_lock_as_it_was(lock, publish, index, environment, path, server):
    wheel = publish()
    lock({"n1": plan(environment, wheel)})
    before = path.read_text()
    bad = publish(conflicts=["built for CUDA 12, torch for CUDA 13.0"])
    none = publish(url=None)
    server.requests.clear()
    with pytest.raises(TorchExtensionError) as error:
        lock(
            {
                "n1": plan(environment, publish("2.8.4")),
                "n2": plan(environment, bad),
                "n3": plan(environment, bad),
                "n4": plan(environment, none),
            }
        )
    assert (
        "n2, n3: flash-attn: built for CUDA 12, torch for CUDA 13.0\nn4: flash-attn: there is no wheel for it\n"
        in str(error.value)
    )
    assert "Nothing was locked" in str(error.value)
    assert (path.read_text(), server.requests) == (before, [])


def test_every_file_that_cannot_be_had_is_told_and_nothing_is_locked(lock, publish, index, environment, path, server):
    missing = [publish(version) for version in ("2.8.3", "2.8.4")]
    for wheel in missing:
        del server.handlers[f"/{wheel['filename']}"]
    with pytest.raises(TorchExtensionError) as error:
        lock({"n1": plan(environment, missing[0]), "n2": plan(environment, missing[1])})
    for wheel in missing:
        assert f"{wheel['url']} does not exist (404)" in str(error.value)
    assert not path.exists()


def test_a_requirement_that_cannot_be_had_is_told(lock, publish, environment, path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TorchExtensionError, match=r"n1: einops, which .* requires and the node lacks, cannot be had"):
        lock({"n1": plan(environment, publish())})
    assert not path.exists()


def test_without_nodes_there_is_nothing_to_lock(lock, path):
    with pytest.raises(TorchExtensionError, match="There is no node"):
        lock({})
    assert not path.exists()


def test_something_else_under_the_name_of_the_lock_stays(lock, publish, environment, path):
    path.parent.mkdir()
    path.write_text("- hosts: all\n")
    with pytest.raises(TorchExtensionError, match="is not a sound lock"):
        lock({"n1": plan(environment, publish())})
    assert path.read_text() == "- hosts: all\n"


def test_a_lock_that_cannot_be_written_is_told(lock, publish, index, environment, path):
    path.parent.write_text("a file")
    with pytest.raises(TorchExtensionError, match=r"cannot be written .*torch_extension_lock"):
        lock({"n1": plan(environment, publish())})


def test_a_prediction_downloads_nothing_and_says_what_it_cannot_know(lock, publish, index, environment, path, server):
    wheel = publish(url="https://github.example/wheel", sha256=None)
    result = lock({"n1": plan(environment, wheel)}, predict=True)
    assert (result["changed"], server.requests, path.exists()) == (True, [], False)
    for field in ("sha256", "size"):
        assert f"{field}: (known when it is downloaded)\n" in result["diff"]["after"]
    [warning] = result["warnings"]
    assert "flash_attn-2.8.3+" in warning
    assert "what the wheels require" in warning


def test_a_prediction_is_what_happens_where_all_is_known(lock, publish, index, environment, path, cache, server):
    plans = {"n1": plan(environment, publish())}
    lock(plans)
    path.unlink()
    server.requests.clear()
    predicted = lock(plans, predict=True)
    assert (predicted["changed"], predicted["warnings"], server.requests, path.exists()) == (True, [], [], False)
    assert lock(plans)["diff"] == predicted["diff"]
    assert lock(plans, predict=True)["changed"] is False
    shutil.rmtree(cache)
    predicted = lock(plans, predict=True)
    assert (predicted["changed"], len(predicted["warnings"])) == (False, 1)
    assert lock({"n1": plan(environment, publish("2.8.4"))}, predict=True)["changed"] is True


def test_a_bundle_is_made_of_the_lock_and_the_cache(lock, bundle, publish, index, environment, server, tmp_path):
    lock({"n1": plan(environment, publish())})
    server.requests.clear()
    result = bundle()
    assert (result["changed"], result["downloads"], asked_for(server)) == (True, [], [])
    assert result["files"] == sorted(state(result["path"]))
    assert result["diff"]["after"].splitlines()[-1].endswith(f"  {result['files'][-1]}")
    before = [stamp(path) for path in sorted((tmp_path / "bundle").rglob("*"))]
    again = bundle()
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])
    assert [stamp(path) for path in sorted((tmp_path / "bundle").rglob("*"))] == before


@pytest.mark.parametrize("dest", ["bundle", "bundle.tar"])
def test_a_bundle_is_made_of_the_lock_alone(dest, lock, bundle, publish, index, environment, cache, server, tmp_path):
    wheel = publish()
    lock({"n1": plan(environment, wheel)})
    made = state(bundle(dest)["path"])
    shutil.rmtree(cache)
    (shutil.rmtree if dest == "bundle" else os.unlink)(tmp_path / dest)
    index({"name": "einops", "version": "0.8.2"})
    server.requests.clear()
    result = bundle(dest)
    assert sorted(asked_for(server)) == ["einops-0.8.1-py3-none-any.whl", wheel["filename"]]
    assert state(result["path"]) == made
    assert len(result["downloads"]) == 2


def test_a_prediction_of_a_bundle_downloads_nothing(lock, bundle, publish, index, environment, cache, server, tmp_path):
    lock({"n1": plan(environment, publish())})
    shutil.rmtree(cache)
    server.requests.clear()
    predicted = bundle(predict=True)
    assert (predicted["changed"], server.requests, (tmp_path / "bundle").exists()) == (True, [], False)
    assert bundle()["diff"] == predicted["diff"]
    assert bundle(predict=True)["changed"] is False


def test_a_file_that_changed_on_the_release_does_not_come_into_a_bundle(
    lock, bundle, publish, index, environment, cache, tmp_path
):
    lock({"n1": plan(environment, publish())})
    publish(content="V = 2\n")
    assert bundle("with cache")["changed"] is True
    shutil.rmtree(cache)
    with pytest.raises(TorchExtensionError, match=r"has sha256 [0-9a-f]{64}, wanted is"):
        bundle("without cache")
    assert not (tmp_path / "without cache").exists()


def test_a_locked_requirement_with_another_hash_is_refused(lock, bundle, publish, index, environment, cache, tmp_path):
    lock({"n1": plan(environment, publish())})
    shutil.rmtree(cache / "requirements")
    index({"name": "einops", "version": "0.8.1", "files": {"einops.py": "V = 'changed'\n"}})
    with pytest.raises(
        TorchExtensionError,
        match=r"einops-0\.8\.1-py3-none-any\.whl with sha256 .* cannot be had .*ERROR: .*lock again",
    ):
        bundle()
    assert not (tmp_path / "bundle").exists()


def test_without_a_lock_there_is_no_bundle(bundle):
    with pytest.raises(TorchExtensionError, match=r"wheels\.lock\.yml cannot be read: .*The playbook lock makes it"):
        bundle()


def test_a_node_gets_what_is_locked_and_nothing_newer(lock, publish, index, environment, path, cache, tmp_path, server):
    wheel = publish()
    lock({"n1": plan(environment, wheel)})
    locked = lock_file.read(str(path)).requirements(environment)
    index({"name": "einops", "version": "0.9"})
    [file] = map(str, (cache / "wheels").glob(f"*/{wheel['filename']}"))
    other = RequirementFinder(str(tmp_path / "other"))
    assert [item.filename for item in other.find_missing([file], environment, locked)] == [
        "einops-0.8.1-py3-none-any.whl"
    ]
    assert len(other.downloaded) == 1
    server.requests.clear()
    assert [item.name for item in other.find_missing([file], environment, locked)] == ["einops"]
    environment["distributions"]["einops"] = "0.7"
    assert other.find_missing([file], environment, locked) == [], "the node has one"
    assert server.requests == []


def test_what_a_lock_lacks_is_refused(publish, environment, tmp_path, index, server):
    wheel = tmp_path / "published" / publish()["filename"]
    requirements = RequirementFinder(str(tmp_path / "cache"))
    with pytest.raises(
        TorchExtensionError,
        match=r"einops, which flash_attn.* is not in the lock, which has none for nodes of this kind",
    ):
        requirements.find_missing([str(wheel)], environment, [])
    assert server.requests == []


def test_a_locked_requirement_of_a_bundle_comes_from_there(publish, environment, tmp_path, server):
    wheel = tmp_path / "published" / publish()["filename"]
    einops = build_wheel(tmp_path / "bundle", name="einops", version="0.8.1")
    asked = []

    class Got:
        path = str(einops)

    def get(*arguments):
        asked.append(arguments)
        return Got

    item = {"name": "einops", "version": "0.8.1", "filename": einops.name, "size": 5, "sha256": sha256(einops)}
    locked = [{**item, "url": einops.as_uri()}]
    [found] = RequirementFinder(str(tmp_path / "cache"), get).find_missing([str(wheel)], environment, locked)
    assert (found.path, asked) == (str(einops), [(einops.as_uri(), einops.name, sha256(einops), 5)])
    assert server.requests == []

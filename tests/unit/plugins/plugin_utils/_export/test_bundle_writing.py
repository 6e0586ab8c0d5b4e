# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import hash_existing_files

pytestmark = pytest.mark.slow  # most of them run pip


def file_identity(path):
    """What is different when a file was written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def requested_wheels(server):
    return [item.rpartition("/")[2] for item in server.requests if item.endswith(".whl")]


def test_a_bundle_is_made_of_the_lock_and_the_cache(
    write_lock, make_plan, write_bundle, publish, index, tls_server, tmp_path
):
    write_lock({"n1": make_plan(publish())})
    tls_server.requests.clear()
    result = write_bundle()
    assert (result["changed"], result["downloads"], requested_wheels(tls_server)) == (True, [], [])
    assert result["files"] == sorted(hash_existing_files(result["path"]))
    assert result["diff"]["after"].splitlines()[-1].endswith(f"  {result['files'][-1]}")
    before = [file_identity(path) for path in sorted((tmp_path / "bundle").rglob("*"))]
    again = write_bundle()
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])
    assert [file_identity(path) for path in sorted((tmp_path / "bundle").rglob("*"))] == before


@pytest.mark.parametrize("dest", ["bundle", "bundle.tar"])
def test_without_a_cache_the_lock_is_enough_for_the_same_bundle(
    dest, write_lock, make_plan, write_bundle, publish, index, cache, tls_server, tmp_path
):
    wheel = publish()
    write_lock({"n1": make_plan(wheel)})
    before = hash_existing_files(write_bundle(dest)["path"])
    shutil.rmtree(cache)
    (shutil.rmtree if dest == "bundle" else os.unlink)(tmp_path / dest)
    index({"name": "einops", "version": "0.8.2"})
    tls_server.requests.clear()
    result = write_bundle(dest)
    assert sorted(requested_wheels(tls_server)) == ["einops-0.8.1-py3-none-any.whl", wheel["filename"]]
    assert hash_existing_files(result["path"]) == before
    assert len(result["downloads"]) == 2


def test_a_prediction_of_a_bundle_downloads_nothing(
    write_lock, make_plan, write_bundle, publish, index, cache, tls_server, tmp_path
):
    write_lock({"n1": make_plan(publish())})
    shutil.rmtree(cache)
    tls_server.requests.clear()
    predicted = write_bundle(predict=True)
    assert (predicted["changed"], tls_server.requests, (tmp_path / "bundle").exists()) == (True, [], False)
    assert write_bundle()["diff"] == predicted["diff"]
    assert write_bundle(predict=True)["changed"] is False


def test_a_file_that_changed_on_the_release_does_not_come_into_a_bundle(
    write_lock, make_plan, write_bundle, publish, index, cache, tmp_path
):
    write_lock({"n1": make_plan(publish())})
    publish(content="V = 2\n")
    assert write_bundle("with cache")["changed"] is True
    shutil.rmtree(cache)
    with pytest.raises(TorchExtensionError, match=r"has sha256 [0-9a-f]{64}, wanted is"):
        write_bundle("without cache")
    assert not (tmp_path / "without cache").exists()


def test_a_locked_requirement_with_another_hash_is_refused(
    write_lock, make_plan, write_bundle, publish, index, cache, tmp_path
):
    write_lock({"n1": make_plan(publish())})
    shutil.rmtree(cache / "requirements")
    index({"name": "einops", "version": "0.8.1", "files": {"einops.py": "V = 'changed'\n"}})
    with pytest.raises(
        TorchExtensionError,
        match=r"einops-0\.8\.1-py3-none-any\.whl with sha256 .* cannot be had .*ERROR: .*lock again",
    ):
        write_bundle()
    assert not (tmp_path / "bundle").exists()


def test_without_a_lock_there_is_no_bundle(write_bundle):
    with pytest.raises(TorchExtensionError, match=r"wheels\.lock\.yml cannot be read: .*The playbook lock makes it"):
        write_bundle()

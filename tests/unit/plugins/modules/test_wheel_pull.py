# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.modules import wheel_pull


@pytest.fixture
def wheels(tmp_path):
    return [build_wheel(tmp_path / "shelf", label=LABEL), build_wheel(tmp_path / "shelf", name="einops")]


@pytest.fixture
def pull(run_module, server):
    """Fetches wheels into a folder of the user's home."""

    def pull(*wheels, check_mode=False, **more):
        files = [{"filename": path.name, "sha256": sha256(path), "size": path.stat().st_size} for path in wheels]
        arguments = {"url": f"{server.url}/wheels", "files": files, "folder": "~/stage", **more}
        return run_module(wheel_pull, check_mode=check_mode, **arguments)

    return pull


def offer(server, path):
    server.serve_file(f"/wheels/{quote(path.name)}", path.read_bytes())


def test_files_are_fetched_and_the_second_run_changes_nothing(pull, wheels, server, home):
    for path in wheels:
        offer(server, path)
    names = [path.name for path in wheels]
    foretold = pull(*wheels, check_mode=True)
    assert (foretold["changed"], foretold["pulled"], foretold["missing"]) == (True, names, [])
    assert (server.requests, os.listdir(home)) == ([], [])
    done = pull(*wheels)
    assert {**done, "invocation": 0} == {**foretold, "invocation": 0}
    assert done["folder"] == f"{home}/stage"
    assert sorted(os.listdir(home / "stage")) == sorted(names)
    for check_mode in (True, False):
        again = pull(*wheels, check_mode=check_mode)
        assert (again["changed"], again["pulled"], again["missing"]) == (False, [], [])


def test_what_the_server_does_not_have_is_told_and_the_others_are_fetched(pull, wheels, server, home):
    offer(server, wheels[1])
    done = pull(*wheels)
    assert (done["changed"], done["pulled"], done["missing"]) == (True, [wheels[1].name], [wheels[0].name])
    assert os.listdir(home / "stage") == [wheels[1].name]


def test_where_nothing_has_come_there_is_no_folder_afterwards(pull, wheels, server, home):
    assert pull(wheels[0])["missing"] == [wheels[0].name]
    assert os.listdir(home) == []
    assert pull(wheels[0], url=f"{server.url}/nowhere?x")["failed"]
    server.serve_body(f"/wheels/{quote(wheels[0].name)}", b"", status=401)
    assert pull(wheels[0])["failed"]
    assert os.listdir(home) == []


def test_a_hash_may_be_in_capitals(pull, wheels, server):
    offer(server, wheels[0])
    file = {"filename": wheels[0].name, "sha256": sha256(wheels[0]).upper(), "size": wheels[0].stat().st_size}
    assert pull(files=[file])["pulled"] == [wheels[0].name]


@pytest.mark.parametrize("name", ["../../evil-1-py3-none-any.whl", "/etc/evil-1-py3-none-any.whl", "evil", ""])
def test_a_path_is_no_name_of_a_file(name, pull, server, home):
    failed = pull(files=[{"filename": name, "sha256": "0" * 64, "size": 1}])
    assert failed["failed"]
    assert "is not the name of a wheel" in failed["msg"]
    assert (server.requests, os.listdir(home)) == ([], [])


@pytest.mark.parametrize("check_mode", [False, True])
def test_credentials_in_the_url_are_refused(check_mode, pull, wheels):
    failed = pull(*wheels, url="https://me:s3cret@artifacts.example/", check_mode=check_mode)
    assert (failed["failed"], "Put them into ~/.netrc" in failed["msg"], "s3cret" in failed["msg"]) == (
        True,
        True,
        False,
    )


def test_what_fails_is_one_message(pull, wheels, server):
    server.serve_body(f"/wheels/{quote(wheels[0].name)}", b"", status=403)
    failed = pull(*wheels)
    assert (failed["failed"], "is refused to this node (403 Forbidden)" in failed["msg"]) == (True, True)


def test_a_file_of_cas_without_any_is_refused_though_the_system_has_some(pull, wheels):
    assert "torch_extension_pull_ca_path has no certificates" in pull(*wheels, ca="")["msg"]

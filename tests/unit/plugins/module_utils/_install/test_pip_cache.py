# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import partial

import pytest
from at_once import do_at_once
from kills import kills_at_each_write
from other_users import OWNER, as_user, needs_root
from servers import running_server
from wheels import LABEL, as_wanted, build_sdist, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.pip_cache import (
    add_wheel,
    decide_action,
    list_leftovers,
    remove_leftovers,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.cache import wheel_path

SDIST_URL = f"https://mirror.example/packages/flash_attn-2.8.3.tar.gz#sha256={'ab' * 32}"


@pytest.fixture
def node(venv, run, tmp_path, monkeypatch):
    """An environment whose cache is an empty folder of the test."""
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    return describe_environment(str(venv), [], run, os.environ)[0]


@pytest.fixture
def planned(node, tmp_path):
    def plan(label=LABEL, sdist_url=SDIST_URL, **wheel):
        path = build_wheel(tmp_path / "delivered", label=label, **wheel)
        return as_wanted(path, sdist_url=sdist_url, pip_cache_path=wheel_path(sdist_url, path.name, node))

    return plan


def folder(tmp_path):
    return str(tmp_path / "delivered")


def test_a_wheel_is_added_once_where_pip_looks(node, planned, tmp_path):
    wheel = planned()
    assert decide_action(wheel, node).action == "install"
    add_wheel(wheel, folder(tmp_path), node)
    assert sha256(type(tmp_path)(wheel["pip_cache_path"])) == wheel["sha256"]
    assert oct(os.stat(wheel["pip_cache_path"]).st_mode)[-3:] == "644"
    assert decide_action(wheel, node).action == "keep"


def test_the_wheel_of_another_torch_is_replaced_because_pip_goes_by_the_alphabet(node, planned, tmp_path):
    before, after = planned(label="cu12torch2.5cxx11abiFALSE"), planned()
    add_wheel(before, folder(tmp_path), node)
    action = decide_action(after, node)
    assert (action.action, before["filename"] in action.reason) == ("replace", True)
    add_wheel(after, folder(tmp_path), node)
    wheels = [name for name in os.listdir(os.path.dirname(after["pip_cache_path"])) if not name.endswith(".json")]
    assert wheels == [after["filename"]]
    assert decide_action(after, node).action == "keep"


def test_a_damaged_wheel_in_the_cache_is_replaced(node, planned, tmp_path):
    wheel = planned()
    add_wheel(wheel, folder(tmp_path), node)
    os.truncate(wheel["pip_cache_path"], 100)
    for known in (wheel, {**wheel, "sha256": None}):
        action = decide_action(known, node)
        assert (action.action, "damaged" in action.reason) == ("replace", True)
    add_wheel(wheel, folder(tmp_path), node)
    assert decide_action(wheel, node).action == "keep"


@pytest.mark.parametrize(
    ("fragment", "archive_info"),
    [
        (f"#sha256={'ab' * 32}", {"hash": f"sha256={'ab' * 32}", "hashes": {"sha256": "ab" * 32}}),
        ("", {}),
        ("#md5=cd", {}),
    ],
    ids=["sha256", "no hash", "another hash"],
)
def test_the_origin_is_written_as_pip_reads_it(fragment, archive_info, node, planned, tmp_path):
    from pip._internal.models.direct_url import DirectUrl

    url = SDIST_URL.partition("#")[0]
    wheel = planned(sdist_url=url + fragment)
    add_wheel(wheel, folder(tmp_path), node)
    with open(os.path.join(os.path.dirname(wheel["pip_cache_path"]), "origin.json")) as file:
        text = file.read()
    assert json.loads(text) == {"url": url, "archive_info": archive_info}
    read = DirectUrl.from_json(text)
    info = read.archive_info if hasattr(read, "archive_info") else read.info  # of pip 26 and of older ones
    assert info.hashes == archive_info.get("hashes")


def test_metadata_with_a_label_is_refused_because_pip_would_refuse_it(node, planned, tmp_path):
    wheel = planned(metadata_version=f"2.8.3+{LABEL}")
    before = tree_state(tmp_path)
    with pytest.raises(
        TorchExtensionError, match=r"pip would refuse .* the sdist 2\.8\.3.*torch_extension_mode: install"
    ):
        add_wheel(wheel, folder(tmp_path), node)
    assert tree_state(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda path: None,
        lambda path: "",
        lambda path: "/etc/passwd",
        os.path.basename,
        lambda path: path.replace("/wheels/", "/wheels/../"),
        lambda path: path.replace("/wheels/", "/http/"),
        lambda path: os.path.join(os.path.dirname(path), "../../../../../../evil", os.path.basename(path)),
        lambda path: os.path.join(os.path.dirname(path), "other.whl"),
        lambda path: path + "\n",
    ],
)
def test_a_path_outside_of_the_cache_is_refused(change, node, planned, tmp_path):
    wheel = planned()
    before = tree_state(tmp_path)
    bad = {**wheel, "pip_cache_path": change(wheel["pip_cache_path"])}
    for act in (lambda: decide_action(bad, node), lambda: add_wheel(bad, folder(tmp_path), node)):
        with pytest.raises(TorchExtensionError, match="no place in pip's cache on this node"):
            act()
    assert tree_state(tmp_path) == before


def test_a_cache_that_pip_would_not_use_is_not_filled(node, planned):
    node["pip_cache"] = {**node["pip_cache"], "usable": False, "reason": "it is switched off"}
    with pytest.raises(TorchExtensionError, match="would not use its cache: it is switched off"):
        decide_action(planned(), node)


@needs_root
def test_a_folder_of_root_in_the_cache_is_told_before_anything_is_brought(node, planned, open_folder, monkeypatch):
    wheel = planned()
    wheel["pip_cache_path"] = wheel["pip_cache_path"].replace(node["pip_cache"]["dir"], str(open_folder))
    node["pip_cache"]["dir"] = str(open_folder)
    (open_folder / "wheels").mkdir()
    os.chown(open_folder, OWNER, OWNER)
    with (
        as_user(OWNER),
        pytest.raises(
            TorchExtensionError, match=rf"{open_folder}/wheels belongs to root.*chown -R {OWNER}: {open_folder}"
        ),
    ):
        decide_action(wheel, node)
    os.chown(open_folder / "wheels", OWNER, OWNER)
    with as_user(OWNER):
        assert decide_action(wheel, node).action == "install"


@needs_root
def test_root_writes_nothing_into_a_cache_below_a_folder_of_another_user(node, planned, open_folder):
    (open_folder / "home/pip").mkdir(parents=True)
    wheel = planned()
    wheel["pip_cache_path"] = wheel["pip_cache_path"].replace(node["pip_cache"]["dir"], f"{open_folder}/home/pip")
    node["pip_cache"]["dir"] = f"{open_folder}/home/pip"
    os.chown(open_folder / "home", OWNER, OWNER)
    with pytest.raises(TorchExtensionError, match=rf"^{open_folder}/home belongs to {OWNER} .*become_user: {OWNER}"):
        decide_action(wheel, node)
    os.chown(open_folder / "home", 0, 0)
    assert decide_action(wheel, node).action == "install"


@pytest.mark.parametrize("spoil", ["hash", "file"])
def test_a_bad_delivery_leaves_the_cache_as_it_was(spoil, node, planned, tmp_path):
    add_wheel(planned(label="cu12torch2.5cxx11abiFALSE"), folder(tmp_path), node)
    wheel = planned()
    if spoil == "hash":
        wheel["sha256"] = "0" * 64
    else:
        os.unlink(os.path.join(folder(tmp_path), wheel["filename"]))
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=r"sha256|cannot be read"):
        add_wheel(wheel, folder(tmp_path), node)
    assert tree_state(tmp_path) == before


def test_a_full_disk_leaves_nothing_half_written(node, planned, tmp_path, monkeypatch):
    wheel = planned()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add_wheel(wheel, folder(tmp_path), node)
    assert os.listdir(os.path.dirname(wheel["pip_cache_path"])) == []
    assert decide_action(wheel, node).action == "install"


def pip_install(venv, *arguments):
    command = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=venv)


@pytest.fixture
def index(tmp_path):
    """A simple index that holds an sdist, whose setup.py fails if it is run. Returns the sdist's URL on it."""
    sdist = build_sdist(tmp_path / "index")
    with running_server() as server:
        yield server.serve_index(sdist.parent), f"{server.url}/files/{sdist.name}#sha256={sha256(sdist)}", server


@pytest.mark.slow
@pytest.mark.parametrize(
    "requirement", ["flash-attn==2.8.3", "flash-attn"], ids=["pinned", "unpinned, the newest of the index"]
)
def test_plain_pip_install_takes_the_seeded_wheel_and_runs_no_setup_py(
    requirement, index, node, planned, venv, tmp_path
):
    index_url, sdist_url, server = index
    without = pip_install(venv, "--index-url", index_url, requirement)
    assert without.returncode != 0
    assert "setup.py was run" in without.stdout + without.stderr
    add_wheel(planned(sdist_url=sdist_url), folder(tmp_path), node)
    server.requests.clear()
    done = pip_install(venv, "--index-url", index_url, requirement)
    assert done.returncode == 0, done.stderr
    assert "Using cached flash_attn-2.8.3+cu12" in done.stdout.replace("\n", " ")
    assert server.requests == ["/simple/flash-attn/"], "the sdist itself was not even downloaded"
    assert (
        subprocess.check_output([venv / "bin" / "python", "-c", "import flash_attn; print(flash_attn.V)"]) == b"2.8.3\n"
    )


@pytest.mark.slow
def test_pip_takes_the_seeded_wheel_with_the_hash_of_the_sdist_required(index, node, planned, venv, tmp_path):
    index_url, sdist_url, _server = index
    add_wheel(planned(sdist_url=sdist_url), folder(tmp_path), node)
    digest = sdist_url.partition("#sha256=")[2]
    (tmp_path / "requirements.txt").write_text(f"flash-attn==2.8.3 --hash=sha256:{digest}\n")
    done = pip_install(venv, "--index-url", index_url, "-r", str(tmp_path / "requirements.txt"))
    assert done.returncode == 0, done.stderr


def test_pip_takes_the_wheel_from_the_cache_that_its_install_section_names(index, venv, run, planned, tmp_path):
    index_url, sdist_url, _server = index
    (venv / "pip.conf").write_text(f"[install]\ncache-dir = {tmp_path}/own\n")
    os.environ.pop("PIP_CONFIG_FILE")
    os.environ.pop("PIP_CACHE_DIR")
    node = describe_environment(str(venv), [], run, os.environ)[0]
    assert node["pip_cache"]["dir"] == f"{tmp_path}/own"
    wheel = planned(sdist_url=sdist_url)
    wheel["pip_cache_path"] = wheel_path(sdist_url, wheel["filename"], node)
    add_wheel(wheel, folder(tmp_path), node)
    done = pip_install(venv, "--index-url", index_url, "flash-attn==2.8.3")
    assert done.returncode == 0, done.stderr


def test_a_wheel_that_this_pip_would_pass_over_is_refused(node, planned, tmp_path):
    wheel = planned(tags="cp27-cp27m-linux_x86_64")
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=r"does not fit .*it is for Python cp27"):
        add_wheel(wheel, folder(tmp_path), node)
    assert tree_state(tmp_path) == before


def test_of_two_at_once_the_later_one_stays_whole(node, planned, tmp_path):
    wheels = [planned(), planned(label="cu12torch2.5cxx11abiFALSE")]
    for _round in range(5):
        do_at_once(*(partial(add_wheel, wheel, folder(tmp_path), node) for wheel in wheels * 2))
        assert sorted(decide_action(wheel, node).action for wheel in wheels) == ["keep", "replace"]


def test_killed_at_any_write_the_next_run_leaves_nothing_behind(node, planned, tmp_path):
    wheel, cache, seen = planned(), tmp_path / "cache", []
    add_wheel(wheel, folder(tmp_path), node)
    whole = tree_state(cache).keys()
    shutil.rmtree(cache)
    for _changes in kills_at_each_write(lambda: add_wheel(wheel, folder(tmp_path), node)):
        left = list_leftovers([wheel], node)
        seen += left
        assert remove_leftovers([wheel], node) == left
        add_wheel(wheel, folder(tmp_path), node)
        assert decide_action(wheel, node).action == "keep"
        assert tree_state(cache).keys() == whole
        shutil.rmtree(cache)
    assert len(seen) >= 3, "the wheel, and what is recorded of it"

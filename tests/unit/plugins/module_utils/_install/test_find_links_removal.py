# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from kills import run_until_killed
from other_users import OWNER, needs_root
from wheels import LABEL, as_wanted, build_wheel, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.find_links import (
    add_wheels,
    wheel_folder,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.find_links_removal import (
    plan_removal,
    remove,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment


@pytest.fixture(autouse=True)
def _read_pip_conf(monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))


@pytest.fixture
def node(venv, run):
    return describe_environment(str(venv), ["*"], run, os.environ)[0]


@pytest.fixture
def folder(node):
    return Path(wheel_folder(node))


@pytest.fixture
def add(node, tmp_path):
    """Puts the wheel of a package into the folder, with those that it requires."""

    def add(name="flash-attn", *requirements, version="2.8.3"):
        place = tmp_path / "delivered"
        wheel = as_wanted(build_wheel(place, name=name, label=LABEL, version=version), name, version)
        files = [as_wanted(build_wheel(place, name=each, version="1"), each, "1") for each in requirements]
        add_wheels([wheel], files, str(place), node)

    return add


def test_with_the_last_wheel_all_goes_that_was_made(add, venv, node, folder):
    before = tree_state(venv)
    assert not plan_removal(["flash-attn"], node).changes
    add("flash-attn", "einops")
    foreseen = plan_removal(["flash-attn"], node)
    assert folder.exists()
    done = remove(["flash-attn"], node)
    assert done == foreseen
    assert [package[:3] for package in done.packages] == [("flash-attn", "2.8.3", "remove")]
    assert done.requirements == ["einops-1-py3-none-any.whl"]
    assert done.settings["after"] == ""
    assert str(folder) in done.settings["before"]
    assert tree_state(venv) == before
    again = remove(["flash-attn"], node)
    assert (again.changes, again.packages[0].reason) == (False, f"flash-attn is not in {folder}")


def test_what_another_package_requires_stays_and_with_it_the_folder(add, node, folder, venv):
    add("flash-attn", "einops", "ninja")
    add("causal-conv1d", "einops")
    conf = (venv / "pip.conf").read_text()
    done = remove(["flash-attn"], node)
    assert (done.requirements, done.stays, done.settings) == (
        ["ninja-1-py3-none-any.whl"], ["einops-1-py3-none-any.whl (causal-conv1d needs it)"], None
    )  # fmt: skip
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["causal", "causal_conv1d", "einops"]
    assert (venv / "pip.conf").read_text() == conf
    assert [package.action for package in remove(["flash-attn", "causal-conv1d"], node).packages] == ["keep", "remove"]
    assert not folder.exists()


def test_settings_of_others_stay(add, node, venv, home):
    text = "# somebody's\n[global]\ntimeout = 7\n"
    (venv / "pip.conf").write_text(text)
    (venv / "pip.conf").chmod(0o640)
    (venv / "share/man").mkdir(parents=True)
    before = tree_state(venv)
    add()
    remove(["flash-attn"], node)
    assert tree_state(venv) == before
    assert oct((venv / "pip.conf").stat().st_mode)[-3:] == "640"


def test_a_copy_of_what_the_users_file_says_goes_with_the_file_that_was_made_for_it(add, node, venv, home):
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text("[global]\nfind-links = /shelf\n")
    add()
    assert "/shelf" in (venv / "pip.conf").read_text()
    remove(["flash-attn"], node)
    assert not (venv / "pip.conf").exists()


def test_a_pip_conf_that_is_a_symbolic_link_stays_one(add, node, venv, tmp_path):
    (tmp_path / "real.conf").touch()
    (venv / "pip.conf").symlink_to(tmp_path / "real.conf")
    add()
    remove(["flash-attn"], node)
    assert (venv / "pip.conf").is_symlink()
    assert (tmp_path / "real.conf").read_text() == ""


def test_what_somebody_has_put_into_the_folder_stays_and_is_told(add, node, folder, venv):
    add()
    (folder / "mine-1-py3-none-any.whl").touch()
    conf = (venv / "pip.conf").read_text()
    assert remove(["flash-attn"], node).stays == [f"{folder}/mine-1-py3-none-any.whl (it is of unknown origin)"]
    assert os.listdir(folder) == ["mine-1-py3-none-any.whl"]
    assert (venv / "pip.conf").read_text() == conf


@pytest.mark.parametrize("spoil", ["record", "wheel"])
def test_a_damaged_folder_is_cleared_all_the_same(spoil, add, node, folder, venv):
    before = tree_state(venv)
    add()
    if spoil == "record":
        (folder / "flash-attn.json").write_text("[]")
    else:
        next(folder.glob("*.whl")).unlink()
    assert remove(["flash-attn"], node).packages[0].action == "remove"
    assert tree_state(venv) == before


def test_a_pip_conf_that_cannot_be_edited_is_told_before_anything_goes(add, node, venv):
    add()
    (venv / "pip.conf").write_text((venv / "pip.conf").read_text().replace("[install]", "[DEFAULT]") + "[install]\n")
    before = tree_state(venv)
    with pytest.raises(TorchExtensionError, match=r"is written in a way that is not understood here.*by hand"):
        remove(["flash-attn"], node)
    assert tree_state(venv) == before


def test_an_environment_that_is_not_the_users_to_change_is_refused(add, node, venv):
    add()
    before = tree_state(venv)
    node["python"]["externally_managed"] = True
    for act in (plan_removal, remove):
        with pytest.raises(TorchExtensionError, match=r"EXTERNALLY-MANAGED, PEP 668"):
            act(["flash-attn"], node)
    assert tree_state(venv) == before
    assert not plan_removal(["causal-conv1d"], node).changes


@needs_root
def test_a_pip_conf_that_root_edits_stays_its_owners(add, node, venv):
    (venv / "pip.conf").write_text("[global]\ntimeout = 7\n")
    for path in (venv, venv / "pip.conf"):
        os.chown(path, 12345, 12346)
    add()
    remove(["flash-attn"], node)
    status = (venv / "pip.conf").stat()
    assert (status.st_uid, status.st_gid) == (12345, 12346)


@needs_root
@pytest.mark.parametrize("name", ["share", "pip.conf"])
def test_root_follows_no_link_out_of_the_environment_of_another_user(name, add, node, venv, tmp_path):
    add()
    (venv / name).rename(tmp_path / name)
    (venv / name).symlink_to(tmp_path / name)
    os.chown(venv, OWNER, OWNER)
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=rf"leads to {tmp_path}/{name}.*become_user: {OWNER}"):
        remove(["flash-attn"], node)
    assert tree_state(tmp_path) == before


def test_killed_at_any_moment_the_next_run_finishes(add, node, venv, folder):
    before = tree_state(venv)
    for last in range(12):
        add("flash-attn", "einops")
        (folder / ".torch_extension-half").touch()  # of a file that was being written
        was_killed = run_until_killed(
            lambda: remove(["flash-attn"], node), last, "remove", "rmdir", "unlink", "replace"
        )
        if was_killed:
            assert plan_removal(["flash-attn"], node).changes or last == 7, "but for an empty share"
            remove(["flash-attn"], node)
        assert tree_state(venv) == before | ({str(venv / "share"): "folder"} if was_killed and last == 7 else {})
        with contextlib.suppress(FileNotFoundError):
            (venv / "share").rmdir()
        if not was_killed:
            break
    assert last == 8, "the settings, four files, three folders"

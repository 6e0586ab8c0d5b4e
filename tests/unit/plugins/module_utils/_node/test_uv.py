# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import uv
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.uv import find_uv, read_uv_version


@pytest.fixture
def own_uv(tmp_path):
    """The uv of an environment, a program that tells its version."""
    program = tmp_path / "venv" / "bin" / "uv"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 'uv 0.1.2 (abc 2024-01-01)'\n")
    program.chmod(0o755)
    return program


def test_the_uv_of_the_environment_goes_before_the_one_on_the_path(own_uv, run):
    prefix = str(own_uv.parents[1])
    assert find_uv(prefix) == str(own_uv)
    assert read_uv_version(prefix, run) == "0.1.2"


def test_the_uv_on_the_path_serves_an_environment_without_one(tmp_path, run):
    version = subprocess.check_output(["uv", "--version"], text=True).split()[1]
    assert read_uv_version(str(tmp_path), run) == version


def test_the_uv_in_the_users_home_is_found_though_it_is_not_on_the_path(home, own_uv, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    folder = home / ".local" / "bin"
    folder.mkdir(parents=True)
    (folder / "uv").symlink_to(own_uv)
    assert find_uv(str(tmp_path)) == str(folder / "uv")


@pytest.fixture
def uv_of_another(tmp_path, monkeypatch):
    """A uv in the home of another user, who has logged in to become us. Makes it one of a user id."""
    home = tmp_path / "ops"
    program = home / ".local" / "bin" / "uv"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SUDO_USER", "ops")
    expand = os.path.expanduser
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: expand(path).replace("~ops", str(home)).replace("~root", "/no")
    )

    def own(user):
        os.chown(program, user, -1)
        return str(program)

    return own


def test_the_uv_of_who_logs_in_serves_if_nobody_else_could_change_it(uv_of_another, tmp_path):
    assert find_uv(str(tmp_path)) == uv_of_another(os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_uv_that_somebody_else_could_change_is_named_and_not_run(uv_of_another, tmp_path):
    program = uv_of_another(pwd.getpwnam("nobody").pw_uid)
    assert find_uv(str(tmp_path)) is None
    assert uv.explain_missing_uv(str(tmp_path)) == (
        f"there is no uv in {tmp_path}/bin, the folders of PATH, {os.environ['HOME']}/.local/bin,"
        f" {os.environ['HOME']}/.cargo/bin, {os.environ['HOME']}/.pixi/bin or the homes of root, ops; {program} is there, and {program}"
        " belongs to nobody (mode 0755): others could change it"
    )


def test_a_uv_that_anybody_could_change_is_not_run(uv_of_another, tmp_path):
    program = uv_of_another(os.geteuid())
    os.chmod(program, 0o777)  # noqa: S103 - that is the point
    assert find_uv(str(tmp_path)) is None
    assert f"{program} is there, and everybody may write to {program} (owner" in uv.explain_missing_uv(str(tmp_path))


def test_a_uv_that_cannot_be_run_is_named(uv_of_another, tmp_path):
    os.chmod(uv_of_another(os.geteuid()), 0o644)
    assert find_uv(str(tmp_path)) is None
    assert "may not run it" in uv.explain_missing_uv(str(tmp_path))


def test_without_uv_there_is_no_version(tmp_path, run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert read_uv_version(str(tmp_path), run) is None


def test_a_uv_that_does_not_tell_its_version_has_none(own_uv, run):
    own_uv.write_text("#!/bin/sh\nexit 1\n")
    assert os.access(own_uv, os.X_OK)
    assert read_uv_version(str(own_uv.parents[1]), run) is None

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from venvs import add_pip, make_plain_venv

from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import describe_cache


def conf(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


SETTINGS = {
    "nothing": ({}, {}),
    "XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "{home}/xdg"}, {}),
    "new place over old": (
        {},
        {"{home}/.pip/pip.conf": "[global]\ncache_dir=/o\n", "{home}/.config/pip/pip.conf": "[global]\ncache-dir=/u\n"},
    ),
    "the environment's over the user's": (
        {},
        {"{venv}/pip.conf": "[global]\ncache-dir=/v\n", "{home}/.config/pip/pip.conf": "[global]\ncache-dir=/u\n"},
    ),
    "the system's": (
        {"XDG_CONFIG_DIRS": "{home}/a:{home}/b"},
        {"{home}/a/pip/pip.conf": "[global]\ncache-dir=/a\n", "{home}/b/pip/pip.conf": "[global]\ncache-dir=/b\n"},
    ),
    "the user's over the system's": (
        {"XDG_CONFIG_DIRS": "{home}/a", "XDG_CONFIG_HOME": "{home}/c"},
        {"{home}/a/pip/pip.conf": "[global]\ncache-dir=/a\n", "{home}/c/pip/pip.conf": "[global]\ncache-dir=/c\n"},
    ),
    "PIP_CONFIG_FILE over the environment's": (
        {"PIP_CONFIG_FILE": "{home}/own.conf"},
        {"{home}/own.conf": "[global]\ncache-dir=/own\n", "{venv}/pip.conf": "[global]\ncache-dir=/v\n"},
    ),
    "PIP_CONFIG_FILE instead of the user's": (
        {"PIP_CONFIG_FILE": "{home}/own.conf"},
        {"{home}/own.conf": "", "{home}/.config/pip/pip.conf": "[global]\ncache-dir=/u\n"},
    ),
    "a PIP_CONFIG_FILE that is not there": (
        {"PIP_CONFIG_FILE": "{home}/none"},
        {"{home}/.config/pip/pip.conf": "[global]\ncache-dir=/u\n"},
    ),
    "PIP_CONFIG_FILE=/dev/null": (
        {"PIP_CONFIG_FILE": "/dev/null"},
        {"{home}/.config/pip/pip.conf": "[global]\ncache-dir=/u\n"},
    ),
    "PIP_CACHE_DIR over all": ({"PIP_CACHE_DIR": "/e"}, {"{venv}/pip.conf": "[global]\ncache-dir=/v\n"}),
    "PIP_CACHE_DIR of a home": ({"PIP_CACHE_DIR": "~/e"}, {}),
    "empty cache-dir": ({}, {"{venv}/pip.conf": "[global]\ncache-dir=\n"}),
    "no-cache-dir = false": ({}, {"{venv}/pip.conf": "[global]\nno-cache-dir = false\n"}),
    "empty no-cache-dir": ({}, {"{venv}/pip.conf": "[global]\nno-cache-dir =\n"}),
    "PIP_NO_CACHE_DIR=0": ({"PIP_NO_CACHE_DIR": "0"}, {}),
}


@pytest.fixture(scope="module")
def shared_venv(tmp_path_factory):
    return add_pip(make_plain_venv(tmp_path_factory.mktemp("settings") / "venv"))


@pytest.fixture
def venv(shared_venv):
    """One for all that is only read; what a test sets in it goes with the test."""
    yield shared_venv
    (shared_venv / "pip.conf").unlink(missing_ok=True)


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_are_read_as_pip_itself_reads_them(case, venv, home, monkeypatch):
    variables, files = SETTINGS[case]
    monkeypatch.delenv("PIP_CONFIG_FILE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))
    for name, text in files.items():
        conf(Path(name.format(home=home, venv=venv)), text)
    pip = subprocess.run(
        [venv / "bin" / "python", "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False, cwd=home
    )
    found = describe_cache(str(venv), os.environ, lambda path: True, uid=1000)
    assert found["usable"] == (pip.returncode == 0), pip.stderr
    assert found["dir"] == (pip.stdout.strip() or found["dir"])
    assert ("switched off by no-cache-dir" in (found["reason"] or "")) == (pip.returncode != 0)


@pytest.mark.parametrize(
    ("own", "general", "folder"), [("/own", "/general", "/own"), ("", "/general", "/general")], ids=["set", "empty"]
)
def test_settings_of_pip_install_go_before_general_ones(own, general, folder, tmp_path):
    conf(tmp_path / "pip.conf", f"[install]\ncache-dir={own}\n[global]\ncache-dir={general}\n")
    assert describe_cache(str(tmp_path), {"HOME": "/h"}, lambda path: True, uid=1000)["dir"] == folder


def test_a_file_that_pip_cannot_read_is_left_to_pip(tmp_path):
    (tmp_path / "pip.conf").write_bytes(b"cache-dir = /no-section\n\xff")
    assert describe_cache(str(tmp_path), {"HOME": "/h"}, lambda path: True, uid=1000)["dir"] == "/h/.cache/pip"


def test_a_user_must_be_able_to_write_where_the_cache_is_or_will_be(tmp_path):
    environ = {"HOME": str(tmp_path)}
    asked = []
    assert describe_cache(str(tmp_path), environ, lambda path: not asked.append(path), uid=1000)["usable"]
    assert asked == [str(tmp_path)], "the nearest folder that is there"
    found = describe_cache(str(tmp_path), environ, lambda path: False, uid=1000)
    assert not found["usable"]
    assert f"{tmp_path}/.cache/pip is not writable for user id 1000" in found["reason"]


def test_root_must_own_the_cache(tmp_path):
    if os.geteuid() == 0:
        os.chown(tmp_path, 1000, -1)
    found = describe_cache(str(tmp_path), {"PIP_CACHE_DIR": str(tmp_path)}, lambda path: True, uid=0)
    assert found["reason"] == f"pip disables its cache because {tmp_path} is not owned by root"
    assert describe_cache(str(tmp_path), {"PIP_CACHE_DIR": "/"}, lambda path: False, uid=0)["usable"]

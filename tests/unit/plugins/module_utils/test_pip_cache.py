# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pip import __version__ as pip_version
from pip._internal.cache import SimpleWheelCache
from pip._internal.models.link import Link
from pip._vendor.packaging.tags import interpreter_name, interpreter_version
from venvs import add_pip, make_plain_venv

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip_cache import (
    describe,
    wheel_folder,
    wheel_path,
)

URL = (
    "https://pypi.tuna.tsinghua.edu.cn/packages/b9/ec/953adfbd9d95b0e9385d3946b81c0446ae723f70fafcb0b5c40e10f5d7f2"
    "/flash_attn-2.5.3.tar.gz"
)
SHA256 = "5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda"
FOLDER = "wheels/0b/b5/fb/4eb31ffcf262c7b78dd3ae076329e02560008d5bb11c6c6f6d"


def test_the_example_that_everybody_can_check(environment):
    assert wheel_folder(f"{URL}#sha256={SHA256}", "cp311", "24.0") == FOLDER
    assert wheel_path(f"{URL}#sha256={SHA256}", "a.whl", environment) == f"/home/user/.cache/pip/{FOLDER}/a.whl"


@pytest.mark.parametrize(
    "url",
    [
        f"{URL}#sha256={SHA256}",
        URL,
        f"{URL}#",
        f"{URL}#SHA256={SHA256}",
        f"{URL}#sha256={SHA256.upper()}",
        f"{URL}#md5=0123456789abcdef",
        f"{URL}#sha512=ab&sha256={SHA256}",
        f"{URL}#blake2b=ab",
        f"{URL}#sha256=",
        f"{URL}#egg=flash-attn&subdirectory=python/pkg",
        f"{URL}#sha256={SHA256}&subdirectory=",
        f"{URL}#sha256={SHA256}&subdirectory=a&egg=b",
        f"{URL}?token=a%2Bb&x=1#sha256={SHA256}",
        f"{URL}?a=1&sha256=ab#sha256={SHA256}",
        "http://user:secret@mirror.example:8080/+f/flash_attn-2.5.3.tar.gz",
        "https://mirror.example/a%2Bb/flash_attn-2.5.3.tar.gz",
        "https://mirror.example/ä/flash_attn-2.5.3.tar.gz",
        "file:///srv/sdists/flash_attn-2.5.3.tar.gz",
    ],
)
def test_the_folder_is_the_one_in_which_pip_itself_looks(url):
    tag = interpreter_name() + interpreter_version()
    assert wheel_folder(url, tag, pip_version) == os.path.relpath(
        SimpleWheelCache("/c").get_path_for_link(Link(url)), "/c"
    )


def test_each_python_has_a_folder_of_its_own_and_a_patch_level_has_not():
    assert len({wheel_folder(URL, tag, "24.0") for tag in ("cp310", "cp311", "pp310")}) == 3


@pytest.mark.parametrize(
    "url",
    [
        "flash_attn-2.5.3.tar.gz",
        "https://mirror.example/simple/",
        "ftp://a/b",
        "",
        "https:///",
        "https://[::1/a.tar.gz",
    ],
)
def test_what_is_no_url_of_a_file_is_refused(url):
    with pytest.raises(TorchExtensionError, match="no URL of a file"):
        wheel_folder(url, "cp311", "24.0")


@pytest.mark.parametrize("tag", ["", "311", "cp", "cp311-abi3"])
def test_what_is_no_python_tag_is_refused(tag):
    with pytest.raises(TorchExtensionError, match="no Python tag"):
        wheel_folder(URL, tag, "24.0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"installers": {"pip": None, "uv": "0.5"}}, "/opt/venv/bin/python has no pip"),
        ({"pip_cache": {"dir": None, "usable": False, "reason": "?"}}, "is not known"),
    ],
    ids=["no pip", "no cache"],
)
def test_where_pip_does_not_look_there_is_no_path(changes, words, environment):
    with pytest.raises(TorchExtensionError, match=f"{words}.*torch_extension_mode: install"):
        wheel_path(URL, "a.whl", {**environment, **changes})


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
    found = describe(str(venv), os.environ, lambda path: True, uid=1000)
    assert found["usable"] == (pip.returncode == 0), pip.stderr
    assert found["dir"] == (pip.stdout.strip() or found["dir"])
    assert ("switched off by no-cache-dir" in (found["reason"] or "")) == (pip.returncode != 0)


@pytest.mark.parametrize(
    ("own", "general", "folder"), [("/own", "/general", "/own"), ("", "/general", "/general")], ids=["set", "empty"]
)
def test_settings_of_pip_install_go_before_general_ones(own, general, folder, tmp_path):
    conf(tmp_path / "pip.conf", f"[install]\ncache-dir={own}\n[global]\ncache-dir={general}\n")
    assert describe(str(tmp_path), {"HOME": "/h"}, lambda path: True, uid=1000)["dir"] == folder


def test_a_file_that_pip_cannot_read_is_left_to_pip(tmp_path):
    (tmp_path / "pip.conf").write_bytes(b"cache-dir = /no-section\n\xff")
    assert describe(str(tmp_path), {"HOME": "/h"}, lambda path: True, uid=1000)["dir"] == "/h/.cache/pip"


def test_a_user_must_be_able_to_write_where_the_cache_is_or_will_be(tmp_path):
    environ = {"HOME": str(tmp_path)}
    asked = []
    assert describe(str(tmp_path), environ, lambda path: not asked.append(path), uid=1000)["usable"]
    assert asked == [str(tmp_path)], "the nearest folder that is there"
    found = describe(str(tmp_path), environ, lambda path: False, uid=1000)
    assert not found["usable"]
    assert f"{tmp_path}/.cache/pip is not writable for user id 1000" in found["reason"]


def test_root_must_own_the_cache(tmp_path):
    if os.geteuid() == 0:
        os.chown(tmp_path, 1000, -1)
    found = describe(str(tmp_path), {"PIP_CACHE_DIR": str(tmp_path)}, lambda path: True, uid=0)
    assert found["reason"] == f"pip disables its cache because {tmp_path} is not owned by root"
    assert describe(str(tmp_path), {"PIP_CACHE_DIR": "/"}, lambda path: False, uid=0)["usable"]

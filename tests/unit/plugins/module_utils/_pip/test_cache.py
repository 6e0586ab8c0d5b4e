# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from pip import __version__ as pip_version
from pip._internal.cache import SimpleWheelCache
from pip._internal.models.link import Link
from pip._vendor.packaging.tags import interpreter_name, interpreter_version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.cache import wheel_folder, wheel_path

URL = (
    "https://pypi.tuna.tsinghua.edu.cn/packages/b9/ec/953adfbd9d95b0e9385d3946b81c0446ae723f70fafcb0b5c40e10f5d7f2"
    "/flash_attn-2.5.3.tar.gz"
)
SHA256 = "5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda"
FOLDER = "wheels/0b/b5/fb/4eb31ffcf262c7b78dd3ae076329e02560008d5bb11c6c6f6d"


def test_the_folder_of_a_published_example(environment):
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
def test_a_url_of_no_file_is_refused(url):
    with pytest.raises(TorchExtensionError, match="no URL of a file"):
        wheel_folder(url, "cp311", "24.0")


@pytest.mark.parametrize("tag", ["", "311", "cp", "cp311-abi3"])
def test_another_python_tag_is_refused(tag):
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

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.folder import list_wheels

NAME = "flash_attn-2.8.3+cu126torch2.13-cp312-cp312-linux_x86_64.whl"
SHA256 = "ab" * 32


@pytest.fixture
def folder(tmp_path):
    """A folder with a wheel; its name has what a URL has to quote."""
    made = tmp_path / "our wheels #1%"
    made.mkdir()
    (made / NAME).write_bytes(b"wheel")
    return made


def names(folder, name="flash-attn"):
    return [asset.filename for asset in list_wheels(str(folder), name)]


def test_a_wheel_is_listed_with_its_url_and_size(folder):
    (found,) = list_wheels(str(folder), "Flash_Attn")
    assert found == Asset(NAME, found.url, 5, address=str(folder))
    assert found.url.startswith("file:///")
    assert found.url.endswith("/our%20wheels%20%231%25/" + NAME.replace("+", "%2B"))
    with urlopen(found.url) as file:
        assert file.read() == b"wheel"


def test_wheels_are_found_one_level_below_but_not_deeper(folder):
    for place in ("b/" + NAME, "a/flash_attn-1-py3-none-any.whl", "a/deep/flash_attn-2-py3-none-any.whl"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()
    assert names(folder) == [NAME, "flash_attn-1-py3-none-any.whl", NAME]


def test_files_that_do_not_look_like_wheels_of_the_package_are_left_out(folder):
    for name in ("flash_attn_3-3.0.0-cp39-abi3-any.whl", "flash_attn-2.8.3.tar.gz", f"{NAME}.part"):
        (folder / name).touch()
    (folder / "flash_attn-9-py3-none-any.whl").mkdir()
    (folder / "flash_attn-8-py3-none-any.whl").symlink_to("gone")
    assert names(folder) == [NAME]


def test_files_that_look_like_wheels_are_listed_though_their_names_are_none(folder):
    for name in (f"{NAME[:-4]} (1).whl", NAME.replace("+", "%2B")):
        (folder / name).touch()
    assert sorted(names(folder)) == sorted([NAME, f"{NAME[:-4]} (1).whl", NAME.replace("+", "%2B")])


def test_symlinks_may_lead_out_of_the_folder(folder, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "flash_attn-1-py3-none-any.whl").touch()
    (folder / "linked").symlink_to(tmp_path / "store")
    (folder / "flash_attn-0-py3-none-any.whl").symlink_to(tmp_path / "store" / "flash_attn-1-py3-none-any.whl")
    assert names(folder) == ["flash_attn-0-py3-none-any.whl", NAME, "flash_attn-1-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("SHA256SUMS", f"{'00' * 32}  other.whl\n{SHA256}  {NAME}\n"),
        ("SHA256SUMS", f"{SHA256.upper()} *./{NAME}\r\n"),
        (f"{NAME}.sha256", f"{SHA256}  {NAME}\n"),
        (f"{NAME}.sha256", f"{SHA256}\n"),
    ],
)
def test_a_hash_is_taken_from_beside_the_wheel(file, text, folder):
    (folder / file).write_text(text)
    assert list_wheels(str(folder), "flash-attn")[0].sha256 == SHA256


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("SHA256SUMS", f"{SHA256}  other.whl\n"),
        ("SHA256SUMS", f"{SHA256}\n"),
        ("SHA256SUMS", f"{SHA256[1:]}  {NAME}\n"),
        (f"{NAME}.sha256", ""),
        (f"{NAME}.sha256", f"{SHA256}  other.whl\n"),
        (f"{NAME}.sha256", "\0\xff"),
    ],
)
def test_text_that_is_not_the_hash_of_the_wheel_is_ignored(file, text, folder):
    (folder / file).write_text(text)
    assert list_wheels(str(folder), "flash-attn")[0].sha256 is None


def test_a_path_may_be_relative_or_start_with_a_tilde(folder, home, monkeypatch):
    (home / "wheels").symlink_to(folder)
    assert names("~/wheels") == [NAME]
    monkeypatch.chdir(folder.parent)
    assert list_wheels(folder.name, "flash-attn") == list_wheels(str(folder), "flash-attn")


@pytest.mark.parametrize("path", ["gone", "file", "file/below"])
def test_the_error_for_an_unreadable_folder_names_the_setting(path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match=r"on the control node cannot be read \(.*torch_extension_sources"):
        list_wheels(str(tmp_path / path), "flash-attn")


def test_the_home_of_an_unknown_user_is_an_error(tmp_path):
    with pytest.raises(TorchExtensionError, match="torch_extension_sources"):
        list_wheels("~nobody-of-this-name/wheels", "flash-attn")


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root can read all folders")
def test_a_folder_below_that_may_not_be_read_is_told_and_does_not_hide_the_others(folder):
    """As lost+found, where the folder is the root of a file system."""
    (folder / "lost+found").mkdir(mode=0)
    listing = f"""
from {list_wheels.__module__} import list_wheels
warnings = []
print(len(list_wheels({str(folder)!r}, "flash-attn", warnings)), *warnings)
"""
    command = [sys.executable, "-c", listing]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *command]
    environ = {**os.environ, "PYTHONPATH": str(Path(next(iter(ansible_collections.__path__))).parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert (
        done.stdout == f"1 The folder {folder}/lost+found on the control node was not looked at (Permission denied).\n"
    )


def test_a_link_that_leads_nowhere_is_told(folder):
    (folder / "flash_attn-2.8.2-py3-none-any.whl").symlink_to("/nowhere.whl")
    warnings = []
    assert len(list_wheels(str(folder), "flash-attn", warnings)) == 1
    assert warnings == [f"{folder}/flash_attn-2.8.2-py3-none-any.whl on the control node is a link that leads nowhere."]

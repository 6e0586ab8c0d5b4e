# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import tarfile
from urllib.parse import unquote, urlsplit

import pytest
from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import bundle_reading


def test_a_wheel_of_a_bundle_has_urls_of_files_in_the_bundle(maker, dest):
    maker.write(dest)
    wheel = bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)
    assert (wheel["filename"], wheel["sha256"], wheel["source"]) == (maker.wheel.name, sha256(maker.wheel), "bundle")
    [requirement] = wheel["requirements"]
    for url, original in ((wheel["url"], maker.wheel), (requirement["url"], maker.einops)):
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc) == ("file", "")
        path = unquote(parts.path)
        if dest.suffix == ".tar":
            assert path == str(dest)
            with tarfile.open(path) as tar:
                data = tar.extractfile(unquote(parts.fragment)).read()
        else:
            assert parts.fragment == ""
            with open(path, "rb") as file:
                data = file.read()
        assert data == original.read_bytes()


def test_of_two_wheels_of_one_name_each_kind_of_node_gets_its_own(maker, dest, other_environment, tmp_path):
    wheels = maker.lock_namesakes()
    maker.write(dest)
    bundle = bundle_reading.open_bundle(str(dest))
    downloads = Downloader(str(tmp_path / "cache"))
    for environment, original in zip((maker.environment, other_environment), wheels, strict=True):
        wheel = bundle.find("flash-attn", environment)
        assert (wheel["filename"], wheel["sha256"]) == (original.name, sha256(original))
        download = downloads.get(wheel["url"], wheel["filename"], wheel["sha256"], wheel["size"])
        with open(download.path, "rb") as file:
            assert (os.path.basename(download.path), file.read()) == (original.name, original.read_bytes())


def test_a_relative_path_is_of_the_current_folder(maker, dest, monkeypatch):
    maker.write(dest)
    monkeypatch.chdir(dest.parent)
    assert bundle_reading.open_bundle(dest.name).path == str(dest)


def test_a_node_of_a_kind_that_is_not_in_the_bundle_is_refused(maker, dest):
    maker.write(dest)
    maker.environment["torch"]["version"] = "2.9.0+cu128"
    with pytest.raises(TorchExtensionError, match=rf"{dest.name}/wheels\.lock\.yml has nothing for this node"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)


@pytest.mark.parametrize("lost", ["wheels", "requirements"])
def test_a_file_that_was_lost_on_the_way_is_an_error(lost, maker, tmp_path):
    dest = tmp_path / "bundle"
    maker.write(dest)
    shutil.rmtree(dest / lost)
    with pytest.raises(
        TorchExtensionError, match=rf"/bundle is not whole: {lost}/.*whl is not in it\. Carry it over again"
    ):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)


def test_a_file_that_was_cut_off_on_the_way_is_an_error(maker, tmp_path):
    dest = tmp_path / "bundle"
    maker.write(dest)
    os.truncate(dest / "wheels" / maker.wheel.name, 100)
    with pytest.raises(TorchExtensionError, match=r"is not whole: wheels/.*whl has 100 bytes there, wanted are \d+"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)


def test_a_tar_that_was_cut_off_anywhere_is_an_error(maker, tmp_path):
    dest = tmp_path / "bundle.tar"
    maker.write(dest)
    with tarfile.open(dest) as tar:
        end = max(info.offset_data + info.size for info in tar)
    whole = dest.read_bytes()
    assert end < len(whole)
    for size in range(0, end, 256):
        dest.write_bytes(whole[:size])
        with pytest.raises(TorchExtensionError, match=r"cannot be read|is not whole|is no bundle"):
            bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)


def test_links_in_a_bundle_are_not_followed(maker, tmp_path):
    dest = tmp_path / "bundle"
    maker.write(dest)
    wheel = dest / "wheels" / maker.wheel.name
    wheel.unlink()
    wheel.symlink_to(maker.wheel)
    with pytest.raises(TorchExtensionError, match="is not in it"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", maker.environment)


@pytest.mark.parametrize("what", ["nothing", "folder", "file", "compressed", "other tar"])
def test_anything_but_a_bundle_cannot_be_opened(what, maker, tmp_path):
    path = tmp_path / "bundle"
    if what == "folder":
        path.mkdir()
    elif what == "file":
        path.write_text("text")
    elif what == "compressed":
        maker.write(tmp_path / "bundle.tar")
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "bundle.tar", "bundle.tar")
    elif what == "other tar":
        with tarfile.open(path, "w") as tar:
            tar.add(maker.wheel, "bundle/wheels.lock.yml")
    with pytest.raises(TorchExtensionError, match=r"/bundle (cannot be read|is no bundle).*torch_extension_sources"):
        bundle_reading.open_bundle(str(path))

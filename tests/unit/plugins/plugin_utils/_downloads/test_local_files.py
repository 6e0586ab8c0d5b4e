# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import tarfile

import pytest
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import disk
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader


@pytest.fixture
def wheel(tmp_path):
    return build_wheel(tmp_path / "wheels", label=LABEL)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def downloader(cache):
    return Downloader(str(cache))


def pack(path, *members, mode="w"):
    """An archive of regular files, given by name and content, or by what TarInfo says of them."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(member, key, value)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path.as_uri()


def files_in(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_wheel_in_a_folder_is_used_where_it_is(wheel, cache, downloader):
    url = wheel.as_uri()
    found = downloader.get(url, wheel.name, sha256(wheel).upper(), wheel.stat().st_size)
    assert found[:5] == (str(wheel), sha256(wheel), wheel.stat().st_size, False, None)
    assert downloader.get(url, wheel.name) == found
    assert downloader.find_cached(url, wheel.name) == found
    assert list(cache.iterdir()) == []


def test_a_file_url_may_have_its_odd_characters_escaped_or_not(wheel, downloader):
    assert downloader.get(f"file://{wheel}", wheel.name).path == str(wheel)
    assert downloader.get(f"file://localhost{str(wheel).replace('+', '%2B')}", wheel.name).path == str(wheel)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"sha256": "0" * 64}, "has sha256 .*, wanted is 000"),
        ({"size": 1}, "bytes, wanted are 1"),
    ],
    ids=["hash", "size"],
)
def test_a_wheel_in_a_folder_with_another_hash_or_size_is_refused(known, words, wheel, downloader):
    with pytest.raises(TorchExtensionError, match=words):
        downloader.get(wheel.as_uri(), wheel.name, **known)


def test_a_wheel_in_a_folder_is_the_one_of_its_name_or_refused(wheel, tmp_path, downloader):
    other = "flash_attn-2.8.2-py3-none-any.whl"
    wheel.rename(tmp_path / other)
    with pytest.raises(TorchExtensionError, match=r"METADATA is of flash-attn 2\.8\.3"):
        downloader.get((tmp_path / other).as_uri(), other)


def test_a_wheel_in_a_folder_whose_name_no_pip_takes_comes_to_the_cache_under_another(
    wheel, tmp_path, cache, downloader
):
    odd = wheel.rename(tmp_path / wheel.name.replace("+", "+cu12torch2.8.0+", 1))
    found = downloader.get(odd.as_uri(), wheel.name)
    assert (found.path.startswith(str(cache)), found.sha256, found.is_new) == (True, sha256(odd), True)
    assert downloader.get(odd.as_uri(), wheel.name).is_new is False


@pytest.mark.parametrize("member", ["", "#x.whl"], ids=["file", "archive"])
def test_what_is_not_there_is_told(member, tmp_path, wheel, downloader):
    for asking in (downloader.get, downloader.find_cached):
        with pytest.raises(TorchExtensionError, match=r"no file .*/none on the control node"):
            asking(f"{(tmp_path / 'none').as_uri()}{member}", wheel.name)


@pytest.mark.parametrize("url", ["file://server/srv/x.whl", "file:x.whl"])
def test_a_file_url_that_is_not_of_this_machine_is_refused(url, wheel, downloader):
    with pytest.raises(TorchExtensionError, match="is no file of the control node"):
        downloader.get(url, wheel.name)


@pytest.mark.parametrize("url", ["file:///wheels/{}", "file:///wheels.tar#{}"])
def test_where_hashes_are_required_local_wheels_need_one_too(url, wheel, cache):
    with pytest.raises(TorchExtensionError, match="torch_extension_require_sha256"):
        Downloader(str(cache), require_sha256=True).get(url.format(wheel.name), wheel.name)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_a_wheel_in_an_archive_is_copied_to_the_cache_once(mode, is_known, wheel, tmp_path, cache, downloader):
    members = [("wheels/other.whl", b"other"), (f"wheels/{wheel.name}", wheel.read_bytes())]
    url = pack(tmp_path / "bundle", *members, mode=mode) + f"#wheels/{wheel.name}"
    known = sha256(wheel) if is_known else None
    assert downloader.find_cached(url, wheel.name, known) is None
    first = downloader.get(url, wheel.name, known, wheel.stat().st_size)
    assert first[1:5] == (sha256(wheel), wheel.stat().st_size, True, None)
    assert downloader.get(url, wheel.name, known) == first._replace(is_new=False)
    assert downloader.find_cached(url, wheel.name, known) == first._replace(is_new=False)
    assert files_in(cache) == [wheel.name, f"{wheel.name}.sha256"]


def test_an_archive_that_was_replaced_is_read_again(wheel, tmp_path, downloader):
    bundle = tmp_path / "bundle.tar"
    downloader.get(pack(bundle, (wheel.name, wheel.read_bytes())) + f"#{wheel.name}", wheel.name)
    other = build_wheel(tmp_path / "other", label=LABEL, files={"flash_attn/__init__.py": "OTHER = 1\n"})
    url = pack(bundle, (wheel.name, other.read_bytes())) + f"#{wheel.name}"
    assert downloader.get(url, wheel.name)[1:4] == (sha256(other), other.stat().st_size, True)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("x.whl", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})],
        [("x.whl", {"type": tarfile.LNKTYPE, "linkname": "wheel"})],
        [("x.whl", {"type": tarfile.DIRTYPE})],
        [("x.whl", {"type": tarfile.FIFOTYPE})],
        [("./x.whl", b"1")],
        [("x.whl", b"1"), ("x.whl", b"2")],
    ],
    ids=["none", "symlink", "hard link", "folder", "fifo", "other name", "two"],
)
def test_only_one_regular_file_of_exactly_that_name_is_taken_from_an_archive(
    members, wheel, tmp_path, cache, downloader
):
    url = pack(tmp_path / "bundle.tar", ("wheel", b"1"), *members) + "#x.whl"
    with pytest.raises(TorchExtensionError, match=r"has \d members 'x.whl', wanted is one that is a regular file"):
        downloader.get(url, wheel.name, "0" * 64)
    assert files_in(cache) == []


@pytest.mark.parametrize("member", ["../x.whl", "/etc/x.whl", "a/../../x.whl", "%2E%2E/x.whl"])
def test_a_member_path_that_leads_out_of_an_archive_is_refused(member, wheel, tmp_path, downloader):
    with pytest.raises(TorchExtensionError, match="is no place within an archive"):
        downloader.get(pack(tmp_path / "bundle.tar", (member, b"")) + f"#{member}", wheel.name, "0" * 64)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"sha256": "0" * 64}, " in .*bundle.tar has sha256 .*, wanted is 000.*thrown away"),
        ({"sha256": "0" * 64, "size": 1}, "bytes, wanted are 1"),
    ],
    ids=["hash", "size"],
)
def test_a_wheel_in_an_archive_with_another_hash_or_size_is_discarded(known, words, wheel, tmp_path, cache, downloader):
    url = pack(tmp_path / "bundle.tar", (wheel.name, wheel.read_bytes())) + f"#{wheel.name}"
    with pytest.raises(TorchExtensionError, match=words):
        downloader.get(url, wheel.name, **known)
    assert files_in(cache) == []


def test_a_member_of_an_archive_that_is_no_wheel_is_refused(wheel, tmp_path, cache, downloader):
    url = pack(tmp_path / "bundle.tar", (wheel.name, b"text")) + f"#{wheel.name}"
    with pytest.raises(TorchExtensionError, match=r"is not the wheel.*begins with 'text'"):
        downloader.get(url, wheel.name)
    assert files_in(cache) == []


@pytest.mark.parametrize("cut", [0, 700, 3000])
def test_a_damaged_archive_is_an_error(cut, tmp_path, wheel, cache, downloader):
    bundle = tmp_path / "bundle.tar.gz"
    url = pack(bundle, (wheel.name, os.urandom(9000)), mode="w:gz") + f"#{wheel.name}"
    bundle.write_bytes(bundle.read_bytes()[:cut])
    with pytest.raises(TorchExtensionError, match=r"bundle.tar.gz on the control node cannot be read.*Make it anew"):
        downloader.get(url, wheel.name, "0" * 64)
    assert files_in(cache) == []


def test_a_disk_without_room_for_a_wheel_of_an_archive_is_an_error(wheel, tmp_path, cache, downloader, monkeypatch):
    monkeypatch.setattr(disk, "_RESERVE", 1 << 60)
    url = pack(tmp_path / "bundle.tar", (wheel.name, wheel.read_bytes())) + f"#{wheel.name}"
    with pytest.raises(TorchExtensionError, match="MiB free, wanted are"):
        downloader.get(url, wheel.name)
    assert files_in(cache) == []

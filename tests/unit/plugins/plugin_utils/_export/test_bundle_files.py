# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from urllib.parse import unquote, urlsplit

import pytest
from locks import of_files
from wheels import LABEL, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import RequirementFinder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import contents, state, write
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import bundle_reading, lock_file

TEXTS = ["README.txt", "SHA256SUMS", "bom.cdx.json", "wheels.lock.yml"]


class Made:
    """A lock, its files, and bundles made of them."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment
        self.wheel = build_wheel(folder / "wheels", label=LABEL)
        self.einops = build_wheel(folder / "requirements", name="einops", version="0.8.1")
        self.asked = []
        self.text = self.lock_of(self.wheel)

    def lock_of(self, *wheels):
        urls = [(wheel, f"https://github.example/{wheel.name}") for wheel in wheels]
        return of_files(self.environment, urls, [self.einops])

    def wanted(self):
        def get(wheel):
            self.asked.append(wheel["filename"])
            return str(self.folder / "wheels" / wheel["filename"])

        requirements = RequirementFinder(str(self.folder / "requirements"), offline=True)
        lock = lock_file.load(self.text, "a.yml")
        return contents(lock, self.text, bom.bill(lock, self.text), get, requirements)

    def write(self, dest):
        wanted = self.wanted()
        write(str(dest), wanted, state(str(dest)))
        return {name: source.sha256 for name, source in wanted.items()}


@pytest.fixture
def made(tmp_path, environment):
    return Made(tmp_path / "made", environment)


@pytest.fixture(params=["bundle", "bundle.tar"])
def dest(request, tmp_path):
    return tmp_path / "out of the gap+" / request.param


def test_a_bundle_has_all_that_the_lock_names_and_nothing_else(made, dest):
    wanted = made.write(dest)
    assert state(str(dest)) == wanted
    assert sorted(wanted) == sorted([*TEXTS, f"wheels/{made.wheel.name}", f"requirements/{made.einops.name}"])
    assert wanted[f"wheels/{made.wheel.name}"] == sha256(made.wheel)
    assert os.listdir(dest.parent) == [dest.name], "nothing is left beside it"


def test_anybody_can_check_and_read_a_bundle_with_plain_tools(made, dest):
    made.write(dest)
    folder = dest
    if dest.suffix == ".tar":
        folder = dest.parent / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "-xf", dest, "-C", folder], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 5
    assert (folder / "wheels.lock.yml").read_text() == made.text
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}
    assert len((folder / "README.txt").read_text().splitlines()) == 6


def test_the_same_lock_makes_the_same_tar(made, tmp_path):
    tars = [tmp_path / name for name in ("a.tar", "b.tar")]
    made.write(tars[0])
    os.utime(made.wheel, (0, 0))
    made.wheel.chmod(0o600)
    made.write(tars[1])
    assert tars[0].read_bytes() == tars[1].read_bytes()
    with tarfile.open(tars[0]) as tar:
        assert {(info.uid, info.gid, info.uname, info.mtime, info.mode) for info in tar} == {(0, 0, "", 0, 0o644)}


def test_files_that_are_right_are_not_fetched_again_and_others_go(made, tmp_path):
    dest = tmp_path / "bundle"
    made.write(dest)
    first = made.wheel
    second = build_wheel(made.folder / "wheels", version="2.8.4", label=LABEL)
    made.text = made.lock_of(first, second)
    made.asked.clear()
    made.write(dest)
    assert made.asked == [second.name]
    made.text = made.lock_of(second)
    made.asked.clear()
    assert made.write(dest) == state(str(dest))
    assert made.asked == []
    assert os.listdir(dest / "wheels") == [second.name]


def test_where_there_are_no_hard_links_files_are_copied(made, tmp_path, monkeypatch):
    dest = tmp_path / "bundle"
    made.write(dest)

    def link(*paths):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    (dest / "README.txt").write_text("changed")
    made.asked.clear()
    assert made.write(dest) == state(str(dest))
    assert made.asked == []


def test_a_file_of_a_bundle_that_was_damaged_is_mended(made, dest):
    wanted = made.write(dest)
    data = dest.read_bytes() if dest.is_file() else b""
    if data:
        dest.write_bytes(data.replace(b"PK\3\4", b"XX\3\4", 1))
    else:
        (dest / "wheels" / made.wheel.name).write_bytes(b"")
    assert state(str(dest)) != wanted
    assert made.write(dest) == state(str(dest))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dest: dest.write_text("a file"),
        lambda dest: (dest / "photos").mkdir(parents=True),
        lambda dest: (dest / "wheels").mkdir(parents=True) or (dest / "wheels" / "notes.txt").touch(),
        lambda dest: dest.mkdir() or (dest / "wheels.lock.yml").symlink_to("/etc/hostname") or (dest / "a").touch(),
        lambda dest: (dest / "wheels").mkdir(parents=True) or build_wheel(dest / "wheels"),
        lambda dest: dest.mkdir() or (dest / "README.txt").touch(),
        lambda dest: dest.symlink_to("/nowhere"),
    ],
    ids=["file", "folder", "notes", "link", "wheels", "readme", "dangling"],
)
def test_what_is_no_bundle_stays_as_it_is(spoil, made, tmp_path):
    dest = tmp_path / "bundle"
    spoil(dest)
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=r"/bundle is there and is no .*torch_extension_bundle"):
        made.write(dest)
    assert tree_state(tmp_path) == before


@pytest.mark.parametrize("content", [b"text", b"", None])
def test_a_file_that_is_no_bundle_stays_as_it_is(content, made, tmp_path):
    dest = tmp_path / "bundle.tar"
    if content is None:
        with tarfile.open(dest, "w") as tar:
            tar.add(made.wheel, "photos/a.jpg")
    else:
        dest.write_bytes(content)
    before = sha256(dest)
    with pytest.raises(TorchExtensionError, match=r"/bundle\.tar is there and is no .*torch_extension_bundle"):
        made.write(dest)
    assert sha256(dest) == before


def test_a_bundle_that_cannot_be_made_leaves_the_one_before(made, dest):
    before = made.write(dest)
    made.text = made.lock_of(made.wheel, build_wheel(made.folder / "wheels", version="2.8.4", label=LABEL))
    wanted = made.wanted()

    def fail():
        raise TorchExtensionError("it cannot be had")

    name = next(name for name in wanted if "2.8.4" in name)
    wanted[name] = wanted[name]._replace(path=fail)
    with pytest.raises(TorchExtensionError, match="it cannot be had"):
        write(str(dest), wanted, before)
    assert state(str(dest)) == before
    assert os.listdir(dest.parent) == [dest.name]


def test_a_bundle_that_cannot_be_put_in_place_leaves_the_one_before(made, tmp_path, monkeypatch):
    dest = tmp_path / "out" / "bundle"
    before = made.write(dest)
    real = os.rename

    def rename(source, target):
        if source.endswith("/new"):
            raise OSError(5, "Input/output error", target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    made.text += "# changed\n"
    with pytest.raises(TorchExtensionError, match=r"cannot be written \(Input/output error.*torch_extension_bundle"):
        made.write(dest)
    assert state(str(dest)) == before
    assert os.listdir(dest.parent) == ["bundle"]


def test_a_bundle_that_was_opened_finds_its_own_files(made, dest):
    made.write(dest)
    found = bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)
    assert (found["filename"], found["sha256"], found["source"]) == (made.wheel.name, sha256(made.wheel), "bundle")
    [requirement] = found["requirements"]
    for url, original in ((found["url"], made.wheel), (requirement["url"], made.einops)):
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


def test_a_relative_path_is_of_the_current_folder(made, dest, monkeypatch):
    made.write(dest)
    monkeypatch.chdir(dest.parent)
    assert bundle_reading.open_bundle(dest.name).path == str(dest)


def test_a_node_that_the_bundle_does_not_know_is_refused(made, dest):
    made.write(dest)
    made.environment["torch"]["version"] = "2.9.0+cu128"
    with pytest.raises(TorchExtensionError, match=rf"{dest.name}/wheels\.lock\.yml has nothing for this node"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)


@pytest.mark.parametrize("lost", ["wheels", "requirements"])
def test_a_file_that_was_lost_on_the_way_is_told(lost, made, tmp_path):
    dest = tmp_path / "bundle"
    made.write(dest)
    shutil.rmtree(dest / lost)
    with pytest.raises(
        TorchExtensionError, match=rf"/bundle is not whole: {lost}/.*whl is not in it\. Carry it over again"
    ):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)


def test_a_file_that_was_cut_off_on_the_way_is_told(made, tmp_path):
    dest = tmp_path / "bundle"
    made.write(dest)
    os.truncate(dest / "wheels" / made.wheel.name, 100)
    with pytest.raises(TorchExtensionError, match=r"is not whole: wheels/.*whl has 100 bytes there, wanted are \d+"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)


def test_a_tar_that_was_cut_off_anywhere_is_told(made, tmp_path):
    dest = tmp_path / "bundle.tar"
    made.write(dest)
    with tarfile.open(dest) as tar:
        end = max(info.offset_data + info.size for info in tar)
    whole = dest.read_bytes()
    assert end < len(whole)
    for size in range(0, end, 256):
        dest.write_bytes(whole[:size])
        with pytest.raises(TorchExtensionError, match=r"cannot be read|is not whole|is no bundle"):
            bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)


def test_links_in_a_bundle_are_not_followed(made, tmp_path):
    dest = tmp_path / "bundle"
    made.write(dest)
    wheel = dest / "wheels" / made.wheel.name
    wheel.unlink()
    wheel.symlink_to(made.wheel)
    with pytest.raises(TorchExtensionError, match="is not in it"):
        bundle_reading.open_bundle(str(dest)).find("flash-attn", made.environment)


@pytest.mark.parametrize("what", ["nothing", "folder", "file", "compressed", "other tar"])
def test_what_is_no_bundle_cannot_be_opened(what, made, tmp_path):
    path = tmp_path / "bundle"
    if what == "folder":
        path.mkdir()
    elif what == "file":
        path.write_text("text")
    elif what == "compressed":
        made.write(tmp_path / "bundle.tar")
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "bundle.tar", "bundle.tar")
    elif what == "other tar":
        with tarfile.open(path, "w") as tar:
            tar.add(made.wheel, "bundle/wheels.lock.yml")
    with pytest.raises(TorchExtensionError, match=r"/bundle (cannot be read|is no bundle).*torch_extension_sources"):
        bundle_reading.open_bundle(str(path))

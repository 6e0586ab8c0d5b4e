# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from functools import partial

import pytest
from at_once import do_at_once
from kills import kills_at_each_write
from wheels import LABEL, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import (
    PlannedFile,
    clear_leftovers,
    hash_existing_files,
    write_files,
)

TEXTS = ["README.txt", "SHA256SUMS", "bom.cdx.json", "wheels.lock.yml"]


def test_a_bundle_has_all_that_the_lock_names_and_nothing_else(maker, dest):
    planned = maker.write(dest)
    assert hash_existing_files(str(dest)) == planned
    assert sorted(planned) == sorted([*TEXTS, f"wheels/{maker.wheel.name}", f"requirements/{maker.einops.name}"])
    assert planned[f"wheels/{maker.wheel.name}"] == sha256(maker.wheel)
    assert os.listdir(dest.parent) == [dest.name], "nothing is left beside it"


def test_anybody_can_check_and_read_a_bundle_with_plain_tools(maker, dest):
    maker.write(dest)
    folder = dest
    if dest.suffix == ".tar":
        folder = dest.parent / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "-xf", dest, "-C", folder], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 5
    assert (folder / "wheels.lock.yml").read_text() == maker.lock_text
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}
    assert len((folder / "README.txt").read_text().splitlines()) == 6


def test_two_wheels_of_one_name_lie_in_folders_of_their_own(maker, dest):
    wheels = maker.lock_namesakes()
    planned = maker.write(dest)
    assert hash_existing_files(str(dest)) == planned
    places = {f"wheels/{sha256(wheel)[:16]}/{wheel.name}": sha256(wheel) for wheel in wheels}
    assert len(places) == 2
    assert {name: digest for name, digest in planned.items() if name.startswith("wheels/")} == places
    assert f"requirements/{maker.einops.name}" in planned
    folder = dest
    if dest.suffix == ".tar":
        folder = dest.parent / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "-xf", dest, "-C", folder], check=True)
    else:
        assert {path.stat().st_mode & 0o777 for path in dest.rglob("*") if path.is_dir()} == {0o755}
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert all(sha256(folder / name) == digest for name, digest in places.items())
    maker.fetched.clear()
    maker.lock_text += "# changed\n"
    assert maker.write(dest) == hash_existing_files(str(dest))
    assert maker.fetched == ([] if dest.is_dir() else [wheels[0].name] * 2)
    maker.lock_text = maker.lock_of(wheels[1])
    maker.write(dest)
    assert f"wheels/{wheels[1].name}" in hash_existing_files(str(dest)), "alone it lies where it always did"


def test_the_same_lock_makes_the_same_tar(maker, tmp_path):
    tars = [tmp_path / name for name in ("a.tar", "b.tar")]
    maker.write(tars[0])
    os.utime(maker.wheel, (0, 0))
    maker.wheel.chmod(0o600)
    maker.write(tars[1])
    assert tars[0].read_bytes() == tars[1].read_bytes()
    with tarfile.open(tars[0]) as tar:
        assert {(info.uid, info.gid, info.uname, info.mtime, info.mode) for info in tar} == {(0, 0, "", 0, 0o644)}


def test_files_that_stay_are_not_fetched_again_and_files_that_no_lock_names_are_removed(maker, tmp_path):
    dest = tmp_path / "bundle"
    maker.write(dest)
    first = maker.wheel
    second = build_wheel(maker.folder / "wheels", version="2.8.4", label=LABEL)
    maker.lock_text = maker.lock_of(first, second)
    maker.fetched.clear()
    maker.write(dest)
    assert maker.fetched == [second.name]
    maker.lock_text = maker.lock_of(second)
    maker.fetched.clear()
    assert maker.write(dest) == hash_existing_files(str(dest))
    assert maker.fetched == []
    assert os.listdir(dest / "wheels") == [second.name]


def test_where_there_are_no_hard_links_files_are_copied(maker, tmp_path, monkeypatch):
    dest = tmp_path / "bundle"
    maker.write(dest)

    def link(*paths):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    (dest / "README.txt").write_text("changed")
    maker.fetched.clear()
    assert maker.write(dest) == hash_existing_files(str(dest))
    assert maker.fetched == []


def test_a_damaged_file_of_a_bundle_is_replaced(maker, dest):
    planned = maker.write(dest)
    data = dest.read_bytes() if dest.is_file() else b""
    if data:
        dest.write_bytes(data.replace(b"PK\3\4", b"XX\3\4", 1))
    else:
        (dest / "wheels" / maker.wheel.name).write_bytes(b"")
    assert hash_existing_files(str(dest)) != planned
    assert maker.write(dest) == hash_existing_files(str(dest))


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
        lambda dest: (dest / "wheels" / "photos").mkdir(parents=True),
        lambda dest: build_wheel(dest / "wheels" / ("0" * 16) / ("0" * 16)),
    ],
    ids=["file", "folder", "notes", "link", "wheels", "readme", "dangling", "folder of wheels", "deep"],
)
def test_anything_else_in_the_place_of_a_bundle_stays_as_it_is(spoil, maker, tmp_path):
    dest = tmp_path / "bundle"
    spoil(dest)
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=r"/bundle is there and is no .*torch_extension_bundle"):
        maker.write(dest)
    assert tree_state(tmp_path) == before


@pytest.mark.parametrize("content", [b"text", b"", None])
def test_any_other_file_in_the_place_of_a_tar_stays_as_it_is(content, maker, tmp_path):
    dest = tmp_path / "bundle.tar"
    if content is None:
        with tarfile.open(dest, "w") as tar:
            tar.add(maker.wheel, "photos/a.jpg")
    else:
        dest.write_bytes(content)
    before = sha256(dest)
    with pytest.raises(TorchExtensionError, match=r"/bundle\.tar is there and is no .*torch_extension_bundle"):
        maker.write(dest)
    assert sha256(dest) == before


def test_a_bundle_with_a_file_that_cannot_be_had_leaves_the_one_before(maker, dest):
    before = maker.write(dest)
    maker.lock_text = maker.lock_of(maker.wheel, build_wheel(maker.folder / "wheels", version="2.8.4", label=LABEL))
    planned = maker.plan_files()

    def fail():
        raise TorchExtensionError("it cannot be had")

    name = next(name for name in planned if "2.8.4" in name)
    planned[name] = planned[name]._replace(get_path=fail)
    with pytest.raises(TorchExtensionError, match="it cannot be had"):
        write_files(str(dest), planned, before)
    assert hash_existing_files(str(dest)) == before
    assert os.listdir(dest.parent) == [dest.name]


def test_a_bundle_that_cannot_be_moved_into_place_leaves_the_one_before(maker, tmp_path, monkeypatch):
    dest = tmp_path / "out" / "bundle"
    before = maker.write(dest)
    real = os.rename

    def rename(source, target):
        if source.endswith("/new"):
            raise OSError(5, "Input/output error", target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    maker.lock_text += "# changed\n"
    with pytest.raises(TorchExtensionError, match=r"cannot be written \(Input/output error.*torch_extension_bundle"):
        maker.write(dest)
    assert hash_existing_files(str(dest)) == before
    assert os.listdir(dest.parent) == ["bundle"]


def test_killed_at_any_write_there_is_a_whole_bundle_after_the_next_run_and_nothing_beside_it(maker, dest):
    """SIGKILL at each one; in between there may be none, and the one that was there is put back."""
    maker.write(dest)
    old = hash_existing_files(str(dest))
    planned = {**maker.plan_files(), "wheels.lock.yml": PlannedFile(hashlib.sha256(b"new").hexdigest(), content=b"new")}
    new = {name: file.sha256 for name, file in planned.items()}
    kills = []
    for kill in kills_at_each_write(lambda: write_files(str(dest), planned, old)):
        kills.append(kill)
        clear_leftovers(str(dest))
        assert os.listdir(dest.parent) == [dest.name]
        if hash_existing_files(str(dest)) == new:
            write_files(str(dest), maker.plan_files(), new)
        assert hash_existing_files(str(dest)) == old
    assert len(kills) > 3
    assert hash_existing_files(str(dest)) == new


def test_of_two_that_write_a_bundle_at_once_each_is_whole(maker, dest):
    planned = maker.plan_files()
    new = {name: file.sha256 for name, file in planned.items()}
    for _round in range(3):
        before = hash_existing_files(str(dest))
        do_at_once(*[partial(write_files, str(dest), planned, before)] * 4)
        assert hash_existing_files(str(dest)) == new
        assert os.listdir(dest.parent) == [dest.name]


def test_what_another_run_puts_there_while_a_bundle_is_moved_into_place_gives_way(maker, tmp_path, monkeypatch):
    dest, rename, put = tmp_path / "out" / "bundle", os.rename, []
    maker.write(dest)
    other = tmp_path / "other"
    shutil.copytree(dest, other)
    (other / "wheels.lock.yml").write_text("other")

    def put_first(source, target):
        if target == str(dest) and not put:
            put.append(shutil.copytree(other, dest))
        rename(source, target)

    planned = {**maker.plan_files(), "wheels.lock.yml": PlannedFile(hashlib.sha256(b"new").hexdigest(), content=b"new")}
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", put_first)
        write_files(str(dest), planned, {})
    assert put
    assert hash_existing_files(str(dest)) == {name: file.sha256 for name, file in planned.items()}
    assert os.listdir(dest.parent) == ["bundle"]

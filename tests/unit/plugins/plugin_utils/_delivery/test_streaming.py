# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real sh, dd and df of this machine stand for those of a node."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
import shells
from shells import ANY_NAMES, NAME, Node, content, there

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    CommandResult,
    NotStreamedError,
    prepare_folder,
    send_files,
)

BLOCK = 1 << 16


class Receiver(Node):
    def bring(self, *files, folder="~/stage"):
        staging = prepare_folder(files, folder, self.execute)
        send_files(files, staging, self.stream, self.execute)
        return Path(staging.folder)


@pytest.fixture
def node(tmp_path):
    (tmp_path / "home").mkdir()
    return Receiver(tmp_path / "home")


@pytest.fixture
def make_file(tmp_path):
    """Makes a file of the control node, of so many random bytes."""

    def make(size=3 * BLOCK + 1000, name=NAME, knows_hash=True):
        return shells.make_file(tmp_path / "control", size, name, knows_hash)

    return make


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_arrive_whole_in_a_folder_of_the_user_alone(node, make_file):
    files = [make_file(), make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file(BLOCK, "ninja-1-py3-none-any.whl")]
    folder = node.bring(*files)
    assert folder == node.home / "stage"
    assert there(folder) == {file.name: content(file) for file in files}
    assert [mode(path) for path in (folder, *folder.iterdir())] == [0o700, 0o600, 0o600, 0o600]


def test_a_folder_that_is_there_stays_as_it_is_and_one_on_the_way_is_made_for_the_user_alone(node, make_file):
    (node.home / "open").mkdir(mode=0o755)
    node.bring(make_file(7), folder="~/open")
    assert mode(node.home / "open") == 0o755
    node.bring(make_file(7), folder="~/a/b")
    assert mode(node.home / "a") == 0o700


@pytest.mark.parametrize("others", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(others, node, make_file):
    shared = node.home / "shared"
    shared.mkdir()
    shared.chmod(others)
    with pytest.raises(TorchExtensionError, match=r"others may write to it.*torch_extension_stage_dir"):
        node.bring(make_file(7), folder="~/shared")
    assert mode(shared) == others
    assert there(shared) == {}


@pytest.mark.parametrize("there_already", [1, BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 5, 3 * BLOCK + 1000])
def test_what_a_lost_run_has_brought_is_not_sent_again(there_already, node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(content(file)[:there_already])
    assert there(node.bring(file)) == {file.name: content(file)}
    assert node.streamed == [(file.name, there_already // BLOCK * BLOCK)]


def test_a_part_that_is_too_long_is_no_part_of_it(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(bytes(5 * BLOCK))
    assert there(node.bring(file)) == {file.name: content(file)}
    assert node.streamed == [(file.name, 0)]


def test_a_part_of_another_file_of_this_name_is_not_used(node, make_file):
    file, stage = make_file(), node.home / "stage"
    other = file._replace(sha256="0" * 64)
    stage.mkdir()
    (stage / other.part).write_bytes(bytes(2 * BLOCK))
    assert there(node.bring(file)) == {file.name: content(file), other.part: bytes(2 * BLOCK)}
    assert node.streamed == [(file.name, 0)]


@pytest.mark.parametrize("size", [2 * BLOCK, 5 * BLOCK])
def test_where_nobody_knows_the_hash_it_begins_anew(size, node, make_file):
    file, stage = make_file(knows_hash=False), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(bytes(size))
    (stage / file.name).write_bytes(bytes(len(content(file))))
    assert there(node.bring(file)) == {file.name: content(file)}
    assert node.streamed == [(file.name, 0)]


def test_what_is_there_whole_is_not_sent(node, make_file):
    whole, missing = make_file(), make_file(7, "einops-0.8.1-py3-none-any.whl")
    node.bring(whole)
    node.streamed.clear()
    node.bring(whole, missing)
    assert node.streamed == [(missing.name, 0)]


def test_a_file_of_another_size_is_replaced(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.name).write_bytes(b"old")
    assert there(node.bring(file)) == {file.name: content(file)}


@pytest.mark.parametrize("name", ANY_NAMES)
@pytest.mark.parametrize("front", ["~/a/", "~/", "/"])
def test_a_folder_may_have_any_name(name, front, node, make_file, tmp_path):
    file = make_file(7)
    root = node.home if front.startswith("~") else tmp_path
    folder = f"~{front[1:]}{name}" if front.startswith("~") else f"{tmp_path}/{name}"
    expected = root / front.strip("~/") / name
    assert node.bring(file, folder=folder) == expected
    assert there(expected) == {file.name: content(file)}
    assert not list(tmp_path.rglob("pwned"))


def test_what_only_looks_like_a_home_is_no_command(node, make_file):
    node.bring(make_file(7), folder="~$(touch pwned)/x")
    assert [path.name for path in node.home.iterdir()] == ["~$(touch pwned)"]


@pytest.mark.parametrize("noise", [("Welcome!\n", "Good bye\n"), ("Welcome! ", ""), ("torch_extension\n", "\n\n")])
def test_login_shells_may_say_what_they_like_around_it(noise, node, make_file):
    file = make_file()
    node.noise = noise
    assert there(node.bring(file)) == {file.name: content(file)}
    node.bring(file)
    assert node.streamed == [(file.name, 0)]


def test_on_a_terminal_the_folder_is_the_same(node, make_file):
    file = make_file(7)
    node.bring(file)
    staging = prepare_folder([file], f"{node.home}/stage", node.on_a_terminal)
    assert (staging.folder, staging.sizes) == (f"{node.home}/stage", {file.name: 7})


def test_a_command_that_did_not_get_there_is_no_answer(make_file):
    refused = CommandResult(1, "", "sudo: a terminal is required to read the password")
    assert prepare_folder([make_file(7)], "~/stage", lambda command: refused) is None


def test_a_folder_that_cannot_be_made_is_refused_in_the_nodes_own_words(node, make_file):
    (node.home / "file").touch()
    with pytest.raises(TorchExtensionError, match=r"~/file/x on the node cannot be made or used \(.*Not a directory\)"):
        node.bring(make_file(7), folder="~/file/x")
    assert node.streamed == []


def test_what_is_free_is_told_by_the_nodes_df(node, tmp_path, monkeypatch):
    free = prepare_folder([], "~/stage", node.execute).free
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "df").write_text("#!/bin/sh\necho 'df: something else'\n")
    (tmp_path / "bin" / "df").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert prepare_folder([], "~/stage", node.execute).free > 1 << 60


@pytest.mark.parametrize("stranger", [True, False])
def test_without_room_nothing_is_sent_and_nothing_left_of_it(stranger, node, make_file):
    file, stage = make_file(3 << 20), node.home / "stage"
    staging = prepare_folder([file], "~/stage", node.execute)._replace(free=(3 << 20) - 1)
    (stage / file.part).write_bytes(b"")
    if stranger:
        (stage / "mine").write_bytes(b"x")
    with pytest.raises(TorchExtensionError, match=r"stage on the node has 2 MiB free, wanted are 3 MiB\. Nothing was"):
        send_files([file], staging, node.stream, node.execute)
    assert node.streamed == []
    assert there(stage) == {"mine": b"x"} if stranger else not stage.exists()


def test_room_is_needed_only_for_what_is_missing(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(content(file)[: 3 * BLOCK])
    staging = prepare_folder([file], "~/stage", node.execute)._replace(free=1000)
    send_files([file], staging, node.stream, node.execute)
    assert there(stage) == {file.name: content(file)}


@pytest.mark.parametrize("there_already", [0, 3 * BLOCK + 1000])
@pytest.mark.parametrize("knows_hash", [True, False])
def test_a_connection_that_gives_less_is_told_and_nothing_left_of_it(there_already, knows_hash, node, make_file):
    small, file = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file(knows_hash=knows_hash)
    (node.home / "stage").mkdir()
    (node.home / "stage" / file.part).write_bytes(bytes(there_already))
    node.bring(small)
    node.short_of = 1
    with pytest.raises(NotStreamedError):
        node.bring(small, file)
    assert there(node.home / "stage") == {small.name: content(small)}


def test_a_disk_that_fills_up_is_told_in_dds_own_words_and_nothing_left(node, make_file):
    files = [make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file()]
    node.first = "trap '' XFSZ; ulimit -f 128; "  # half-kilobytes, or kilobytes
    with pytest.raises(
        TorchExtensionError, match=r"flash_attn\S+ cannot be written to \S+/stage on the node: dd: .*File too large\."
    ):
        node.bring(*files)
    assert not (node.home / "stage").exists()


def test_a_folder_that_is_gone_meanwhile_is_an_error(node, make_file):
    node.removed_before_streaming = node.home / "stage"
    with pytest.raises(TorchExtensionError, match=r"cannot be written to .*/stage on the node: .*cd"):
        node.bring(make_file())
    assert list(node.home.iterdir()) == []

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real sh, dd and df of this machine stand for those of a node."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
import shells
from other_users import OWNER, give, needs_root
from shells import ANY_NAMES, NAME, Node, read_content, read_folder

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    CommandResult,
    NotStreamedError,
    VanishedError,
    prepare_folder,
    send_files,
)

BLOCK = 1 << 16


class Receiver(Node):
    def receive(self, *files, folder="~/stage"):
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


@needs_root
def test_a_stage_that_another_user_puts_in_place_of_the_one_that_was_looked_at_is_not_written_to(
    make_file, open_folder
):
    """Here one that is trusted, for below a folder of any other none is made."""
    theirs, victim = open_folder / "theirs", open_folder / "victim"
    theirs.mkdir()
    victim.write_text("of root")
    os.chown(theirs, OWNER, OWNER)
    node, file = Receiver(open_folder), make_file()
    with pytest.raises(TorchExtensionError, match=rf"others than root may change {theirs} \(owner {OWNER}, mode drwx"):
        prepare_folder([file], f"{theirs}/stage", node.execute)
    assert list(theirs.iterdir()) == []
    staging = prepare_folder([file], f"{theirs}/stage", node.execute, [str(OWNER)])
    (theirs / "stage").rename(theirs / "aside")
    (theirs / "stage").mkdir()
    (theirs / "stage" / file.part).symlink_to(victim)
    (theirs / "stage" / file.name).touch()
    give(theirs, OWNER)
    with pytest.raises(TorchExtensionError, match="it belongs to another user, or others may write to it"):
        send_files([file], staging, node.stream, node.execute)
    assert victim.read_text() == "of root"
    assert sorted(path.name for path in (theirs / "stage").iterdir()) == sorted([file.part, file.name])


@needs_root
def test_a_link_that_was_planted_in_the_stage_is_not_followed(node, make_file, open_folder):
    file, stage, victim = make_file(), node.home / "stage", open_folder / "victim"
    victim.write_text("of root")
    stage.mkdir(mode=0o700)
    (stage / file.part).symlink_to(victim)
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}
    assert victim.read_text() == "of root"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_arrive_whole_in_a_folder_that_only_the_user_may_enter(node, make_file):
    files = [make_file(), make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file(BLOCK, "ninja-1-py3-none-any.whl")]
    folder = node.receive(*files)
    assert folder == node.home / "stage"
    assert read_folder(folder) == {file.name: read_content(file) for file in files}
    assert [mode(path) for path in (folder, *folder.iterdir())] == [0o700, 0o600, 0o600, 0o600]


def test_an_existing_folder_keeps_its_mode_and_new_parents_are_for_the_user_alone(node, make_file):
    (node.home / "open").mkdir(mode=0o755)
    node.receive(make_file(7), folder="~/open")
    assert mode(node.home / "open") == 0o755
    node.receive(make_file(7), folder="~/a/b")
    assert mode(node.home / "a") == 0o700


@pytest.mark.parametrize("others", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(others, node, make_file):
    shared = node.home / "shared"
    shared.mkdir()
    shared.chmod(others)
    with pytest.raises(TorchExtensionError, match=r"others may write to it.*torch_extension_stage_dir"):
        node.receive(make_file(7), folder="~/shared")
    assert mode(shared) == others
    assert read_folder(shared) == {}


@pytest.mark.parametrize("there_already", [1, BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 5, 3 * BLOCK + 1000])
def test_a_part_that_a_lost_run_left_is_not_sent_again(there_already, node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(read_content(file)[:there_already])
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}
    assert node.streamed == [(file.name, there_already // BLOCK * BLOCK)]


def test_a_part_that_is_longer_than_the_file_is_not_used(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(bytes(5 * BLOCK))
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}
    assert node.streamed == [(file.name, 0)]


def test_a_part_of_another_file_of_this_name_is_not_used(node, make_file):
    file, stage = make_file(), node.home / "stage"
    other = file._replace(sha256="0" * 64)
    stage.mkdir()
    (stage / other.part).write_bytes(bytes(2 * BLOCK))
    assert read_folder(node.receive(file)) == {file.name: read_content(file), other.part: bytes(2 * BLOCK)}
    assert node.streamed == [(file.name, 0)]


@pytest.mark.parametrize("size", [2 * BLOCK, 5 * BLOCK])
def test_a_file_without_a_hash_is_sent_from_the_beginning(size, node, make_file):
    file, stage = make_file(knows_hash=False), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(bytes(size))
    (stage / file.name).write_bytes(bytes(len(read_content(file))))
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}
    assert node.streamed == [(file.name, 0)]


def test_a_whole_file_is_not_sent_again(node, make_file):
    whole, missing = make_file(), make_file(7, "einops-0.8.1-py3-none-any.whl")
    node.receive(whole)
    node.streamed.clear()
    node.receive(whole, missing)
    assert node.streamed == [(missing.name, 0)]


def test_a_file_of_another_size_is_replaced(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.name).write_bytes(b"old")
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}


@pytest.mark.parametrize("name", ANY_NAMES)
@pytest.mark.parametrize("front", ["~/a/", "~/", "/"])
def test_a_folder_may_have_any_name(name, front, node, make_file, tmp_path):
    file = make_file(7)
    root = node.home if front.startswith("~") else tmp_path
    folder = f"~{front[1:]}{name}" if front.startswith("~") else f"{tmp_path}/{name}"
    expected = root / front.strip("~/") / name
    assert node.receive(file, folder=folder) == expected
    assert read_folder(expected) == {file.name: read_content(file)}
    assert not list(tmp_path.rglob("pwned"))


def test_a_command_in_the_place_of_a_home_is_not_run(node, make_file):
    node.receive(make_file(7), folder="~$(touch pwned)/x")
    assert [path.name for path in node.home.iterdir()] == ["~$(touch pwned)"]


@pytest.mark.parametrize("noise", [("Welcome!\n", "Good bye\n"), ("Welcome! ", ""), ("torch_extension\n", "\n\n")])
def test_output_of_login_shells_around_the_reports_is_ignored(noise, node, make_file):
    file = make_file()
    node.noise = noise
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}
    node.receive(file)
    assert node.streamed == [(file.name, 0)]


def test_reports_over_a_terminal_are_read_the_same(node, make_file):
    file = make_file(7)
    node.receive(file)
    staging = prepare_folder([file], f"{node.home}/stage", node.execute_on_a_terminal)
    assert (staging.folder, staging.sizes) == (f"{node.home}/stage", {file.name: 7})


def test_a_command_that_did_not_run_has_no_result(make_file):
    refused = CommandResult(1, "", "sudo: a terminal is required to read the password")
    assert prepare_folder([make_file(7)], "~/stage", lambda command: refused) is None


def test_a_folder_that_cannot_be_made_is_an_error_with_the_nodes_own_message(node, make_file):
    (node.home / "file").touch()
    with pytest.raises(TorchExtensionError, match=r"~/file/x on the node cannot be made or used \(.*Not a directory\)"):
        node.receive(make_file(7), folder="~/file/x")
    assert node.streamed == []


def test_the_free_space_is_what_the_nodes_df_reports(node, tmp_path, monkeypatch):
    free = prepare_folder([], "~/stage", node.execute).free
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "df").write_text("#!/bin/sh\necho 'df: something else'\n")
    (tmp_path / "bin" / "df").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert prepare_folder([], "~/stage", node.execute).free > 1 << 60


@pytest.mark.parametrize("stranger", [True, False])
def test_without_room_nothing_is_sent_and_no_part_is_left(stranger, node, make_file):
    file, stage = make_file(3 << 20), node.home / "stage"
    staging = prepare_folder([file], "~/stage", node.execute)._replace(free=(3 << 20) - 1)
    (stage / file.part).write_bytes(b"")
    if stranger:
        (stage / "mine").write_bytes(b"x")
    with pytest.raises(TorchExtensionError, match=r"stage on the node has 2 MiB free, wanted are 3 MiB\. Nothing was"):
        send_files([file], staging, node.stream, node.execute)
    assert node.streamed == []
    assert read_folder(stage) == {"mine": b"x"} if stranger else not stage.exists()


def test_room_is_needed_only_for_what_is_missing(node, make_file):
    file, stage = make_file(), node.home / "stage"
    stage.mkdir()
    (stage / file.part).write_bytes(read_content(file)[: 3 * BLOCK])
    staging = prepare_folder([file], "~/stage", node.execute)._replace(free=1000)
    send_files([file], staging, node.stream, node.execute)
    assert read_folder(stage) == {file.name: read_content(file)}


@pytest.mark.parametrize("there_already", [0, 3 * BLOCK + 1000])
@pytest.mark.parametrize("knows_hash", [True, False])
def test_a_file_that_arrives_incomplete_is_not_streamed_and_no_part_is_left(there_already, knows_hash, node, make_file):
    small, file = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file(knows_hash=knows_hash)
    (node.home / "stage").mkdir()
    (node.home / "stage" / file.part).write_bytes(bytes(there_already))
    node.receive(small)
    node.lost_bytes = 1
    with pytest.raises(NotStreamedError):
        node.receive(small, file)
    assert read_folder(node.home / "stage") == {small.name: read_content(small)}


def test_a_full_disk_is_an_error_with_dds_own_message_and_nothing_is_left(node, make_file):
    files = [make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file()]
    node.prologue = "trap '' XFSZ; ulimit -f 128; "  # half-kilobytes, or kilobytes
    with pytest.raises(
        TorchExtensionError, match=r"flash_attn\S+ cannot be written to \S+/stage on the node: dd: .*File too large\."
    ):
        node.receive(*files)
    assert not (node.home / "stage").exists()


def test_a_folder_that_disappears_meanwhile_is_an_error(node, make_file):
    node.removed_before_streaming = node.home / "stage"
    with pytest.raises(TorchExtensionError, match=r"cannot be written to .*/stage on the node: .*cd"):
        node.receive(make_file())
    assert list(node.home.iterdir()) == []


class Rival(Receiver):
    """Another run is at work on the node between the first half of what is sent and the second one."""

    def __init__(self, home, act):
        super().__init__(home)
        self._act = act

    def stream(self, command, path, begin):
        environ = {**os.environ, "HOME": str(self.home), "LC_ALL": "C"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        data = Path(path).read_bytes()[begin:]
        with subprocess.Popen(["sh", "-c", command], cwd=self.home, env=environ, **pipes) as process:
            process.stdin.write(data[: len(data) // 2])
            process.stdin.flush()
            while not any(part.stat().st_size for part in self.home.glob("stage/.*.part")):
                time.sleep(0.01)
            self._act()
            out, err = process.communicate(data[len(data) // 2 :])
        return CommandResult(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("is_shared", [False, True])
def test_of_two_runs_at_once_nobody_removes_what_the_other_one_has_brought(is_shared, node, make_file):
    file = make_file(9 * BLOCK + 5)

    def receive(receiver):
        staging = prepare_folder([file], "~/stage", receiver.execute)._replace(is_shared=is_shared)
        send_files([file], staging, receiver.stream, receiver.execute)

    receive(Rival(node.home, lambda: receive(node)))
    assert read_folder(node.home / "stage") == {file.name: read_content(file)}
    assert node.streamed[0][1] > 0, "it has gone on with what was there"


@pytest.mark.parametrize("with_folder", [False, True])
def test_what_another_run_has_removed_meanwhile_can_be_brought_again(with_folder, node, make_file):
    file, stage = make_file(9 * BLOCK + 5), node.home / "stage"

    def install_and_clear():
        node.receive(file)
        shutil.rmtree(stage)
        stage.mkdir(mode=0o700)

    with pytest.raises(VanishedError, match=r"was removed from .*/stage on the node while it was brought: another run"):
        Rival(node.home, install_and_clear).receive(file)
    if with_folder:
        node.removed_before_streaming = stage
        with pytest.raises(VanishedError, match="cannot be written to"):
            node.receive(file)
        node.removed_before_streaming = None
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}


def test_a_run_that_fails_does_not_remove_what_was_there(node, make_file):
    there, file = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file()
    node.receive(there)
    node.prologue = "trap '' XFSZ; ulimit -f 128; "  # half-kilobytes, or kilobytes
    with pytest.raises(TorchExtensionError, match="cannot be written"):
        node.receive(there, file)
    assert read_folder(node.home / "stage") == {there.name: read_content(there)}


def test_killed_while_it_receives_the_next_run_leaves_nothing_else(node, make_file):
    file = make_file(9 * BLOCK + 5)

    class KilledError(Exception):
        pass

    class Killed(Receiver):
        def stream(self, command, path, begin):
            environ = {**os.environ, "HOME": str(self.home)}
            with subprocess.Popen(["sh", "-c", command], cwd=self.home, env=environ, stdin=subprocess.PIPE) as process:
                process.stdin.write(Path(path).read_bytes()[begin : begin + 2 * BLOCK])
                process.stdin.flush()
                while not any(part.stat().st_size for part in self.home.glob("stage/.*.part")):
                    time.sleep(0.01)
                process.kill()
            raise KilledError

    with pytest.raises(KilledError):
        Killed(node.home).receive(file)
    assert os.listdir(node.home / "stage") == [file.part]
    assert read_folder(node.receive(file)) == {file.name: read_content(file)}

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes are the real sh of this machine with homes of their own; what they share is what is mounted at /dev/shm."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import shells
from shells import Node, mount_point, read_content, remove_tree

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.shared_file_system import (
    FOLDER_NAME,
    inspect_shared_folder,
    place_files,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import (
    CommandResult,
    NotStreamedError,
    send_files,
)

BLOCK = 1 << 16
FILE_SYSTEM_ID = "6f4b1c5e-5a0c-4c2b-a3b8-0d6f5c7f2f60"
NOBODY = 12345  # a user that this machine does not have


@pytest.fixture
def make_node(tmp_path):
    def make(name="node"):
        (tmp_path / name).mkdir()
        return Node(tmp_path / name)

    return make


@pytest.fixture
def node(make_node):
    return make_node()


@pytest.fixture
def make_file(tmp_path):
    def make(size=3 * BLOCK + 1000, *name):
        [file] = place_files([shells.make_file(tmp_path / f"control{size}", size, *name)])
        return file

    return make


def send(node, shared, *files, **facts):
    """Bring files there by way of a node, of which the given facts are true."""
    staging = inspect_shared_folder(files, str(shared), node.execute)._replace(**facts)
    send_files(files, staging, node.stream, node.execute)
    return staging


def refusal(node, shared, *files):
    """The words in which a node says that it cannot use what is shared."""
    with pytest.raises(TorchExtensionError) as raised:
        inspect_shared_folder(files, str(shared), node.execute)
    message = str(raised.value)
    assert message.endswith(
        "Nothing was changed. Set torch_extension_shared_dir, or torch_extension_delivery to another way, such as copy."
    )
    return message


def shared_files(shared):
    """What is there, but for the link by which it is known again."""
    folder = shared / FOLDER_NAME
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(shared, path, content):
    """Make a file there."""
    path = shared / FOLDER_NAME / path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)


def file_system_id(node, shared):
    return inspect_shared_folder([], str(shared), node.execute).facts["id"]


def test_files_are_written_once_and_all_nodes_find_them(make_node, make_file, shared):
    one, other, file = make_node("one"), make_node("other"), make_file()
    staging = send(one, shared, file)
    assert (staging.folder, staging.is_shared) == (f"{shared}/{FOLDER_NAME}", True)
    send(other, shared, file)
    assert (one.streamed, other.streamed) == ([(file.name, 0)], [])
    assert shared_files(shared) == {f"{file.sha256[:16]}/{file.name}": read_content(file)}
    assert sorted(os.listdir(shared / FOLDER_NAME)) == sorted([".id", file.sha256[:16]])


@pytest.mark.parametrize("size", [3 * BLOCK, 3 * BLOCK + 1000], ids=["another size", "same size"])
def test_two_files_of_one_name_never_meet(size, make_node, make_file, shared):
    one, other, first = make_node("one"), make_node("other"), make_file()
    send(one, shared, first)
    with open(shared / FOLDER_NAME / first.place, "rb") as reading:
        content = bytes(reversed(read_content(first)[:size]))
        second = make_file(size + 7)
        with open(second.path, "wb") as file:
            file.write(content)
        [second] = place_files([second._replace(sha256=hashlib.sha256(content).hexdigest())])
        assert (second.name, second.size) == (first.name, size)
        send(other, shared, second)
        assert reading.read() == read_content(first)
    assert shared_files(shared) == {file.place: read_content(file) for file in (first, second)}
    send(one, shared, first, second)
    assert (one.streamed, other.streamed) == ([(first.name, 0)], [(second.name, 0)])


def test_files_of_older_versions_are_left_alone(node, make_file, shared):
    file = make_file()
    send(node, shared)
    put(shared, file.name, b"flat")
    send(node, shared, file)
    assert shared_files(shared) == {file.name: b"flat", file.place: read_content(file)}


def test_only_the_user_may_read_the_folder_and_its_files(node, make_file, shared):
    shared.chmod(0o1777)
    file = make_file(7)
    send(node, shared, file)
    modes = [
        stat.S_IMODE((shared / path).stat().st_mode)
        for path in (".", FOLDER_NAME, f"{FOLDER_NAME}/{file.subfolder}", f"{FOLDER_NAME}/{file.place}")
    ]
    assert modes == [0o1777, 0o700, 0o700, 0o600]


def test_a_file_system_has_one_id_whatever_its_path(make_node, shared, tmp_path):
    (tmp_path / "scratch").symlink_to(shared)
    words = {
        file_system_id(make_node(f"node{number}"), path)
        for number, path in enumerate([shared, tmp_path / "scratch", shared])
    }
    assert len(words) == 1


def test_two_file_systems_have_two_ids(make_node, shared):
    for name in ("rack1", "rack2"):
        (shared / name).mkdir()
    node = make_node()
    assert file_system_id(node, shared / "rack1") != file_system_id(node, shared / "rack2")


def test_nodes_that_come_at_the_same_time_read_the_same_id(make_node, shared):
    number = 12
    nodes, ready = [make_node(f"node{each}") for each in range(number)], threading.Barrier(number)

    def enter(node, folder):
        ready.wait(10)
        return file_system_id(node, folder)

    with ThreadPoolExecutor(number) as pool:
        for folder in (shared / str(each) for each in range(5)):
            folder.mkdir()
            assert len(set(pool.map(enter, nodes, [folder] * number))) == 1
            assert os.listdir(folder / FOLDER_NAME) == [".id"]


def test_the_path_may_have_any_characters_and_begin_with_a_home(node, shared):
    folder = shared / 'a\'b "c" $(touch pwned) größe'
    folder.mkdir()
    (node.home / "link").symlink_to(folder)
    assert file_system_id(node, folder) == file_system_id(node, "~/link")
    assert not list(shared.rglob("pwned"))


def test_a_command_that_did_not_run_has_no_result_for_a_shared_folder(shared):
    assert (
        inspect_shared_folder([], str(shared), lambda command: CommandResult(1, "", "sudo: a terminal is required"))
        is None
    )


def test_a_missing_shared_folder_is_an_error(node, shared):
    message = refusal(node, shared / "none")
    assert message.startswith(f"The shared folder {shared}/none cannot be used on this node: ")
    assert "cd" in message
    assert list(shared.iterdir()) == []


def test_a_folder_on_the_nodes_own_disk_is_refused(node, tmp_path):
    if mount_point(tmp_path) != "/":
        pytest.skip("the folder of the tests is mounted")
    assert "it is on the disk of the node itself: nothing is mounted there" in refusal(node, tmp_path)
    assert not (tmp_path / FOLDER_NAME).exists()


@pytest.mark.parametrize("others", [0o1777, 0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(others, node, shared):
    (shared / FOLDER_NAME).mkdir()
    (shared / FOLDER_NAME).chmod(others)
    assert "it belongs to another user, or others may write to it" in refusal(node, shared)
    assert list((shared / FOLDER_NAME).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_another_user_is_refused(node, shared):
    (shared / FOLDER_NAME).mkdir()
    os.chown(shared / FOLDER_NAME, NOBODY, -1)
    assert "it belongs to another user, or others may write to it" in refusal(node, shared)
    assert list((shared / FOLDER_NAME).iterdir()) == []


@pytest.mark.parametrize("there_already", ["file", "folder"])
def test_a_file_or_folder_in_the_place_of_the_id_is_left_alone(there_already, node, shared):
    path = shared / FOLDER_NAME / ".id"
    path.parent.mkdir(mode=0o700)
    path.write_text(FILE_SYSTEM_ID) if there_already == "file" else path.mkdir()
    assert "its .id is no link and none of ours" in refusal(node, shared)
    assert not path.is_symlink()
    assert there_already == "file" or list(path.iterdir()) == []


def test_cleaning_up_after_these_tests_leaves_what_links_lead_to(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "system").mkdir(mode=0o755)
    (tmp_path / "a/b/.id").symlink_to(tmp_path / "system")
    (tmp_path / "a/b").chmod(0o500)
    remove_tree(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["system"]
    assert stat.S_IMODE((tmp_path / "system").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "target", ["/etc", "../../x", FILE_SYSTEM_ID.upper(), f"{FILE_SYSTEM_ID}0", f"{FILE_SYSTEM_ID}\n"]
)
def test_a_link_without_an_id_in_it_is_an_error(target, node, shared):
    (shared / FOLDER_NAME).mkdir(mode=0o700)
    (shared / FOLDER_NAME / ".id").symlink_to(target)
    if target.endswith("\n"):  # a line of output is what we see of it
        assert file_system_id(node, shared) == FILE_SYSTEM_ID
    else:
        assert f"{shared}/{FOLDER_NAME}/.id on the node is a link to {target!r}, and not one of ours." in refusal(
            node, shared
        )


@pytest.fixture
def read_only(node, shared):
    """Makes the folder one that the node's user cannot write to; for root that is another user."""

    def read_only(folder):
        for path in [folder, *folder.rglob("*")]:
            if os.geteuid() == 0:
                os.chown(path, NOBODY, -1, follow_symlinks=False)
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o500)
        if os.geteuid() == 0:
            if not shutil.which("setpriv"):
                pytest.skip("there is no setpriv")
            node.become_command = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
            os.chown(shared, NOBODY, -1)

    return read_only


def test_files_on_a_read_only_file_system_are_found(make_node, node, make_file, shared, read_only):
    file = make_file()
    expected = send(make_node("writer"), shared, file).facts["id"]
    read_only(shared)
    staging = send(node, shared, file)
    assert (staging.facts["id"], node.streamed) == (expected, [])


def test_missing_files_on_a_read_only_file_system_are_an_error(make_node, node, make_file, shared, read_only):
    send(make_node("writer"), shared)
    read_only(shared)
    file = make_file()
    with pytest.raises(TorchExtensionError) as raised:
        send(node, shared, file)
    assert f"{file.name} cannot be written to {shared}/{FOLDER_NAME} on the node: mkdir: " in str(raised.value)
    assert "Permission denied" in str(raised.value)
    assert "or set torch_extension_shared_dir, or torch_extension_delivery to another way" in str(raised.value)


@pytest.mark.parametrize("made", [False, True], ids=["without a folder", "with an empty folder"])
def test_a_read_only_file_system_without_an_id_is_an_error(made, node, shared, read_only):
    if made:
        (shared / FOLDER_NAME).mkdir(mode=0o700)
    read_only(shared)
    assert ("it cannot be written to" if made else "Permission denied") in refusal(node, shared)


def test_a_part_that_a_lost_run_left_there_is_not_sent_again(node, make_file, shared):
    file = make_file()
    send(node, shared)
    put(shared, file.part, read_content(file)[: 2 * BLOCK + 5])
    send(node, shared, file)
    assert shared_files(shared) == {file.place: read_content(file)}
    assert node.streamed == [(file.name, 2 * BLOCK)]


@pytest.mark.parametrize("there_already", [0, BLOCK, 3 * BLOCK + 1000])
def test_a_file_with_another_hash_never_gets_the_name_and_no_part_is_left(there_already, node, make_file, shared):
    """Whether they come now or a part was damaged: nobody checks them later but those who refuse them, all and for ever."""
    right, wrong = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file()
    [wrong] = [wrong] if there_already else place_files([wrong._replace(sha256="0" * 64)])
    send(node, shared)
    put(shared, wrong.part, bytes(there_already))
    with pytest.raises(TorchExtensionError, match=r"flash_attn\S+ cannot be written to .* checksum did NOT match\."):
        send(node, shared, right, wrong)
    assert shared_files(shared) == {right.place: read_content(right)}
    assert sorted(os.listdir(shared / FOLDER_NAME)) == sorted([".id", right.subfolder])
    send(node, shared, right)
    if there_already:
        send(node, shared, right, wrong)
        assert shared_files(shared) == {file.place: read_content(file) for file in (right, wrong)}


def test_without_room_nothing_is_sent_and_only_parts_are_removed(node, make_file, shared):
    right, file = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file(3 << 20)
    send(node, shared, right)
    node.streamed.clear()
    for path in ("mine", file.place, file.part):
        put(shared, path, b"x")
    with pytest.raises(TorchExtensionError, match=r"has 2 MiB free, wanted are 3 MiB.*torch_extension_shared_dir"):
        send(node, shared, right, file, free=(3 << 20) - 1)
    assert node.streamed == []
    assert shared_files(shared) == {right.place: read_content(right), "mine": b"x", file.place: b"x"}


def test_a_full_disk_is_an_error_and_only_parts_are_removed(node, make_file, shared):
    right, file = make_file(7, "einops-0.8.1-py3-none-any.whl"), make_file()
    send(node, shared, right)
    node.prologue = "trap '' XFSZ; ulimit -f 128; "  # half-kilobytes, or kilobytes
    with pytest.raises(TorchExtensionError, match=r"on the node: dd: .*File too large\..*torch_extension_shared_dir"):
        send(node, shared, right, file)
    assert shared_files(shared) == {right.place: read_content(right)}
    node.prologue = ""
    send(node, shared, right, file)
    assert shared_files(shared) == {each.place: read_content(each) for each in (right, file)}


@pytest.mark.parametrize("fails", ["the disk", "the connection"])
def test_a_file_that_another_control_node_has_finished_meanwhile_is_not_removed(fails, node, make_file, shared):
    """Nodes may have begun to read it."""
    file = make_file()
    staging = inspect_shared_folder([file], str(shared), node.execute)
    put(shared, file.place, read_content(file))
    if fails == "the disk":
        node.prologue = "trap '' XFSZ; ulimit -f 128; "
    else:
        node.lost_bytes = 1
    with pytest.raises((TorchExtensionError, NotStreamedError)):
        send_files([file], staging, node.stream, node.execute)
    assert shared_files(shared) == {file.place: read_content(file)}


def test_a_file_that_arrives_incomplete_leaves_nothing(node, make_file, shared):
    file = make_file()
    node.lost_bytes = 1
    with pytest.raises(NotStreamedError):
        send(node, shared, file)
    assert shared_files(shared) == {}

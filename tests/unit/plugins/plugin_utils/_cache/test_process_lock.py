# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other processes are real ones."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible.utils.display import Display

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import waiting
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock

HOLD_LOCK = """
import sys
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import process_lock
with process_lock(*sys.argv[1:]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("name", ["a.lock", "a.waiting.lock"])
@pytest.mark.parametrize("planted", ["link", "pipe"])
def test_a_lock_is_no_link_to_a_file_of_the_operators_and_no_pipe(planted, name, lock_dir, tmp_path):
    lock_dir.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_text("content")
    (lock_dir / name).symlink_to(precious) if planted == "link" else os.mkfifo(lock_dir / name)
    with pytest.raises(OSError, match=r"symbolic links|no file"):
        waiting.open_lock(str(lock_dir / name))
    if name == "a.lock":
        with (
            pytest.raises(TorchExtensionError, match=rf"{lock_dir}/a.lock on the control node cannot"),
            process_lock(str(lock_dir), "a"),
        ):
            pass
    assert precious.read_text() == "content"


def test_what_is_in_a_lock_stays_until_it_is_taken(lock_dir):
    lock_dir.mkdir(parents=True)
    (lock_dir / "a.lock").write_text("held by 1")
    with waiting.open_lock(str(lock_dir / "a.lock")):
        assert (lock_dir / "a.lock").read_text() == "held by 1"


@pytest.fixture
def lock_dir(tmp_path):
    return tmp_path / "cache" / "locks"


@pytest.fixture
def hold_lock(lock_dir):
    """Starts another process that holds a lock until it reads a line or is killed."""
    processes = []

    def hold_lock(name):
        command = [sys.executable, "-c", HOLD_LOCK, str(lock_dir), name]
        environ = {**os.environ, "PYTHONPATH": str(Path(next(iter(ansible_collections.__path__))).parent)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold_lock
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def told(monkeypatch):
    """What the operator is told, soon."""
    texts = []
    monkeypatch.setattr(waiting, "_TELL_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(Display, "display", lambda self, text, **options: texts.append(text))
    return texts


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.fixture
def wait_in_thread(lock_dir):
    """Has a thread wait for a lock. Returns the event that is set once the thread holds it."""

    def wait_in_thread(name):
        is_held = threading.Event()

        def run():
            with process_lock(str(lock_dir), name):
                is_held.set()

        threading.Thread(target=run, daemon=True).start()
        return is_held

    return wait_in_thread


def test_a_process_waits_for_another_that_holds_the_lock(hold_lock, wait_in_thread):
    holder = hold_lock("lock")
    is_held = wait_in_thread("lock")
    assert not is_held.wait(0.3)
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert is_held.wait(10)


def test_a_process_that_waits_says_for_whom_and_one_of_many_says_so(hold_lock, wait_in_thread, lock_dir, told):
    holder = hold_lock("lock")
    waiting_ones = [wait_in_thread("lock") for number in range(5)]
    wait_until(lambda: told)
    time.sleep(0.5)
    assert len(told) == 1
    path = re.escape(f"{lock_dir}/lock.lock")
    assert re.fullmatch(
        rf"Waiting for process {holder.pid} since \d\d:\d\d:\d\d, which has locked {path} on the control node\. This is given up"
        r" once nothing has changed for 120 minutes\.",
        told[0],
    )
    holder.kill()
    assert all(is_held.wait(10) for is_held in waiting_ones)


def test_who_does_not_wait_long_says_nothing(hold_lock, wait_in_thread, told, monkeypatch):
    monkeypatch.setattr(waiting, "_TELL_AFTER_SECONDS", 60)
    holder = hold_lock("lock")
    is_held = wait_in_thread("lock")
    assert not is_held.wait(0.5)
    holder.kill()
    assert is_held.wait(10)
    assert told == []


def test_a_lock_that_is_held_for_too_long_is_given_up_with_its_file_and_its_holder(hold_lock, lock_dir):
    """A process that was stopped holds its lock."""
    holder = hold_lock("lock")
    holder.send_signal(signal.SIGSTOP)
    path = re.escape(f"{lock_dir}/lock.lock")
    with (
        pytest.raises(
            TorchExtensionError,
            match=rf"{path} on the control node is locked by process {holder.pid} since .*, and nothing has changed for 1 seconds"
            r"\. .*wait for it, or end that process; or set torch_extension_cache_dir",
        ),
        process_lock(str(lock_dir), "lock", patience=0.6),
    ):
        pass


def test_a_lock_that_goes_from_one_to_the_next_is_waited_for(hold_lock, lock_dir):
    """Many nodes may wait in turn, and not one of them for too long."""
    holder = hold_lock("lock")
    outcome = []

    def wait():
        try:
            with process_lock(str(lock_dir), "lock", patience=1.5):
                outcome.append("held")
        except TorchExtensionError as exc:
            outcome.append(str(exc))

    thread = threading.Thread(target=wait)
    thread.start()
    for number in range(3):
        time.sleep(0.8)
        (lock_dir / "lock.lock").write_text(f"held by {number} elsewhere 00:00:00\n")  # as a next one would
    assert outcome == []
    holder.kill()
    thread.join(10)
    assert outcome == ["held"]


def test_a_process_that_is_killed_frees_its_lock(hold_lock, wait_in_thread):
    holder = hold_lock("lock")
    is_held = wait_in_thread("lock")
    assert not is_held.wait(0.3)
    holder.kill()
    assert is_held.wait(10)


def test_a_lock_of_another_name_is_not_waited_for(hold_lock, wait_in_thread):
    hold_lock("lock")
    assert wait_in_thread("other").wait(10)


def test_an_error_frees_the_lock(lock_dir, wait_in_thread):
    with pytest.raises(KeyError), process_lock(str(lock_dir), "lock"):
        raise KeyError
    assert wait_in_thread("lock").wait(10)


def fail_under_lock(lock_dir, run_id, reason):
    with pytest.raises(TorchExtensionError, match=reason), process_lock(str(lock_dir), "lock", run_id=run_id):
        raise TorchExtensionError(reason)


def test_what_has_failed_in_a_run_is_not_tried_again_in_that_run(lock_dir):
    fail_under_lock(lock_dir, "run 1", "no room\nat all")
    attempts = []
    with (
        pytest.raises(TorchExtensionError, match="no room\nat all"),
        process_lock(str(lock_dir), "lock", run_id="run 1"),
    ):
        attempts.append("again")
    assert attempts == []


def test_another_run_tries_again_what_has_failed(lock_dir):
    fail_under_lock(lock_dir, "run 1", "no room")
    fail_under_lock(lock_dir, "run 2", "still none")
    with process_lock(str(lock_dir), "lock", run_id="run 3"):
        pass
    with process_lock(str(lock_dir), "lock", run_id="run 2"):
        pass


def test_without_a_run_id_no_failure_is_remembered(lock_dir):
    fail_under_lock(lock_dir, "", "no room")
    fail_under_lock(lock_dir, "", "no room either")


def test_only_the_user_can_use_the_folder_of_the_locks(lock_dir):
    with process_lock(str(lock_dir), "lock"):
        assert stat.S_IMODE(lock_dir.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_to_is_an_error_that_names_the_setting(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            TorchExtensionError, match=r"lock\.lock on the control node cannot be written to \(Not a dir.*_cache_dir\."
        ),
        process_lock(str(tmp_path / "file" / "locks"), "lock"),
    ):
        pass

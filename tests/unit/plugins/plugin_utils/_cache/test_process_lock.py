# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other processes are real ones."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import alone

HOLD = """
import sys
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.process_lock import alone
with alone(*sys.argv[1:]):
    print("has it", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def locks(tmp_path):
    return tmp_path / "cache" / "locks"


@pytest.fixture
def hold(locks):
    """Starts another process that has a word, and keeps it until it is told or killed."""
    started = []

    def hold(word):
        command = [sys.executable, "-c", HOLD, str(locks), word]
        environ = {**os.environ, "PYTHONPATH": str(Path(next(iter(ansible_collections.__path__))).parent)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        started.append(process)
        assert process.stdout.readline() == "has it\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def enter(locks):
    """Has a thread wait for a word. Returns what is set when it has it."""

    def enter(word):
        has_it = threading.Event()

        def run():
            with alone(str(locks), word):
                has_it.set()

        threading.Thread(target=run, daemon=True).start()
        return has_it

    return enter


def test_the_second_waits_for_the_first(hold, enter):
    first = hold("word")
    has_it = enter("word")
    assert not has_it.wait(0.3)
    first.stdin.write("\n")
    first.stdin.flush()
    assert has_it.wait(10)


def test_a_process_that_is_killed_keeps_nothing(hold, enter):
    first = hold("word")
    has_it = enter("word")
    assert not has_it.wait(0.3)
    first.kill()
    assert has_it.wait(10)


def test_other_words_are_not_waited_for(hold, enter):
    hold("word")
    assert enter("other").wait(10)


def test_after_an_error_it_is_free(locks, enter):
    with pytest.raises(KeyError), alone(str(locks), "word"):
        raise KeyError
    assert enter("word").wait(10)


def fail(locks, once, reason):
    with pytest.raises(TorchExtensionError, match=reason), alone(str(locks), "word", once=once):
        raise TorchExtensionError(reason)


def test_what_has_failed_once_in_a_run_is_not_tried_again_there(locks):
    fail(locks, "run 1", "no room\nat all")
    tried = []
    with pytest.raises(TorchExtensionError, match="no room\nat all"), alone(str(locks), "word", once="run 1"):
        tried.append("again")
    assert tried == []


def test_another_run_tries_again(locks):
    fail(locks, "run 1", "no room")
    fail(locks, "run 2", "still none")
    with alone(str(locks), "word", once="run 3"):
        pass
    with alone(str(locks), "word", once="run 2"):
        pass


def test_without_a_name_of_the_run_nothing_is_remembered(locks):
    fail(locks, "", "no room")
    fail(locks, "", "no room either")


def test_the_folder_is_the_users_alone(locks):
    with alone(str(locks), "word"):
        assert stat.S_IMODE(locks.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_to_is_an_error_with_the_knob(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            TorchExtensionError, match=r"word\.lock on the control node cannot be written to \(Not a dir.*_cache_dir\."
        ),
        alone(str(tmp_path / "file" / "locks"), "word"),
    ):
        pass

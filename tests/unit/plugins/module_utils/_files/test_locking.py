# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import time

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import locking

HOLD = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock of a folder until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def handle(tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    yield handle
    os.close(handle)


def test_who_does_not_let_go_is_named(holder, handle, tmp_path):
    with pytest.raises(TorchExtensionError) as caught:
        locking.lock(handle, str(tmp_path), seconds=0.3)
    user = pwd.getpwuid(os.geteuid()).pw_name
    match = re.fullmatch(
        f"{tmp_path} is held by process {holder.pid} of user {user} since ([-0-9: ]+), and was not freed within 0 s."
        " Nothing was changed. Wait for that to end, or end it, and run this again.",
        str(caught.value),
    )
    assert match, caught.value
    assert abs(time.mktime(time.strptime(match[1], "%Y-%m-%d %H:%M:%S")) - time.time()) < 60


def test_a_lock_that_is_freed_in_time_is_taken(holder, handle, tmp_path):
    holder.stdin.close()
    locking.lock(handle, str(tmp_path), seconds=30)
    assert locking.describe_holder(handle).startswith(f"by process {os.getpid()} of")


def test_a_holder_that_this_machine_does_not_know_is_not_made_up(handle, monkeypatch):
    assert "does not know" in locking.describe_holder(handle)  # for nobody has it
    monkeypatch.setattr(locking, "_find_holder", lambda status: 1 << 22)  # of another machine
    assert "does not know" in locking.describe_holder(handle)


def test_a_file_system_without_locks_is_no_error(tmp_path):
    read_end, write_end = os.pipe()
    os.close(write_end)
    os.close(read_end)
    locking.lock(read_end, str(tmp_path), seconds=30)

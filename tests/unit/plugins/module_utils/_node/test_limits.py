# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each limit is a real one, which a real Python runs into."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import limits

THREADS = "import threading, time\nfor _ in range(9): threading.Thread(target=time.sleep, args=[1]).start()"


def explain(setting, code):
    """What a Python's end means that runs under a limit."""
    command = f"{setting}; exec {shlex.join([sys.executable, '-c', code])}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert process.returncode, process.stdout
    words = limits.last_words(process.stderr, process.stdout) if process.returncode > 0 else ""
    return limits.explain_limit(words or limits.describe_end(process.returncode), is_here=True)


@pytest.mark.parametrize(
    ("setting", "code", "knob"),
    [
        ("ulimit -v 400000", "bytearray(1 << 30)", "ulimit -v"),
        ("ulimit -n 12", "files = [open('/dev/null') for _ in range(20)]", "ulimit -n"),
        ("ulimit -f 1", "open('large', 'wb').write(bytes(1 << 20))", "ulimit -f"),
        ("ulimit -t 1", "while True: pass", "ulimit -t"),
        (":", "open('/dev/full', 'w').write('x' * 1_000_000)", "make room"),
        (":", "import os; os.kill(os.getpid(), 9)", "dmesg"),
        (":", "import os; os.kill(os.getpid(), 7)", "a disk is full"),
    ],
    ids=lambda value: value[:30],
)
def test_a_limit_is_named_by_its_knob(setting, code, knob, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert knob in explain(setting, code)


@pytest.fixture
def library(tmp_path):
    """A library that wants 600 MiB of address space."""
    source = tmp_path / "large.c"
    source.write_text("static char large[600 << 20];\nchar *start(void) { return large; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "large.so", source], check=True)
    return tmp_path / "large.so"


def test_a_library_that_gets_no_room_in_memory_is_no_fault_of_the_library(library):
    load = f"import ctypes; ctypes.CDLL({str(library)!r})"
    assert "ulimit -v" in explain("ulimit -v 400000", load)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_system_without_programs_is_named(library):
    folder = library.parent / "mounted"
    folder.mkdir()
    code = (
        "from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import limits\n"
        "import ctypes\n"
        f"try: ctypes.CDLL('{folder}/large.so')\n"
        "except OSError as exc: print(limits.explain_limit(f'OSError: {exc}', is_here=True))"
    )
    mount = f"mount -t tmpfs -o noexec none {folder} && cp {library} {folder}/ && {shlex.join([sys.executable, '-c', code])}"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount], env=environ, capture_output=True, text=True, check=False
    )
    if "unshare" in process.stderr:
        pytest.skip(f"this machine gives nobody a mount of his own: {process.stderr}")
    wanted = f"{folder} is mounted noexec, so that no library can be loaded from there: mount it without\n"
    assert (process.stdout, process.stderr) == (wanted, "")


def test_what_is_no_limit_is_none():
    assert limits.explain_limit("ImportError: x.so: undefined symbol: _ZN3c105Error") is None
    assert limits.explain_limit(limits.describe_end(139)) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "ended with exit status 1"), (-11, "was ended by SIGSEGV"), (139, "was ended by SIGSEGV")],
)
def test_the_end_of_a_program_in_words(status, words):
    assert limits.describe_end(status) == words


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (("", "only this.\n"), "only this"),
        (("Shared connection to 198.18.77.11 closed.\n", "SyntaxError: no\r\n"), "SyntaxError: no"),
        (
            (
                "Fatal Python error: init_fs_encoding: no codec\nModuleNotFoundError: No module named 'encodings'\n\n"
                "Current thread 0x1 (most recent call first):\n  <no Python frame>\n",
            ),
            "ModuleNotFoundError: No module named 'encodings'",
        ),
        (("", " \n"), ""),
    ],
)
def test_the_last_words_are_those_that_say_why(outputs, words):
    assert limits.last_words(*outputs) == words

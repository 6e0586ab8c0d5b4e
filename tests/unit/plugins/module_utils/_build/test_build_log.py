# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import build_log

PIP = """
  error: subprocess-exited-with-error
  × Building wheel for p (pyproject.toml) did not run successfully.
  ERROR: Failed building wheel for p
Failed to build p
ERROR: Failed to build one or more wheels
"""
NINJA = """
  ninja: build stopped: subcommand failed.
  Traceback (most recent call last):
    File "torch/utils/cpp_extension.py", line 2597, in _run_ninja_build
      subprocess.run(
  subprocess.CalledProcessError: Command '['ninja', '-v', '-j', '2']' returned non-zero exit status 1.

  The above exception was the direct cause of the following exception:

  RuntimeError: Error compiling objects for extension
"""

#: what programs really print, and the line that says why
LOGS = {
    "gcc": (
        "  [3/9] /usr/bin/g++ -c a.cpp -Werror\n  FAILED: [code=1] a.o\n"
        "  In file included from a.h:3,\n                   from a.cpp:1:\n"
        "  a.cpp:12:10: error: 'nothing' was not declared in this scope\n  b.cpp:1:1: error: second\n" + NINJA,
        "a.cpp:12:10: error: 'nothing' was not declared in this scope",
    ),
    "a header": (
        "  /j/k.cu:2:10: fatal error: cub/block/block_load.cuh: No such file or directory\n  compilation terminated.\n"
        + NINJA,
        "/j/k.cu:2:10: fatal error: cub/block/block_load.cuh: No such file or directory",
    ),
    "nvcc": (
        '  /j/k.cu(3): error: identifier "nothing" is undefined\n  1 error detected in the compilation of "k.cu".\n'
        + NINJA,
        '/j/k.cu(3): error: identifier "nothing" is undefined',
    ),
    "nvcc itself": (
        "  nvcc fatal   : Unsupported gpu architecture 'compute_70'\n" + NINJA,
        "nvcc fatal : Unsupported gpu architecture 'compute_70'",
    ),
    "the linker": (
        "  /usr/bin/ld: cannot find -lcudart: No such file or directory\n  collect2: error: ld returned 1 exit status\n"
        "  error: command '/usr/bin/g++' failed with exit code 1\n",
        "/usr/bin/ld: cannot find -lcudart: No such file or directory",
    ),
    "setup.py": (
        "  Traceback (most recent call last):\n    File \"setup.py\", line 1\n  ModuleNotFoundError: No module named 'psutil'\n",
        "ModuleNotFoundError: No module named 'psutil'",
    ),
    "setup.py's own words": (
        "  RuntimeError: FlashAttention is only supported on CUDA 11.7 and above.\n",
        "RuntimeError: FlashAttention is only supported on CUDA 11.7 and above.",
    ),
    "the disk": (
        "  /tmp/x.s: Assembler messages:\n  /tmp/x.s: fatal error: can't write 4 bytes to section .text: 'No space left on device'\n",
        "/tmp/x.s: fatal error: can't write 4 bytes to section .text: 'No space left on device'",
    ),
    "colours": ("  a.cpp:1:1: \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kred\n", "a.cpp:1:1: error: red"),
    "pip alone": ("ERROR: Package 'p' requires a different Python\n", "ERROR: Package 'p' requires a different Python"),
}


@pytest.mark.parametrize("case", LOGS)
def test_the_first_real_error_is_found(case):
    log, line = LOGS[case]
    assert build_log.find_error(log + PIP) == line


def test_a_log_without_an_error_is_told_by_the_end_of_the_program():
    assert build_log.explain_failure("all is well", 3) == "it ended with exit status 3, and its log names no error"
    assert "was ended by SIGKILL" in build_log.explain_failure("", -9)


@pytest.mark.parametrize(
    ("line", "knob"),
    [
        ("g++: fatal error: Killed signal terminated program cc1plus", "torch_extension_build_jobs"),
        ("cc1plus: out of memory: Cannot allocate memory", "there is too little memory"),
        ("/tmp/x.s: fatal error: 'No space left on device'", "make room"),
    ],
)
def test_a_limit_of_the_machine_is_told_as_such(line, knob):
    assert knob in build_log.explain_failure(f"{line}\n{NINJA}", 1)


def test_a_line_of_a_page_is_cut():
    assert len(build_log.find_error("a.cpp:1:1: error: " + "x" * 9000)) == 400


def test_steps_are_those_of_ninja(tmp_path):
    log = tmp_path / "log"
    assert build_log.read_steps(str(log)) == (0, 0)
    log.write_text("  running build_ext\n")
    assert build_log.read_steps(str(log)) == (0, 0)
    log.write_text("  [1/3] c++ a\n  [2/3] nvcc [9/9] b\n  a.cu: note: [7/8] is no step\n" + "x" * 100)
    assert build_log.read_steps(str(log)) == (2, 3)
    log.write_text("[1/3] c++\n" + "x" * 500000 + "\n[3/3] link\n")
    assert build_log.read_steps(str(log)) == (3, 3)

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What the log of a build tells: how far it is, and why it failed."""

from __future__ import annotations

import os
import re

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import limits

_TAIL = 1 << 18  # bytes; one command of ninja's may have 10 kB
_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\] ", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[\d;]*[mK]")
_LONGEST = 400  # characters of a line that is told

# By rank, and of each the first line counts: a failed compilation makes ninja, setuptools and pip fail after it.
_ERRORS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^.*\S:\d+(?::\d+)?:? (?:fatal )?error: .+$|^.*\S\(\d+\): (?:catastrophic )?error(?: #[\w-]+)?: .+$",  # gcc; nvcc
        r"^.*(?:fatal error|internal compiler error): .+$|^\s*(?:nvcc|ptxas) (?:fatal|error) *: .+$|^.*\S: error: .+$",
        r"^.*undefined reference to .+$|^.*\bld(?:\.\w+)?: (?:cannot find|error:|final link failed) ?.*$",
        r"^.*(?:No space left on device|Disk quota exceeded|Cannot allocate memory).*$",
        r"^\s*(?:ModuleNotFoundError|ImportError|MemoryError|OSError|FileNotFoundError|AttributeError|SyntaxError): .+$",
        r"^\s*(?!subprocess\.CalledProcessError|RuntimeError: Error compiling)[\w.]+(?:Error|Exception): .+$",
        r"^\s*(?:RuntimeError|ninja|error): .+$",  # the last is setuptools' own
        r"^ERROR: .+$",
    )
)
_OTHERS_WORDS = re.compile(
    r"subprocess-exited-with-error|metadata-generation-failed|error: command .* failed|Failed to build|collect2: error"
)


def read_steps(path: str) -> tuple[int, int]:
    """Step n of m, as ninja counts; 0 of 0 before it begins, and where it is not used."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return 0, 0
    found = _STEP.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


def find_error(log: str) -> str | None:
    """The first real error in a log, in one line: the compiler's before the linker's, theirs before those of Python and pip."""
    text = _COLOURS.sub("", log)
    for pattern in _ERRORS:
        for match in pattern.finditer(text):
            line = " ".join(match[0].split())
            if not _OTHERS_WORDS.search(line):
                return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return None


def explain_failure(log: str, status: int) -> str:
    """Why a build failed, without a full stop."""
    error = find_error(log)
    words = error or f"it {limits.describe_end(status)}, and its log names no error"
    meaning = limits.explain_limit(words)
    if meaning is None and re.search(r"Killed signal terminated program|\bKilled\b", words):
        meaning = (
            "the kernel has killed the compiler for want of memory: set torch_extension_build_jobs to fewer jobs, or choose another"
            " torch_extension_builder"
        )
    return f"{words} ({meaning})" if meaning else words


def last_compiled(path: str) -> str | None:
    """The file that a compiler has begun with last."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return lines[-1].split(" ", 2)[-1] if lines else None


def shorten_path(path: str, folder: str) -> str:
    """A path as it is below a folder, or as it is."""
    return os.path.relpath(path, folder) if path.startswith(folder + os.sep) else path

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the loader and ``import`` really make of wheels. The Python of a torch runs this, alone.

It imports torch, and reads a line for each question. It forks for each of them, so that what one loads is not there for the
next. Questions and answers are JSON:

``{"library": path, "beside": [path, …]}``
    the loader's complaint about a library, or null. Those beside it are of the same wheel.
``{"module": name, "folder": path}``
    why a module that lies in a folder cannot be imported, or null
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import sys

# what is asked is what a process does that has imported it
import torch  # noqa: F401 # pylint: disable=unused-import

_NOT_FOUND = re.compile(r"(\S+): cannot open shared object file")
_LONGEST = 60000  # bytes of an answer, for that much a pipe takes from a child that nobody reads yet


def load(path, beside):
    """As a package does: the Python code of a wheel loads its libraries in an order in which they find each other."""
    waiting = {os.path.basename(other): other for other in beside}
    while True:
        try:
            return ctypes.CDLL(path)
        except OSError as exc:
            needed = _NOT_FOUND.match(str(exc))
            other = waiting.pop(needed.group(1), None) if needed else None
            if other is None:
                raise
            load(other, list(waiting.values()))


def answer(question):
    """Why it does not work, or None."""
    try:
        if "library" in question:
            load(question["library"], question["beside"])
        else:
            sys.path.insert(0, question["folder"])
            importlib.import_module(question["module"])
    except BaseException as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def main():
    """Answer until there are no more questions."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print is no answer
    for line in iter(sys.stdin.readline, ""):
        from_child, to_parent = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(to_parent, json.dumps(answer(json.loads(line))).encode()[:_LONGEST])
            os._exit(0)
        os.close(to_parent)
        with os.fdopen(from_child) as pipe:
            told = pipe.read()
        status = os.waitpid(child, 0)[1]
        print(told if status == 0 else json.dumps(f"the process ended with status {status}"), file=answers, flush=True)


if __name__ == "__main__":
    main()

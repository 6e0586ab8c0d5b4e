# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What an interpreter is and where it looks for packages, without importing any of them."""

from __future__ import annotations

import ast
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run

# Runs in the interpreter that is queried, with -I -S: no site module, so no .pth file of the environment is
# executed and nothing of the environment is imported. What site would have done for a venv (before Python 3.14)
# is done here: PEP 405 puts pyvenv.cfg beside the executable or one folder above. Neither json nor sysconfig is used:
# importing them takes longer than all the rest.
_QUERY = """
import os, site, sys

def venv_settings(executable):
    here = os.path.dirname(os.path.abspath(executable))
    for folder in (here, os.path.dirname(here)):
        try:
            with open(os.path.join(folder, "pyvenv.cfg"), encoding="utf-8") as lines:
                pairs = [line.split("=", 1) for line in lines if "=" in line]
        except OSError:
            continue
        return {key.strip().lower(): value.strip().lower() for key, value in pairs}
    return None

settings = venv_settings(sys.executable)
base, flags = sys.base_prefix, getattr(sys, "abiflags", "")
if settings is not None:
    sys.prefix = sys.exec_prefix = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
isolated = settings is not None and settings.get("include-system-site-packages") != "true"
packages = site.getsitepackages([sys.prefix])
if not isolated:
    packages.append(site.getusersitepackages())
    if settings is not None:
        packages += site.getsitepackages([base])
print(repr({
    "version": sys.version.split()[0],
    "implementation": sys.implementation.name,
    "nodot": "%d%d" % sys.version_info[:2],
    "free_threaded": "t" in flags,
    "debug": "d" in flags,
    "pymalloc": "m" in flags,
    "prefix": sys.prefix,
    "venv": settings is not None,
    "stdlib": os.path.dirname(os.__file__),
    "packages": packages,
}))
"""

_TAG_PREFIX = {"cpython": "cp", "pypy": "pp"}  # PEP 425


class Interpreter(t.NamedTuple):
    """An interpreter of the node and the environment it belongs to."""

    executable: str
    version: str
    tag: str  # PEP 425 Python tag, e.g. "cp311"
    abi: str  # PEP 425 ABI tag of CPython, e.g. "cp311", "cp313t" for a free-threaded build, "cp37m" up to 3.7
    implementation: str
    prefix: str  # sys.prefix: the folder of the environment
    is_venv: bool
    externally_managed: bool  # PEP 668: the operating system's package manager owns this environment
    site_packages: tuple[str, ...]  # existing folders, in the order of sys.path


def find_executable(python: str) -> str:
    """The executable of an interpreter that is named by its path, by a bare command or by the folder of its environment.

    :raises TorchExtensionError: with what was searched for and where
    """
    path = os.path.expanduser(python)
    knob = (
        "Set torch_extension_python (option python) to an interpreter or to the folder of a venv or conda environment."
    )
    if os.sep not in path:
        executable = shutil.which(path)
        if executable is None:
            raise TorchExtensionError(
                f"No command {python!r} on the PATH of this node ({os.environ.get('PATH')}). {knob}"
            )
        return executable
    candidates = [path]
    if os.path.isdir(path):
        candidates = [os.path.join(path, "bin", name) for name in ("python", "python3")]
    for candidate in candidates:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    raise TorchExtensionError(f"No interpreter at {python}: {'; '.join(map(_explain_unusable, candidates))}. {knob}")


def _explain_unusable(candidate: str) -> str:
    if os.path.islink(candidate) and not os.path.exists(candidate):
        return f"{candidate} is a link to {os.readlink(candidate)}, which does not exist"
    try:
        os.stat(candidate)
    except PermissionError:
        return f"{candidate} cannot be reached by user id {os.geteuid()} (become another user?)"
    except OSError:
        return f"{candidate} does not exist"
    if os.path.isdir(candidate):
        return f"{candidate} is a folder"
    return f"{candidate} cannot be executed by user id {os.geteuid()}"


def query_interpreter(python: str, run: Run) -> Interpreter:
    """Run an interpreter to find out what it is.

    :param python: an interpreter, a command on the PATH, or the folder of an environment
    :raises TorchExtensionError: if there is no such interpreter or it does not answer
    """
    executable = find_executable(python)
    status, out, err = run([executable, "-I", "-S", "-c", _QUERY])
    try:
        answer = dict(ast.literal_eval(out))
    except (ValueError, SyntaxError, TypeError):
        last_line = (err.strip() or out.strip() or "no output").splitlines()[-1]
        raise TorchExtensionError(
            f"{executable} does not answer as a Python 3 interpreter (exit status {status}: {last_line}). "
            "Repair it, or set torch_extension_python to another one."
        ) from None
    tag = _TAG_PREFIX.get(answer["implementation"], answer["implementation"]) + answer["nodot"]
    is_externally_managed = not answer["venv"] and os.path.isfile(os.path.join(answer["stdlib"], "EXTERNALLY-MANAGED"))
    return Interpreter(
        executable=executable,
        version=answer["version"],
        tag=tag,
        abi=tag + "t" * answer["free_threaded"] + "d" * answer["debug"] + "m" * answer["pymalloc"],
        implementation=answer["implementation"],
        prefix=answer["prefix"],
        is_venv=answer["venv"],
        externally_managed=is_externally_managed,
        site_packages=tuple(folder for folder in dict.fromkeys(answer["packages"]) if os.path.isdir(folder)),
    )

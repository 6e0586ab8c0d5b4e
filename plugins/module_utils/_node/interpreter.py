# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What an interpreter is, where it looks for packages, and which file it would import a module from.

Only the interpreter itself can tell: what is on its search path and in which order depends on its build (Debian, conda, uv), on
venvs, on the user, on variables (PYTHONPATH, PYTHONNOUSERSITE) and on what runs when it starts (.pth files, sitecustomize).
"""

from __future__ import annotations

import ast
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import self_description
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.safe_to_run import (
    check_may_import,
    check_may_run,
)

_TAG_PREFIX = {"cpython": "cp", "pypy": "pp"}  # PEP 425


class PathEntry(t.NamedTuple):
    """A folder of the search path (or a zip file, or a folder whose name ends in .egg)."""

    folder: str
    owner: str  # ENVIRONMENT, SYSTEM, USER, VARIABLE or ADDED of self_description


class ModuleLocation(t.NamedTuple):
    """Where a module would be imported from."""

    file: str  # a folder where it has no file of its own (a namespace package: mostly what is left of one)
    is_before: bool  # it would still be taken if the folder that installers write to had it, too


class Interpreter(t.NamedTuple):
    """An interpreter of the node and the environment it belongs to."""

    executable: str
    version: str
    tag: str  # PEP 425 Python tag, e.g. "cp311"
    abi: str  # PEP 425 ABI tag of CPython, e.g. "cp311", "cp313t" for a free-threaded build, "cp37m" up to 3.7
    implementation: str
    prefix: str  # sys.prefix: the folder of the environment
    base_prefix: str  # that of the Python that a venv is made of, or else the same
    is_venv: bool
    externally_managed: bool  # PEP 668: the operating system's package manager owns this environment
    path: tuple[PathEntry, ...]  # what exists of sys.path, in its order, without the standard library
    site_packages: str | None  # the folder of packages that installers write to
    modules: dict[str, ModuleLocation]  # those asked for that it would find
    libc: str | None  # "glibc 2.36", or None where it is another one
    machine: str  # as os.uname() has it
    program: str  # the file that runs; the executable may be a link to it, or a script that starts it


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


def query_interpreter(
    python: str,
    run: Run,
    modules: t.Sequence[str] = (),
    environ: t.Mapping[str, str] | None = None,
    trusted_owners: t.Collection[str] = (),
) -> Interpreter:
    """Run an interpreter to find out what it is, unless we are root and somebody else can change it.

    :param python: an interpreter, a command on the PATH, or the folder of an environment
    :param modules: names of the modules to look for, without a dot
    :param environ: the environment variables that it is run with
    :param trusted_owners: whom the operator trusts with root's rights, as of ``trust.trust``
    :raises TorchExtensionError: if there is no such interpreter, root is not to run it, or it does not answer
    """
    executable = find_executable(python)
    check_may_run(executable, environ or os.environ, trusted_owners)
    interpreter = ask_interpreter(executable, run, modules, environ)
    check_may_import([entry.folder for entry in interpreter.path], executable, trusted_owners)
    return interpreter


def ask_interpreter(
    executable: str, run: Run, modules: t.Sequence[str], environ: t.Mapping[str, str] | None = None
) -> Interpreter:
    """As :func:`query_interpreter`, of one that was queried before."""
    # It starts like any program of the environment, or else the answer would be another one than what programs see. The loader has the
    # text also where modules come in an archive.
    loader: t.Any = self_description.__spec__.loader
    query = loader.get_source(self_description.__name__)
    status, out, err = run([executable, "-B", "-c", query, *modules])
    try:
        answer = _parse_answer(out)
    except (ValueError, SyntaxError, TypeError):
        last_line = (err.strip() or out.strip() or "no output").splitlines()[-1]
        raise TorchExtensionError(
            f"{executable} does not answer as a Python 3 interpreter (exit status {status}: {last_line}). "
            f"{_name_suspects(environ or {})}Repair it, or set torch_extension_python to another one."
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
        base_prefix=answer["base_prefix"],
        is_venv=answer["venv"],
        externally_managed=is_externally_managed,
        path=tuple(PathEntry(*entry) for entry in answer["path"]),
        site_packages=answer["target"],
        modules={name: ModuleLocation(*found) for name, found in answer["modules"].items() if found},
        libc=answer["libc"],
        machine=answer["machine"],
        program=answer["program"],
    )


def _parse_answer(out: str) -> dict[str, t.Any]:
    _before, mark, answer = out.rpartition(self_description.MARK)
    if not mark:
        raise ValueError("no answer")
    return dict(ast.literal_eval(answer))


def _name_suspects(environ: t.Mapping[str, str]) -> str:
    """The variables that are set and that keep interpreters from starting, as a sentence."""
    suspects = [
        f"{name}={environ[name]}" for name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME") if environ.get(name)
    ]
    return f"It was started with {', '.join(suspects)}, without which it may start. " if suspects else ""

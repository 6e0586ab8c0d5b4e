# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What a builder is: its compilers, its Python and torch, and the room it has."""

from __future__ import annotations

import ast
import os
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import compilers, machine
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.commands import make_run, search_path
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.environment_module import load_module
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import distributions, system
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import (
    Interpreter,
    query_interpreter,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.torch import read_torch

_INCLUDE_QUESTION = (
    "import sysconfig; print('\\n' + ascii([sysconfig.get_path('include'), sysconfig.get_path('platinclude')]))"
)


class Builder(t.NamedTuple):
    """A machine, as a build sees it."""

    environ: dict[str, str]  # with what the environment module sets
    module_environ: dict[str, str]  # that alone
    interpreter: Interpreter
    torch: dict[str, t.Any] | None
    pairs: list[compilers.Pair]
    python_headers: list[str]  # folders with Python.h, or where it was looked for
    has_python_headers: bool
    run: t.Any  # with that environment

    def find_nvcc(self) -> compilers.Nvcc | None:
        return compilers.find_nvcc(search_path(self.environ), self.environ, self.run)


def look_at(
    python: str, module: str, environ: t.Mapping[str, str], trusted_owners: t.Collection[str] = ()
) -> Builder:
    """Look at this machine.

    :param python: an interpreter, a command on the PATH, or the folder of an environment
    :param module: the environment module to load, or ""
    :param trusted_owners: who besides root may change what root runs (``trust.trust``)
    :raises TorchExtensionError: if the module cannot be loaded, the interpreter does not run or its torch is broken
    """
    module_environ = load_module(module, make_run(environ))
    whole = {**environ, **module_environ}
    whole["PATH"] = search_path(whole)
    run = make_run(whole)
    interpreter = query_interpreter(python, run, ["torch"], whole, trusted_owners)
    headers = _header_folders(interpreter.executable, run)
    return Builder(
        environ=whole,
        module_environ=module_environ,
        interpreter=interpreter,
        torch=_read_torch(interpreter),
        pairs=compilers.find_pairs(whole["PATH"], run),
        python_headers=headers,
        has_python_headers=any(os.path.isfile(os.path.join(folder, "Python.h")) for folder in headers),
        run=run,
    )


def describe(builder: Builder, folder: str) -> dict[str, t.Any]:
    """A builder, as the control node chooses by it.

    :param folder: of builds (``job_folder.resolve_folder``)
    """
    nvcc = builder.find_nvcc()
    pair = builder.pairs[0] if builder.pairs else None
    python = builder.interpreter
    libc = (python.libc or "").split()
    return {
        "cores": machine.usable_cores(),
        "load": os.getloadavg()[0],
        "memory_mib": machine.available_memory_mib(),
        "free_mib": machine.free_mib(folder),
        "folder": folder,
        "cxx": _describe_compiler(pair and pair.cxx),
        "cc": _describe_compiler(pair and pair.cc),
        "nvcc": nvcc and {key: getattr(nvcc, key) for key in ("path", "home", "version", "max_gcc")},
        "python_headers": builder.has_python_headers,
        "python": {key: getattr(python, key) for key in ("executable", "tag", "abi", "prefix", "version")},
        "torch": builder.torch and {key: builder.torch[key] for key in ("version", "cuda", "cxx11_abi")},
        "libc": libc[1] if len(libc) == 2 and libc[0] == "glibc" else None,
        "machine": python.machine,
        "slurm": shutil.which("sbatch", path=builder.environ["PATH"]) is not None,
    }


def _describe_compiler(compiler: compilers.Compiler | None) -> dict[str, str] | None:
    return {"path": compiler.path, "version": compiler.version} if compiler else None


def _read_torch(interpreter: Interpreter) -> dict[str, t.Any] | None:
    module = interpreter.modules.get("torch")
    installed = distributions.find_all_records([entry.folder for entry in interpreter.path])
    records = installed.get("torch", [])
    torch, _warnings = read_torch(
        module and module.file, records[0] if records else None, system.library_folders(interpreter)
    )
    return torch


def _header_folders(executable: str, run: Run) -> list[str]:
    _status, out, _err = run([executable, "-B", "-c", _INCLUDE_QUESTION])
    try:
        answer = ast.literal_eval(out.strip().splitlines()[-1])
    except (ValueError, SyntaxError, IndexError):
        return []
    return [folder for folder in dict.fromkeys(answer) if isinstance(folder, str)]

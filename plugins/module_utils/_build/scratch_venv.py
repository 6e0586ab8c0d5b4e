# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The virtual environment of a build: over the environment it is for, which stays as it is."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.logged_commands import LoggedCommands
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import Interpreter


def make_venv(
    job: t.Mapping[str, t.Any],
    folder: JobFolder,
    interpreter: Interpreter,
    environ: t.Mapping[str, str],
    commands: LoggedCommands,
) -> None:
    """Make the environment, with what the build requires.

    :raises TorchExtensionError: if that does not work
    """
    requirements = [folder.delivered(file) for file in [*job["requirements"], *job["torch"]]]
    pips = [path for path in requirements if os.path.basename(path).startswith("pip-")]
    if not pips:
        raise TorchExtensionError("job.requirements has no wheel of pip, with which the others are installed.")
    failure = "its environment cannot be made"
    venv = [interpreter.executable, "-m", "venv", "--without-pip", folder.venv]
    commands.run(venv, environ, folder.path, failure)
    install = [os.path.join(pips[0], "pip"), "install", "--no-index", "--no-deps", "--no-compile", *requirements]
    commands.run([python(folder), *install], environ, folder.path, failure)
    if not job["torch"]:  # afterwards, or else pip takes what is below for installed
        _add_packages(interpreter, site_packages(folder))


def python(folder: JobFolder) -> str:
    """The interpreter of the environment."""
    return os.path.join(folder.venv, "bin", "python")


def site_packages(folder: JobFolder) -> str:
    """The folder of packages of the environment."""
    library = os.path.join(folder.venv, "lib")
    version = next(name for name in sorted(os.listdir(library)) if name.startswith("python"))
    return os.path.join(library, version, "site-packages")


def package_folders(job: t.Mapping[str, t.Any], folder: JobFolder, interpreter: Interpreter) -> list[str]:
    """Where the packages are that the build sees, in their order."""
    below = [] if job["torch"] else [entry.folder for entry in interpreter.path]
    return [site_packages(folder), *below]


def bytecode_variables(folder: JobFolder, interpreter: Interpreter) -> dict[str, str]:
    """Nothing is written into the environment that is for.

    Where torch has its bytecode, which takes seconds to make, that is used; else, from Python 3.8 on, it gets a place of its own.
    """
    version = interpreter.tag.replace("cp", "cpython-")
    names = [os.path.join(entry.folder, f"torch/__pycache__/__init__.{version}.pyc") for entry in interpreter.path]
    if interpreter.version.startswith("3.7.") or any(map(os.path.exists, names)):
        return {"PYTHONDONTWRITEBYTECODE": "1"}
    return {"PYTHONPYCACHEPREFIX": os.path.join(folder.home, "pycache")}


def _add_packages(interpreter: Interpreter, target: str) -> None:
    """Put the packages that an interpreter finds behind those of the environment."""
    lines = [f"import site; site.addsitedir({entry.folder!r})\n" for entry in interpreter.path]
    with open(os.path.join(target, "environment.pth"), "w", encoding="utf-8") as file:
        file.write("".join(lines))

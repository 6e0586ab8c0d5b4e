# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""An environment's own installer, pip or uv: run offline and without anybody's settings."""

from __future__ import annotations

import os
import re
import typing as t
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    explain_missing_installer,
    is_of_another_user,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.uv import find_uv
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file

_ERROR_MARKS = ("error", "\N{MULTIPLICATION SIGN}", "╰─>")  # pip >= 21.3 tells what an error is in the lines after it

# python -m pip, without the search for garbage, which takes a tenth of its time for one wheel; what is frozen is not looked at.
_PIP = """
import atexit, gc, runpy
gc.disable()
atexit.register(gc.freeze)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def install_files(
    files: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    target: str | None,
    environment: t.Mapping[str, t.Any],
    run: Run,
) -> None:
    """Install wheels on files alone: with neither index nor build nor dependencies.

    :param folder: where they lie (``wheel_file.delivered_path``)
    :param target: a folder to unpack them into; None for the environment's own, in place of what is there
    :raises TorchExtensionError: with the installer's own words
    """
    sources = [_installer_argument(file, folder, environment) for file in files]
    target_arguments = ["--target", target] if target else []
    _run_installer(
        [
            "install",
            "--no-index",
            "--no-deps",
            "--no-cache-dir",
            *(target_arguments or ["--force-reinstall"]),
            *sources,
        ],
        ["install", "--offline", "--no-index", "--no-deps", *(target_arguments or ["--reinstall"]), *sources],
        f"install {', '.join(file['filename'] for file in files)}",
        environment,
        run,
        # pip unpacks in TMPDIR first: /tmp may be small or another file system
        [f"TMPDIR={os.path.dirname(target)}"] if target else [],
    )


def uninstall(names: t.Sequence[str], environment: t.Mapping[str, t.Any], run: Run) -> None:
    """Uninstall distributions.

    :raises TorchExtensionError: with the installer's own words
    """
    wanted = f"uninstall {', '.join(names)}"
    _run_installer(["uninstall", "--yes", *names], ["uninstall", "--offline", *names], wanted, environment, run)


def is_hashed_by_pip(file: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> bool:
    """Whether pip itself checks a file against its hash before it unpacks it.

    It does so with a hash in the fragment of the file's URL (tried with 9.0.3, 18.1, 19.2.3, 20.0.2; scenario pips has later ones),
    and takes what does not look like one for none.
    Without, it reads the whole file all the same, to tell its hash in direct_url.json (PEP 610): here, too, would be twice.
    """
    return bool(environment["installers"]["pip"] and re.match(r"[0-9a-fA-F]{64}\Z", file["sha256"] or ""))


def _installer_argument(file: t.Mapping[str, t.Any], folder: str, environment: t.Mapping[str, t.Any]) -> str:
    """The argument for an installer that names a file: its path or, with the hash to check, its URL."""
    path = wheel_file.delivered_path(file, folder)
    if not is_hashed_by_pip(file, environment):
        return path
    return f"file://{quote(os.fsencode(os.path.abspath(path)))}#sha256={file['sha256'].lower()}"


def _run_installer(
    pip_arguments: t.Sequence[str],
    uv_arguments: t.Sequence[str],
    wanted: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
    variables: t.Sequence[str] = (),
) -> None:
    """Run pip, or uv where there is no pip.

    :param wanted: of it, in words that follow "could not"
    """
    python = environment["python"]
    uv = find_uv(python["prefix"])
    if environment["installers"]["pip"]:
        # what root imports would leave files of root in another user's environment
        no_bytecode = ["-B"] if is_of_another_user(python["site_packages"]) else []
        command = [
            python["executable"],
            "-I",
            *no_bytecode,
            "-c",
            _PIP,
            "--isolated",
            "--disable-pip-version-check",
            "--no-input",
        ]
        command += pip_arguments
    elif uv:
        command = [uv, "pip", uv_arguments[0], "--python", python["executable"], "--no-config", "--no-cache"]
        command += uv_arguments[1:]
    else:
        raise TorchExtensionError(explain_missing_installer(environment) or "uv has gone from this node.")
    # pip's --isolated still reads the pip.conf of the environment and of the system, uv's --no-config still UV_….
    unset_variables = [word for name in sorted(os.environ) if name.startswith(("PIP_", "UV_")) for word in ("-u", name)]
    status, out, err = run(["env", *unset_variables, f"PIP_CONFIG_FILE={os.devnull}", *variables, *command])
    if status != 0:
        lines = [line for line in (err + "\n" + out).splitlines() if line.strip()]
        errors = (
            [line for line in lines if line.lower().startswith(_ERROR_MARKS)] or lines[-1:] or [f"exit status {status}"]
        )
        name = "pip" if environment["installers"]["pip"] else "uv"
        raise TorchExtensionError(f"{name} of this node could not {wanted}: {' '.join(errors)}")

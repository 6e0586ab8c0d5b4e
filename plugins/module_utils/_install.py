# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Install delivered wheels into an environment, offline, after they have shown in a scratch place that they load."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils import _distributions, _wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._action import (
    EXAMINE,
    KEEP,
    REPLACE,
    Action,
    decide,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._environment import find_uv, refuse_foreign
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._python import Run

# Beside the packages: there the user may write, there is room for what will be installed, and shared objects may be
# loaded (a home or /tmp may be mounted noexec). The dot keeps it from being importable.
_SCRATCH = ".torch_extension-"

# sys.path[0] is the working directory, in which anything may lie; the scratch place takes its turn.
_IMPORT = """
import importlib, sys
sys.path[0:1] = sys.argv[1:2] if sys.argv[1] else []
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def examine(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], run: Run) -> Action:
    """What to do with a wheel, looking closer where the environment alone does not tell.

    Something of the wanted version that came from elsewhere (built on the node, installed by hand) counts as installed if it
    can be imported.
    """
    action = decide(wheel, environment)
    if action.action != EXAMINE:
        return action
    installed = _distributions.installed([environment["python"]["site_packages"]]).get(wheel["name"])
    missing = _distributions.missing_files(installed) if installed else []
    if missing:
        return Action(REPLACE, f"{wheel['name']} {wheel['version']} is installed in part ({missing[0]} is missing)")
    failure = import_failure(environment["python"]["executable"], wheel["imports"], run)
    if failure is None:
        return Action(KEEP, f"{wheel['name']} {wheel['version']} is installed and can be imported")
    return Action(REPLACE, f"{wheel['name']} {wheel['version']} is installed, but cannot be imported ({failure})")


def install(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
    verify: bool,
) -> None:
    """Install wheels, and the wheels that they require, into an environment.

    :param wheels: each with ``name``, ``filename``, ``sha256`` and ``imports``
    :param requirements: likewise, without ``imports``
    :param folder: where they lie, each under its file name
    :param verify: whether to import the wheels' packages from a scratch place before anything is changed
    :raises TorchExtensionError: if something is wrong; the environment is then as it was
    """
    python = environment["python"]
    refuse_foreign(environment, [python["site_packages"]])
    for wheel in [*wheels, *requirements]:
        _wheel_file.check_delivered(wheel, folder, environment)
    paths = [os.path.join(folder, wheel["filename"]) for wheel in [*wheels, *requirements]]
    with _locked(python["site_packages"]):
        _remove_debris(python["site_packages"], wheels)
        if verify:
            scratch = tempfile.mkdtemp(prefix=_SCRATCH, dir=python["site_packages"])  # mode 0700
            try:
                _try_out(wheels, paths, scratch, environment, run)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        _run_installer(paths, None, environment, run)
    installed = _distributions.installed([python["site_packages"]])
    for wheel in wheels:
        found = installed.get(wheel["name"])
        if found is None or not found.complete:
            raise TorchExtensionError(
                f"{wheel['filename']} was installed without an error, but is not in {python['site_packages']}. Look at"
                " the installer's settings on this node."
            )


@contextlib.contextmanager
def _locked(folder: str) -> t.Iterator[None]:
    """One installation at a time: where a control node was lost, the node may still be at it when the next one comes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_debris(folder: str, wheels: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """Remove what a run that was killed has left of these wheels: our scratch places, and what pip had put aside.

    pip renames a folder that it is about to remove: "~", some of "-~.=%0123456789", and the end of the name
    (AdjacentTempDirectory in pip/_internal/utils/temp_dir.py, pip 19 to 26).
    """
    names = {name for wheel in wheels for name in (*wheel["imports"], wheel["name"].replace("-", "_"))}
    for entry in os.listdir(folder):
        aside = re.match(r"~[-~.=%0-9]*(\w{3,}?)(-[^-]*\.dist-info)?$", entry)
        if entry.startswith(_SCRATCH) or (aside and any(name.endswith(aside.group(1)) for name in names)):
            shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)


def _try_out(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    paths: t.Sequence[str],
    target: str,
    environment: t.Mapping[str, t.Any],
    run: Run,
) -> None:
    _run_installer(paths, target, environment, run)
    for wheel in wheels:
        failure = import_failure(environment["python"]["executable"], wheel["imports"], run, target)
        if failure:
            raise TorchExtensionError(
                f"{wheel['filename']} does not load with {environment['python']['executable']}: {failure}. Nothing was"
                " changed. Choose another version, or see whether torch on this node is the one it says it is."
            )


def import_failure(executable: str, modules: t.Sequence[str], run: Run, folder: str = "") -> str | None:
    """Why modules cannot be imported, in the interpreter's own last words, or None if they can.

    :param folder: a folder to import them from, before the environment's own
    """
    status, out, err = run([executable, "-E", "-c", _IMPORT, folder, *modules])
    if status == 0:
        return None
    return ((err.strip() or out.strip()).splitlines() or [f"exit status {status}"])[-1].rstrip(".")


def _run_installer(paths: t.Sequence[str], target: str | None, environment: t.Mapping[str, t.Any], run: Run) -> None:
    """Offline, from files alone, with nobody's settings: neither index nor build nor dependencies."""
    python = environment["python"]
    uv = find_uv(python["prefix"])
    where = ["--target", target] if target else []
    if environment["installers"]["pip"]:
        command = [python["executable"], "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
        command += ["install", "--no-index", "--no-deps", "--no-cache-dir"]
        # what is tried out is deleted at once, so it is not worth compiling
        command += [*where, "--no-compile"] if target else ["--force-reinstall"]
    elif uv:
        command = [uv, "pip", "install", "--python", python["executable"], "--offline", "--no-index", "--no-deps"]
        command += ["--no-config", "--no-cache", *where] + ([] if target else ["--reinstall"])
    else:
        raise TorchExtensionError(
            f"{python['executable']} has no pip and this node has no uv. Run {python['executable']} -m ensurepip, or"
            " bring uv to the node."
        )
    # pip's --isolated still reads the pip.conf of the environment and of the system, uv's --no-config still UV_….
    settings = [word for name in sorted(os.environ) if name.startswith(("PIP_", "UV_")) for word in ("-u", name)]
    status, out, err = run(["env", *settings, f"PIP_CONFIG_FILE={os.devnull}", *command, *paths])
    if status != 0:
        lines = [line for line in (err + "\n" + out).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or [f"exit status {status}"]
        raise TorchExtensionError(
            f"{'pip' if environment['installers']['pip'] else 'uv'} of this node could not install"
            f" {', '.join(map(os.path.basename, paths))}: {' '.join(errors)}"
        )

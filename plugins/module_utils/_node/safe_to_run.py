# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether root may run an interpreter: not if somebody else can change what it runs, who would be root then.

All is looked at that a Python reads before it gets to its program, and what lies at the top of its folders of packages. Below that,
what an installer has put there belongs to who has run it.
"""

from __future__ import annotations

import glob
import os
import stat
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import (
    Stranger,
    Trust,
    find_stranger,
    judge,
    trust,
)

_KNOB = "torch_extension_trusted_owners"


def check_may_run(executable: str, environ: t.Mapping[str, str], trusted_owners: t.Iterable[str]) -> None:
    """Refuse to have root run an interpreter that somebody else can change. Of other users nobody can become more than they are.

    :param environ: the environment variables that it is run with
    :param trusted_owners: whom the operator trusts with root's rights, as of ``trust.trust``
    :raises TorchExtensionError: with what it is, whose, and what to do
    """
    if os.geteuid() == 0:
        _check(*_list_places(executable, environ), executable, trust(trusted_owners))


def check_may_import(folders: t.Iterable[str], executable: str, trusted_owners: t.Iterable[str]) -> None:
    """The same for the search path, as the interpreter tells it.

    :raises TorchExtensionError: likewise
    """
    if os.geteuid() == 0:
        _check([], folders, executable, trust(trusted_owners))


def _check(paths: t.Iterable[str], folders: t.Iterable[str], executable: str, trusted: Trust) -> None:
    try:
        for path in paths:
            _refuse(find_stranger(path, trusted), executable)
        for folder in folders:
            _refuse(_find_stranger_in(folder, trusted), executable)
    except OSError as exc:
        raise TorchExtensionError(
            f"Whether others can change {exc.filename}, which {executable} reads, cannot be told ({exc.strerror}), so root does not run it."
            " Mend that, or set become_user to the owner of the environment."
        ) from exc


def _find_stranger_in(folder: str, trusted: Trust) -> Stranger | None:
    """What somebody else may change of a folder, and of what is in it; of a file, of that."""
    stranger = find_stranger(folder, trusted)
    if stranger or not os.path.isdir(folder):
        return stranger
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            stranger = find_stranger(entry.path, trusted) if is_link else judge(entry.path, status, trusted)
            if stranger:
                return stranger
    return None


def _refuse(stranger: Stranger | None, executable: str) -> None:
    if stranger is None:
        return
    advice = (
        f"Take that right away ({stranger.remedy})"
        if stranger.remedy
        else f"Set become: true and become_user: {stranger.owner}"
    )
    if stranger.name:
        advice += f". Or add {stranger.name} to {_KNOB}, who may then do on this node whatever root may"
    raise TorchExtensionError(
        f"{stranger}, and root runs nothing that others can change: of {executable} nothing was run, and nothing was changed. {advice}."
    )


def _list_places(executable: str, environ: t.Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What an interpreter reads when it starts, as far as that can be told without running it.

    :returns: files and folders; and folders of which all counts that is in them
    """
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(executable)))
    settings = _read_pyvenv(prefix)
    prefixes = [prefix, os.path.dirname(os.path.dirname(os.path.realpath(executable)))]
    if "home" in settings:
        prefixes.append(os.path.dirname(settings["home"]))
    if "/usr" in prefixes:
        prefixes.append("/usr/local")  # where Debian's Python looks, too
    # beside a program and above it, files may say where its modules are
    programs = [os.path.dirname(path) for path in (executable, os.path.realpath(executable))]
    paths = [executable, *programs, *map(os.path.dirname, programs), os.path.join(prefix, "pyvenv.cfg")]
    paths += [os.path.join(programs[0], name) for name in ("pyvenv.cfg", "uv")]
    folders = []
    if settings.get("include-system-site-packages", "true") == "true" and not environ.get("PYTHONNOUSERSITE"):
        home = environ.get("HOME") or os.path.expanduser("~")
        prefixes.append(environ.get("PYTHONUSERBASE") or os.path.join(home, ".local"))
    for each in dict.fromkeys(prefixes):
        for library in sorted(glob.glob(os.path.join(glob.escape(each), "lib*", "python3*"))):
            paths.append(os.path.dirname(library))
            folders += [library, os.path.join(library, "site-packages"), os.path.join(library, "dist-packages")]
    folders += filter(os.path.isabs, environ.get("PYTHONPATH", "").split(os.pathsep))
    by_place = {os.path.realpath(folder): folder for folder in reversed(folders)}  # lib64 is a link to lib
    return list(dict.fromkeys(paths)), list(by_place.values())


def _read_pyvenv(prefix: str) -> dict[str, str]:
    """What ``pyvenv.cfg`` says (PEP 405); nothing where there is none."""
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            pairs = [line.partition("=") for line in file]
    except OSError:
        return {}
    return {
        name.strip().lower(): value.strip().lower() if "system" in name else value.strip()
        for name, _equals, value in pairs
    }

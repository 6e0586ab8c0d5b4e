# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The uv that serves an environment."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import find_stranger, trust

_FOLDERS_OF_HOME = (".local/bin", ".cargo/bin", ".pixi/bin")  # where uv's own installer, cargo and pixi put it


def read_uv_version(prefix: str, run: Run) -> str | None:
    """The version of the uv that serves an environment, or None if there is no uv."""
    program = find_uv(prefix)
    if program is None:
        return None
    _status, out, _err = run([program, "--version"])
    match = re.match(r"uv (\S+)", out)
    return match.group(1) if match else None


def find_uv(prefix: str) -> str | None:
    """The uv that serves an environment: its own, the user's, or that of another user whom we trust anyhow.

    What somebody else could change is not run. Of the environment's own ``safe_to_run`` has judged.
    """
    return next((program for program, reason in _find_programs(prefix) if reason is None), None)


def explain_missing_uv(prefix: str) -> str:
    """Where uv was looked for, and why one that was found there is not used; a sentence without a full stop."""
    names = [*_own_folders(prefix)[:1], "the folders of PATH", *_own_folders(prefix)[2:]]
    names += [f"the homes of {', '.join(_other_users(prefix))}"] if _other_users(prefix) else []
    reasons = [f"; {program} is there, and {reason}" for program, reason in _find_programs(prefix) if reason]
    return f"there is no uv in {', '.join(names[:-1])} or {names[-1]}{''.join(reasons)}"


def _own_folders(prefix: str) -> list[str]:
    homes = [os.path.expanduser(os.path.join("~", folder)) for folder in _FOLDERS_OF_HOME]
    return [os.path.join(prefix, "bin"), os.environ.get("PATH", os.defpath), *homes]


def _other_users(prefix: str) -> list[str]:
    """Whose uv may be meant: of the owner of the environment, of who has logged in, of root."""
    names = [os.environ.get("SUDO_USER", ""), "root"]
    with contextlib.suppress(OSError, KeyError):
        names.insert(0, pwd.getpwuid(os.stat(prefix).st_uid).pw_name)
    return [name for name in dict.fromkeys(names) if name and os.path.expanduser(f"~{name}") != os.path.expanduser("~")]


def _find_programs(prefix: str) -> t.Iterator[tuple[str, str | None]]:
    """Each uv, in the order in which they are wanted, and why we do not run it; None if we may."""
    environment, *own = os.pathsep.join(_own_folders(prefix)).split(os.pathsep)
    for folder in (environment, *own):
        found = shutil.which("uv", path=folder) if folder else None
        if found:
            is_judged = folder == environment or os.geteuid() != 0
            yield found, None if is_judged else _explain_distrust(found, prefix)
    for user in _other_users(prefix):
        for folder in _FOLDERS_OF_HOME:
            program = os.path.join(os.path.expanduser(f"~{user}"), folder, "uv")
            if os.path.isfile(program):
                yield program, _explain_distrust(program, prefix)


def _explain_distrust(program: str, prefix: str) -> str | None:
    if not os.access(program, os.X_OK):
        return f"{_user_name(os.geteuid())} may not run it"
    trusted = trust()
    if os.path.exists(prefix):
        trusted = trusted.and_user(os.stat(prefix).st_uid)  # whose interpreter we run
    stranger = find_stranger(program, trusted)
    return f"{stranger}: others could change it" if stranger else None


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user id {user}"

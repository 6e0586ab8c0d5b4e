# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What an environment module (Lmod, Environment Modules) sets."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run

_NAME = re.compile(r"[\w.+/:@=-]+")
_MARK = "airgap.torch_extensions"
# The first argument of the script is the module; `module` is a function that login shells have.
_SCRIPT = f'{{ {{ test -z "$1" || module load "$1"; }} && test -z "$2"; }} >&2; status=$?; printf %s {_MARK}; env -0; exit "$status"'
_SHELLS_OWN = ("_", "SHLVL", "PWD", "OLDPWD")


def load_module(name: str, run: Run) -> dict[str, str]:
    """The variables that a module sets or changes.

    :param name: empty for none
    :raises TorchExtensionError: if it cannot be loaded
    """
    if not name:
        return {}
    knob = "Set torch_extension_build_module to one that the login shell of this user can load, or to '' for none."
    if not _NAME.fullmatch(name) or name.startswith("-"):
        raise TorchExtensionError(f"{name!r} is not the name of an environment module. {knob}")
    (_status, before, _err), (status, after, err) = (
        run(["bash", "-lc", _SCRIPT, "bash", each, ""]) for each in ("", name)
    )
    # Environment Modules 3 and 4 end with 0 also where a module is missing
    error = next((line.strip() for line in err.splitlines() if re.search(r"(?i)error|not found|unable", line)), "")
    if status or error:
        words = error or (err.strip() or f"exit status {status}").splitlines()[-1].strip()
        raise TorchExtensionError(
            f"The environment module {name} cannot be loaded on this node: {words.rstrip('.')}. {knob}"
        )
    known = _parse(before)
    return {key: value for key, value in _parse(after).items() if known.get(key) != value}


def _parse(out: str) -> dict[str, str]:
    pairs: t.Iterable[tuple[str, str, str]] = (entry.partition("=") for entry in out.rpartition(_MARK)[2].split("\0"))
    # a function of bash travels as BASH_FUNC_name%%=() { … }
    return {key: value for key, _equals, value in pairs if key.isidentifier() and key not in _SHELLS_OWN}

# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Find out whether an environment's own installer, with the settings of the user, would take a wheel from a folder: by trying.

The wheel that it is tried with has the name and the version of the real one, and nothing in it. So it can be tried before the real
one is on the node.
"""

from __future__ import annotations

import os
import tempfile
import typing as t
import zipfile
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import read_settings

_FIRST_DRY_RUN = (22, 2)  # of pip; those before can download, by the same rules
#: What keeps pip from a wheel in a folder, or puts what it installs elsewhere.
_SUSPECTS = ("no-binary", "only-binary", "constraint", "require-hashes", "user", "target", "prefix", "root")


def explain_refusal(
    environment: t.Mapping[str, t.Any],
    name: str,
    version: str,
    program: t.Sequence[str],
    run: Run,
    environ: t.Mapping[str, str],
) -> str | None:
    """Why pip (or uv) would not install a wheel from a folder, in its own last words and with its settings; None if it would.

    :param environment: as torch_info describes it
    :param version: as the METADATA of the wheel has it
    :param program: the command line that starts the installer
    """
    pip = environment["installers"]["pip"]
    installer = f"pip {pip}" if pip else "uv"
    with tempfile.TemporaryDirectory(prefix=".torch_extension-") as folder:
        _write_empty_wheel(folder, name, version)
        # in the place of the folders that the settings name: what is in those may be damaged, and is not what comes
        variables = [f"{prefix}_FIND_LINKS=file://{quote(folder)}" for prefix in ("PIP", "UV")]
        common = ["--no-deps", "--no-index", f"{name}=={version}"]
        # a process of uv's is told of the interpreter, pip's is one
        common = common if pip else ["--python", environment["python"]["executable"], *common]
        if not pip or _is_at_least(pip, _FIRST_DRY_RUN):
            command = [*program, "install", "--dry-run", *(["--ignore-installed"] if pip else ["--reinstall"]), *common]
        else:
            command = [*program, "download", "--dest", os.path.join(folder, "downloaded"), *common]
        status, out, err = run(["env", *variables, *command])
    if status == 0:
        return None
    lines = [line.strip() for line in (out + "\n" + err).splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")] or lines[-1:] or [f"exit status {status}"]
    settings = read_settings(environment["python"]["prefix"], environ) if pip else {}
    found = [f"{setting} = {settings[setting]}" for setting in _SUSPECTS if setting in settings]
    because = (
        f" Its settings have {', '.join(found)}: take that out (pip config debug tells the file)." if found else ""
    )
    return (
        f"{installer} of this node would not install {name} {version} from a folder: {' '.join(errors)}{because} Or use"
        " torch_extension_mode: install"
    )


def _is_at_least(version: str, wanted: tuple[int, int]) -> bool:
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return True
    return (major, minor) >= wanted


def _write_empty_wheel(folder: str, name: str, version: str) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    members = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: airgap.torch_extensions\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    paths = {f"{stem}.dist-info/{member}": text for member, text in members.items()}
    record = "".join(f"{path},,\n" for path in [*paths, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, f"{stem}-py3-none-any.whl"), "w") as wheel:
        for path, text in {**paths, f"{stem}.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)

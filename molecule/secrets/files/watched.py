# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""watched.py SECRETS VARIABLES LOG CMD..: runs CMD with more environment variables (JSON), and looks for secrets meanwhile.

They are the lines of SECRETS, and the processes those of all machines of the stand, and of this one.
No command line may have one. An environment may if it is that of CMD or of what it has started on this machine, where the operator's
settings are; nobody but the operator can read it. To show that it would see them, two processes show one all the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = f"WATCHED={os.getpid()}"


def look(secrets: list[bytes]) -> Iterator[tuple[int, str]]:
    """PID and file of the processes that show a secret and may not."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{name}/cmdline").read_bytes()
            if any(secret in line for secret in secrets):
                yield int(name), "cmdline"
            variables = Path(f"/proc/{name}/environ").read_bytes()
            if any(secret in variables for secret in secrets) and MARK.encode() not in variables.split(b"\0"):
                yield int(name), "environ"


def show(secret: str) -> list[subprocess.Popen[bytes]]:
    # whoever has started this one may have secrets in its environment
    clean = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    return [subprocess.Popen([*command, secret], env=clean), subprocess.Popen(command, env={**clean, "SHOWN": secret})]


def main(secrets_file: str, variables_file: str, log: str, *command: str) -> None:
    secrets = Path(secrets_file).read_text().split()
    wanted = [secret.encode() for secret in secrets]
    own = os.getpid()
    shown = show(secrets[0])
    allowed = {(shown[0].pid, "cmdline"), (shown[1].pid, "environ")}
    found: dict[tuple[int, str], str] = {}
    looks = 0
    name, _equals, value = MARK.partition("=")
    variables = {**os.environ, **json.loads(Path(variables_file).read_text()), name: value}
    try:
        with open(log, "w") as file:
            run = subprocess.Popen(command, stdout=file, stderr=file, env=variables)
        while run.poll() is None:
            seen = {item for item in look(wanted) if item[0] != own}
            looks += 1
            if not allowed <= seen:
                sys.exit(f"what shows a secret was not seen: {allowed - seen}")
            for pid, what in seen - allowed - found.keys():
                with contextlib.suppress(OSError):
                    found[pid, what] = (
                        Path(f"/proc/{pid}/cmdline").read_bytes()[:60].replace(b"\0", b" ").decode(errors="replace")
                    )
            time.sleep(0.05)  # a look takes some 10 ms
    finally:
        for process in shown:
            process.kill()
    told = ", ".join(f"{what} of {line}" for (_pid, what), line in found.items())
    print(f"{f'seen: {told}' if found else 'nothing seen'}, {looks} looks, ended with {run.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kill.py NODE FOLDER KILLS: kills installations on a node at so many random moments.

Each time the environment must have the old version or the new one, whole, and the next run must end with the new one and
leave nothing behind. FOLDER on the control node has a wheel of each version. SEED in the environment repeats a series.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

STAND = os.environ["STAND"]
VERSIONS = ("2.8.3", "2.8.3.post2")

#: What is killed; on the node by a command that kills it there. A session of sshd is what a cut of ssh ends.
CONTROL, LINE, INSTALLER, POWER = "control node", "ssh", "installer", "power"
ON_NODE = {
    LINE: "pkill -KILL -f '^sshd: root'",
    INSTALLER: "pkill -KILL python",
    POWER: "kill -KILL -1",  # all but process 1
}

#: Prints the version that is there, whole, and what is left; waits for a module that the control node has left at it.
LOOK = r"""
import base64, csv, glob, hashlib, os, subprocess, sys, time
for _ in range(300):
    if subprocess.run(["pgrep", "-f", "AnsiballZ|ansible_module|pip install"], stdout=subprocess.DEVNULL).returncode:
        break
    time.sleep(0.1)
os.chdir("/opt/venv/lib/python3.11/site-packages")
(metadata,) = glob.glob("flash_attn-*.dist-info")
for path, digest, _size in csv.reader(open(metadata + "/RECORD")):
    with open(path, "rb") as file:
        found = base64.urlsafe_b64encode(hashlib.sha256(file.read()).digest()).decode().rstrip("=")
    if digest and digest != "sha256=" + found:
        sys.exit(path + " is not the one that was installed")
version = metadata.split("-")[1].replace(".dist", "")
if sys.argv[1:]:
    import flash_attn, flash_attn_2_cuda
    if flash_attn.__version__ != version:
        sys.exit(metadata + " has " + flash_attn.__version__)
left = glob.glob(".torch_extension-*") + glob.glob("~*") + glob.glob("/root/.cache/airgap*")
left += set(glob.glob("/tmp/*")) - set(glob.glob("/tmp/ansible_*_payload_*"))  # which a killed module leaves, and is Ansible's
print(version, *left)
"""


def on_node(node: str, command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [STAND, "ssh", node, command], input=text, capture_output=True, text=True, timeout=90, check=False
    )


def look(node: str, imports: bool = False) -> tuple[str, list[str]]:
    done = on_node(node, f"/opt/venv/bin/python -B - {'import' if imports else ''}", LOOK)
    if done.returncode:
        sys.exit(f"There is neither the old version nor the new one, whole: {done.stdout}{done.stderr}")
    version, *left = done.stdout.split()
    return version, left


def start(node: str, folder: str, version: str) -> subprocess.Popen[str]:
    wanted = {
        "torch_extension_packages": [f"flash-attn=={version}"],
        "torch_extension_sources": [f"directory:{folder}"],
    }
    command = ["ansible-playbook", f"--inventory={STAND}", f"--limit={node}", f"--extra-vars={json.dumps(wanted)}"]
    return subprocess.Popen(
        [*command, "airgap.torch_extensions.install_flash_attn"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def other(version: str) -> str:
    return VERSIONS[1 - VERSIONS.index(version)]


def finish(run: subprocess.Popen[str]) -> None:
    out, _err = run.communicate(timeout=120)
    if run.returncode:
        sys.exit(f"A run that nobody has killed ended with {run.returncode}:\n{out}")


def tree(pid: int) -> list[int]:
    """A process and its children, whose sessions are their own (ansible-core 2.19)."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [pid, *(process for child in found.split() for process in tree(int(child)))]


def kill(run: subprocess.Popen[str], node: str, what: str) -> None:
    if what in (CONTROL, POWER):
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGSTOP)  # it shall start nothing meanwhile
        for process in tree(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    if what in ON_NODE:
        on_node(node, ON_NODE[what])
    run.communicate(timeout=120)  # it may go on, or say that the node is lost


def main(node: str, folder: str, kills: int) -> None:
    seed = os.environ.get("SEED") or str(random.randrange(10**6))  # noqa: S311 - no secret
    print(f"SEED={seed}", flush=True)
    moments = random.Random(seed)  # noqa: S311
    version, _left = look(node)
    begin = time.monotonic()
    finish(start(node, folder, other(version)))
    duration, version = time.monotonic() - begin, other(version)
    outcomes = collections.Counter()
    for number in range(kills):
        what = (CONTROL, INSTALLER, POWER, LINE)[number % 4]
        wanted = other(version)
        run = start(node, folder, wanted)
        moment = moments.uniform(0.25, 1) * duration
        time.sleep(moment)
        kill(run, node, what)
        found = "not looked"  # so that the next run finds the node still at it
        if what != CONTROL or number % 8 == 0:
            found, left = look(node, imports=True)
            if found not in (version, wanted):
                sys.exit(f"{found} is installed, after {version} should have become {wanted}")
            found = f"{'new' if found == wanted else 'old'}{', remains' if left else ''}"
        outcomes[found] += 1
        print(f"{number + 1}: {what} at {moment:.2f} of {duration:.2f} s: {found}", flush=True)
        finish(start(node, folder, wanted))
        version, left = look(node)
        if (version, left) != (wanted, []):
            sys.exit(f"The run after that left {version} and {left}")
    print(*(f"{found}: {count}" for found, count in sorted(outcomes.items())), sep="; ")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

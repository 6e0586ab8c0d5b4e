# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""probe.py probe|import: runs one of the two in a process of its own, on a node, and prints its name and milliseconds."""

import subprocess
import sys
import time

PROBE = """
import os, subprocess
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environments
def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
environments, _warnings = describe_environments(["/opt/venv"], ["flash-attn"], run, os.environ)
assert environments[0]["torch"]["version"]
"""
COMMANDS = {
    "probe": [sys.executable, "-c", PROBE],
    "import": ["/opt/venv/bin/python", "-W", "ignore", "-c", "import torch; assert torch.__version__"],
}

start = time.perf_counter()
subprocess.run(COMMANDS[sys.argv[1]], check=True, stderr=subprocess.DEVNULL)
print(sys.argv[1], round(1000 * (time.perf_counter() - start)))

"""ansible-test runs this in place of the get-pip script that it would fetch from a server of its own.

It installs the pip asked for from wherever pip installs everything else. sanity.sh puts the pip that does it in HOME.
"""

from __future__ import annotations

import os
import subprocess
import sys

wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
pip = os.path.expanduser("~/bootstrap/bin/pip")
subprocess.check_call([pip, "--python", sys.executable, "install", *wanted])

"""ansible-test runs this in place of the get-pip script that it would fetch from a server of its own.

The pip that comes with Python installs the pip asked for, from wherever pip installs everything else.
"""

from __future__ import annotations

import subprocess
import sys

wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", *wanted])

# SPDX-License-Identifier: GPL-3.0-or-later
"""prove_node.py ADDRESS:PORT...: run on a node, prints "sealed", or how it can get out.

An address that refuses a connection has been reached: only "no route" counts as sealed.
"""

import errno
import socket
import subprocess
import sys

leaks = []
for family in ("-4", "-6"):
    if subprocess.run(["ip", family, "route", "show", "default"], capture_output=True, text=True, check=True).stdout:
        leaks.append(f"has a default route (ip {family})")
for target in sys.argv[1:]:
    address, port = target.split(":")
    with socket.socket() as connection:
        connection.settimeout(2)
        result = connection.connect_ex((address, int(port)))
    if result != errno.ENETUNREACH:
        leaks.append(f"{target}: {errno.errorcode.get(result, 'connected')}")
try:
    socket.getaddrinfo("github.com", 443)
    leaks.append("resolves names")
except socket.gaierror:
    pass
print("\n".join(leaks) or "sealed")

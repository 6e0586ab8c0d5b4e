# SPDX-License-Identifier: GPL-3.0-or-later
"""fetch_sdist.py NAME==VERSION FOLDER: fetches an sdist from the package index of this machine, unbuilt.

`pip download` of an sdist would run its setup.py. So pip only finds the link here, with its own configuration, proxy
and certificates; the file is checked against the hash in the link.
"""

import hashlib
import logging
import pathlib
import sys

from pip._internal.commands import create_command

logging.disable(logging.WARNING)  # folders of its configuration that lack this package
name, version = sys.argv[1].split("==")
command = create_command("download")
options = command.parse_args([])[0]
session = command._build_session(options)
finder = command._build_package_finder(options, session)
links = [c.link for c in finder.find_all_candidates(name) if str(c.version) == version and not c.link.is_wheel]
if not links:
    sys.exit(f"stand: the package index has no sdist of {name} {version}")
link = next((link for link in links if link.hash_name == "sha256"), None)
if link is None:
    sys.exit(f"stand: the package index gives no sha256 for the sdist of {name} {version}")
answer = session.get(link.url_without_fragment, timeout=options.timeout)
answer.raise_for_status()
if hashlib.sha256(answer.content).hexdigest() != link.hash:
    sys.exit(f"stand: {link.filename} is not the file whose sha256 the package index gives")
(pathlib.Path(sys.argv[2]) / link.filename).write_bytes(answer.content)

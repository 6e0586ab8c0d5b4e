# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""search.py SECRETS FOLDER: prints the files in FOLDER that hold one of the lines of SECRETS, in them or in their names."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(secrets_file: str, folder: str) -> None:
    secrets = Path(secrets_file).read_bytes().split()
    for place, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = Path(place, name)
            content = os.fsencode(name)
            if path.is_symlink():
                content += os.fsencode(os.readlink(path))
            elif path.is_file():
                content += path.read_bytes()
            if any(secret in content for secret in secrets):
                print(path.relative_to(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of download.sh.

download.py make FOLDER               two wheels that do not compress, of 25 and of 250 MB
download.py get URL SHA256 CA CACHE   prints the milliseconds that our download takes, with all its checks, and the peak of
                                      the process's memory in KiB
"""

import os
import resource
import sys
import time
import zipfile
from pathlib import Path

SIZES = {"small": 25_000_000, "large": 250_000_000}  # bytes
PIECE = 1_000_000


def make(folder: str) -> None:
    for name, size in SIZES.items():
        with zipfile.ZipFile(Path(folder, f"{name}-1-py3-none-any.whl"), "w") as archive:
            archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            with archive.open(f"{name}/blob", "w") as file:
                for _piece in range(size // PIECE):
                    file.write(os.urandom(PIECE))


def get(url: str, sha256: str, ca_path: str, cache: str) -> None:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader

    start = time.perf_counter()
    found = Downloader(cache, ca_path).get(url, url.rpartition("/")[2], sha256)
    milliseconds = 1000 * (time.perf_counter() - start)
    if not found.is_new:
        raise SystemExit(f"{found.path} was there already.")
    print(round(milliseconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    {"make": make, "get": get}[sys.argv[1]](*sys.argv[2:])

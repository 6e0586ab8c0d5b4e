# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""large_wheel.py WHEEL BYTES FOLDER: writes WHEEL to FOLDER once more, with so many bytes added that do not compress.

The same arguments make the same file. It is a whole wheel: RECORD has the new file, too.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

BLOB = "flash_attn/blob.bin"
PIECE = 1_000_000


def blob(size: int) -> Iterator[bytes]:
    for start in range(0, size, PIECE):
        yield hashlib.shake_128(f"{start}".encode()).digest(min(PIECE, size - start))


def enlarge(wheel: Path, size: int, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    enlarged = folder / wheel.name
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(enlarged, "w") as new:
        *members, record = sorted(old.infolist(), key=lambda member: member.filename.endswith(".dist-info/RECORD"))
        for member in members:
            new.writestr(member, old.read(member))
        with new.open(zipfile.ZipInfo(BLOB, record.date_time), "w") as file:  # stored, as ZipInfo has it
            for piece in blob(size):
                digest.update(piece)
                file.write(piece)
        hashed = base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
        lines = old.read(record).decode().rstrip("\n")
        new.writestr(record, f"{lines}\n{BLOB},sha256={hashed},{size}\n")
    return enlarged


if __name__ == "__main__":
    print(enlarge(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))

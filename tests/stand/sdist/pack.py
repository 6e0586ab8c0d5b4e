# SPDX-License-Identifier: GPL-3.0-or-later
"""pack.py SOURCE FOLDER: packs SOURCE, a folder NAME-VERSION, as the sdist FOLDER/NAME-VERSION.tar.gz; the same bytes each time.

A file with NN in its name becomes PARTS files, with a number in its place there and in its text.
"""

import gzip
import io
import pathlib
import sys
import tarfile

PARTS = 16
DATE = 1_750_000_000
PKG_INFO = "Metadata-Version: 2.1\nName: {}\nVersion: {}\nRequires-Python: >=3.9\n"

source, folder = map(pathlib.Path, sys.argv[1:])
name, version = source.name.split("-")
contents = {"PKG-INFO": PKG_INFO.format(name, version)}
for path in sorted(path for path in source.rglob("*") if path.is_file()):
    inside, text = str(path.relative_to(source)), path.read_text()
    for number in range(1, PARTS + 1) if "NN" in inside else [0]:
        part = f"{number:02}" if number else "NN"
        contents[inside.replace("NN", part)] = text.replace("NN", part)
with (
    (folder / f"{source.name}.tar.gz").open("wb") as file,
    gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=DATE) as zipped,
    tarfile.open(fileobj=zipped, mode="w") as tar,
):
    for path, text in contents.items():
        member = tarfile.TarInfo(f"{source.name}/{path}")
        member.size, member.mtime = len(text.encode()), DATE
        tar.addfile(member, io.BytesIO(text.encode()))

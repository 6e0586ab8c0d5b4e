# SPDX-License-Identifier: GPL-3.0-or-later
"""dialects.py URL FOLDER FILES BUILD: writes a package index, FOLDER/DIALECT/simple/PROJECT, once in each dialect that
indexes speak. URL is where FOLDER will be served.

It offers the wheels in FILES and BUILD. The sdists of flash-attn in FILES stand here for others of the same names,
whose setup.py leaves a file behind when it is run, and fails.
"""

import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
import tarfile

base = sys.argv[1]
folder, files, build = map(pathlib.Path, sys.argv[2:])

SETUP_PY = """\
open("/tmp/SETUP_PY_RAN", "w").close()
raise SystemExit("setup.py was run")
"""


def sdist(name, version):
    """An sdist with nothing in it but the sentinel; the same bytes at each run."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="w", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path, text in {
            "setup.py": SETUP_PY,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        }.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return raw.getvalue()


contents = {}
for file in sorted([*files.iterdir(), *(build.iterdir() if build.exists() else [])]):
    if file.name.endswith(".tar.gz"):
        contents[file.name] = sdist(*file.name.removesuffix(".tar.gz").split("-"))
    else:
        contents[file.name] = file.read_bytes()


def anchors(prefix, hash_name=None, head=""):
    """A page of links."""

    def page(names):
        links = "".join(
            f'<a href="{prefix}{name}{"#" + hash_name + "=" + digest(name, hash_name) if hash_name else ""}">{name}</a><br>\n'
            for name in names
        )
        return "index.html", f"<!DOCTYPE html>\n<html><head>{head}</head><body>\n{links}</body></html>\n"

    return page


def digest(name, hash_name):
    return hashlib.new(hash_name, contents[name]).hexdigest()


def pep691(names):
    """A page in JSON, with several hashes, and not the strongest first."""
    found = [
        {"filename": name, "url": f"../../files/{name}", "hashes": {h: digest(name, h) for h in ("md5", "sha256")}}
        for name in names
    ]
    project = re.sub("[-_.]+", "-", names[0].split("-")[0])
    return "index.json", json.dumps({"meta": {"api-version": "1.0"}, "name": project, "files": found})


DIALECTS = {
    "relative": (anchors("../../files/", "sha256"), "files"),
    "base": (anchors("files/", "sha256", f'<base href="{base}/base/">'), "files"),
    "json": (pep691, "files"),
    "md5": (anchors(f"{base}/md5/files/", "md5"), "files"),
    "nohash": (anchors("/nohash/files/"), "files"),
    "plus": (anchors("../../+f/", "sha256"), "+f"),  # as devpi has it: pip makes %2B of it
    "percent": (anchors("../../%2Bf/", "sha256"), "+f"),
}

for dialect, (page, place) in DIALECTS.items():
    projects = {}
    for name, content in contents.items():
        target = folder / dialect / place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        projects.setdefault(re.sub("[-_.]+", "-", name.split("-")[0]).lower(), []).append(name)
    for project, names in projects.items():
        name, text = page(names)
        target = folder / dialect / "simple" / project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

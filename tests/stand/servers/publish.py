# SPDX-License-Identifier: GPL-3.0-or-later
"""publish.py FOLDER: writes what nginx needs to serve FOLDER/releases/OWNER/REPO/TAG/FILE and FOLDER/files as the
stand's github.com and package index. May be run again when files were added."""

import hashlib
import html
import json
import pathlib
import re
import sys
import urllib.parse
import uuid

wan = pathlib.Path(sys.argv[1])


def sha256(path):
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# github.com: the assets under opaque names, nginx's maps between the two, and the API's description of each release
assets, names = [], []
for repository in sorted(wan.glob("releases/*/*")):
    owner_and_name = f"{repository.parent.name}/{repository.name}"
    releases = []
    for tag in sorted(repository.iterdir()):
        release = {"tag_name": tag.name, "name": tag.name, "draft": False, "prerelease": False, "assets": []}
        for file in sorted(tag.iterdir()):
            path = f"/{owner_and_name}/releases/download/{tag.name}/{file.name}"
            opaque = f"/github-production-release-asset/{uuid.uuid5(uuid.NAMESPACE_URL, path)}"
            target = pathlib.Path(f"{wan}/assets{opaque}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(file)
            assets.append(f'  "{path}" "{opaque}";\n')
            names.append(f'  "{opaque}" "#{file.name}";\n')
            release["assets"].append(
                {
                    "name": file.name,
                    "state": "uploaded",
                    "content_type": "application/octet-stream",
                    "size": file.stat().st_size,
                    "digest": f"sha256:{sha256(file)}",
                    "browser_download_url": "https://github.com" + urllib.parse.quote(path),
                }
            )
        releases.append(release)
        write(wan / f"api/repos/{owner_and_name}/releases/tags/{tag.name}", json.dumps(release))
    write(wan / f"api-lists/repos/{owner_and_name}/releases", json.dumps(releases[::-1]))
write(
    wan / "assets.conf",
    'map $uri $asset {\n  default "";\n' + "".join(assets) + "}\n"
    'map $uri $asset_name {\n  default "";\n' + "".join(names) + "}\n",
)

# the package index (PEP 503)
projects = {}
for file in sorted((wan / "files").iterdir()):
    project = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
    href = f"/files/{urllib.parse.quote(file.name)}#sha256={sha256(file)}"
    projects.setdefault(project, []).append(f'<a href="{href}">{html.escape(file.name)}</a><br>\n')
for project, links in projects.items():
    write(wan / f"simple/{project}/index.html", "<!DOCTYPE html>\n" + "".join(links))
write(wan / "simple/index.html", "<!DOCTYPE html>\n" + "".join(f'<a href="{p}/">{p}</a>\n' for p in projects))

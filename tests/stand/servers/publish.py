# SPDX-License-Identifier: GPL-3.0-or-later
"""publish.py FOLDER: writes what the servers need to serve FOLDER/releases/OWNER/NAME/TAG/FILE, FOLDER/astral/CHANNEL/FILE,
FOLDER/files, FOLDER/building and FOLDER/wheels as the stand's github.com, Astral's indexes and package indexes. May be run again when files were
added."""

import hashlib
import html
import json
import pathlib
import re
import sys
import time
import urllib.parse
import uuid
import zipfile
import zlib

wan = pathlib.Path(sys.argv[1])

FIRST_DIGESTS = "2025-06-03"  # GitHub has no digest of what was uploaded before


def sha256(path):
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def uploaded(path):
    # lstat: a file that `stand publish` links here was uploaded when it was linked
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(path.lstat().st_mtime))


def published_digest(path):
    """The sha256 that is published with a file, or None."""
    return sha256(path) if uploaded(path) >= FIRST_DIGESTS else None


def number(text):
    """An ID as GitHub has them: an integer that stays the same for as long as the thing does."""
    return zlib.crc32(text.encode())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# github.com: the assets under opaque names, nginx's maps between the two, and what github_api.py tells of each repository
assets, names = [], []
for repository in sorted(wan.glob("releases/*/*")):
    owner_and_name = f"{repository.parent.name}/{repository.name}"
    github = f"https://github.com/{owner_and_name}/releases"
    api = f"https://api.github.com/repos/{owner_and_name}/releases"
    releases = []
    for tag in sorted(repository.iterdir()):
        described = []
        for file in sorted(tag.iterdir()):
            path = f"/{owner_and_name}/releases/download/{tag.name}/{file.name}"
            opaque = f"/github-production-release-asset/{uuid.uuid5(uuid.NAMESPACE_URL, path)}"
            target = pathlib.Path(f"{wan}/assets{opaque}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(file)
            assets.append(f'  "{path}" "{opaque}";\n')
            names.append(f'  "{opaque}" "#{file.name}";\n')
            asset_id = number(f"{path} {uploaded(file)}")
            digest = published_digest(file)
            described.append(
                {
                    "url": f"{api}/assets/{asset_id}",
                    "id": asset_id,
                    "name": file.name,
                    "content_type": "application/octet-stream",
                    "state": "uploaded",
                    "size": file.stat().st_size,
                    "digest": digest and f"sha256:{digest}",
                    "created_at": uploaded(file),
                    "updated_at": uploaded(file),
                    "browser_download_url": "https://github.com" + urllib.parse.quote(path),
                }
            )
        release_id = number(f"{owner_and_name} {tag.name}")
        published = min((asset["created_at"] for asset in described), default=uploaded(tag))
        releases.append(
            {
                "url": f"{api}/{release_id}",
                "html_url": f"{github}/tag/{urllib.parse.quote(tag.name)}",
                "id": release_id,
                "tag_name": tag.name,
                "name": tag.name,
                "draft": False,
                "prerelease": False,
                "created_at": published,
                "published_at": published,
                "assets": described,
            }
        )
    releases.sort(key=lambda release: release["published_at"], reverse=True)
    repository_id = number(owner_and_name)
    write(wan / f"api/repos/{owner_and_name}.json", json.dumps({"id": repository_id, "releases": releases}))
    by_id = wan / f"api/repositories/{repository_id}.json"
    by_id.parent.mkdir(exist_ok=True)
    by_id.unlink(missing_ok=True)
    by_id.symlink_to(f"../repos/{owner_and_name}.json")
write(
    wan / "assets.conf",
    'map $uri $asset {\n  default "";\n' + "".join(assets) + "}\n"
    'map $uri $asset_name {\n  default "";\n' + "".join(names) + "}\n",
)


def package_index(root, *folders):
    """A package index (PEP 503) of the files in the folders."""
    projects = {}
    for folder in folders:
        for file in sorted(folder.glob("*.whl")) + sorted(folder.glob("*.tar.gz")):
            project = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
            digest = published_digest(file)
            href = f"/{folder.name}/{urllib.parse.quote(file.name)}" + (f"#sha256={digest}" if digest else "")
            projects.setdefault(project, []).append(f'<a href="{href}">{html.escape(file.name)}</a><br>\n')
    for project, links in projects.items():
        write(wan / root / f"{project}/index.html", "<!DOCTYPE html>\n" + "".join(links))
    write(wan / root / "index.html", "<!DOCTYPE html>\n" + "".join(f'<a href="{p}/">{p}</a>\n' for p in projects))


# wheels.astral.sh: an index in JSON (PEP 691, 700, 714) for each channel, and the files with their METADATA beside
for channel in sorted(path for path in wan.glob("astral/cu*") if path.is_dir()):
    listed = {}
    for file in sorted(channel.glob("*.whl")):
        digest = sha256(file)
        artifact = wan / f"astral/artifacts/{digest}/{file.name}"
        artifact.parent.mkdir(parents=True, exist_ok=True)
        artifact.unlink(missing_ok=True)
        artifact.symlink_to(file)
        with zipfile.ZipFile(file) as archive:
            metadata = next(archive.read(name) for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        artifact.with_name(f"{file.name}.metadata").write_bytes(metadata)
        project = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
        listed.setdefault(project, []).append(
            {
                "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
                "filename": file.name,
                "hashes": {"sha256": digest},
                "size": file.stat().st_size,
                "upload-time": uploaded(file),
                "url": f"https://wheels.astral.sh/artifacts/{digest}/{urllib.parse.quote(file.name)}",
            }
        )
    for project, files in listed.items():
        page = {"files": files, "meta": {"api-version": "1.4"}, "name": project}
        write(wan / f"astral/simple/{channel.name}/{project}/index.json", json.dumps(page))

# Labelled wheels are in an index of their own: what pip is to install from an sdist must not be in reach as a wheel.
package_index("simple", wan / "files", wan / "building")
package_index("site/simple", wan / "files", wan / "wheels")
for wheel in (wan / "wheels").glob("*.whl"):
    if digest := published_digest(wheel):
        write(wheel.with_name(f"{wheel.name}.sha256"), f"{digest}  {wheel.name}\n")

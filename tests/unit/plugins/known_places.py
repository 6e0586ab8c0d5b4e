# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The known places of wheels on a real server: pages in the form of each, with names as they are there, made for the tests."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json

from github_server import Api, asset, release

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess

JSON = "application/vnd.pypi.simple.v1+json"
MJUN0812 = "mjun0812/flash-attention-prebuild-wheels"


def node(environment, torch="2.12.0+cu130", cuda="13.0", python="cp312", abi=None, machine="x86_64"):
    """A node with a torch of PyTorch's own, as torch_info returns it."""
    changed = copy.deepcopy(environment)
    changed["python"].update(version=f"3.{python[3:]}.1", tag=python, abi=abi or python)
    changed["platform"].update(machine=machine, libc={"name": "glibc", "version": "2.39"})
    changed["torch"].update(version=torch, cuda=cuda, cxx11_abi=int(torch.split(".")[1]) >= 7)
    return changed


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def quoted(name):
    return name.replace("+", "%2B")


class KnownPlaces:
    """Serves known places."""

    def __init__(self, server):
        self.server = server
        self.api = Api(server)
        self.urls = {
            "astral": f"{server.url}/astral",
            "pytorch": server.url,  # whose links begin at the root
            "cosmos": f"{server.url}/cosmos-dependencies",
            "pyg": f"{server.url}/pyg",
            "natten": f"{server.url}/natten",
        }

    def access(self, cache, **more):
        return SourceAccess(str(cache), github_api_url=self.server.url, place_urls=self.urls, **more)

    def paths(self):
        """What was asked, without the address of the server."""
        return [path.split("?")[0] for path in self.server.requests]

    def astral(self, channel, *names, requires=None):
        """A page of astral-sh-build/_build-index: JSON, whatever is asked for.

        :param requires: what METADATA requires of torch, by file name
        """
        for project, listed in _by_project(names):
            files = []
            for name in listed:
                path = f"/artifacts/{digest(name)}/{quoted(name)}"
                metadata = self._serve_metadata(path, name, (requires or {}).get(name))
                files.append(
                    {
                        "core-metadata": {"sha256": metadata},
                        "filename": name,
                        "hashes": {"sha256": digest(name)},
                        "requires-python": ">=3.9",
                        "size": 5002,
                        "upload-time": "2026-06-02T17:13:12Z",
                        "url": f"{self.server.url}{path}",
                    }
                )
            page = {
                "files": files,
                "meta": {"api-version": "1.4"},
                "name": project,
                "versions": [name.split("-")[1] for name in listed],
            }
            self.server.serve_page(
                f"/astral/simple/{channel}/{project}/", json.dumps(page, separators=(",", ":")), JSON
            )

    def pytorch(self, channel, *names, requires=None, has_metadata=True):
        """A page of pytorch/test-infra's manage_v2.py."""
        for project, listed in _by_project(names):
            links = []
            for name in listed:
                path = f"/whl/{channel}/{quoted(name)}"
                metadata = self._serve_metadata(path, name, (requires or {}).get(name))
                attributes = f'data-dist-info-metadata="sha256={metadata}" data-core-metadata="sha256={metadata}" '
                links.append(
                    f'    <a href="{path}#sha256={digest(channel + name)}" {attributes if has_metadata else ""}'
                    f'data-upload-time="2026-08-20T01:02:03Z">{name}</a><br/>\n'
                )
            page = f"<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for {project}</h1>\n{''.join(links)}  </body>\n</html>\n"
            self.server.serve_page(f"/whl/{channel}/{project}/", f"{page}<!--TIMESTAMP 1755712345-->")

    def cosmos(self, folder, *names, hashes=True):
        """A page of nvidia-cosmos/cosmos-dependencies; the old ones have no hashes, and a plus as it is."""
        releases = f"https://github.com/nvidia-cosmos/cosmos-dependencies/releases/download/{folder.partition('/')[0]}"
        for project, listed in _by_project(names):
            links = "".join(
                f"<a href='{releases}/{f'{quoted(name)}#sha256={digest(name)}' if hashes else name}'>{name}</a><br>\n"
                for name in listed
            )
            page = f"<!DOCTYPE html>\n<html>\n<body>\n{links}</body>\n</html>\n"
            self.server.serve_page(f"/cosmos-dependencies/{folder}{project}/", page)

    def pyg(self, torch, *names):
        """A page of pyg-team/pyg-lib's upload_final_index.py, with the wheels of all packages.

        :param torch: "2.12.0+cu130"
        """
        folder = quoted(f"torch-{torch}")
        links = "\n".join(f'<a href="{folder}/{quoted(name)}">{name}</a><br/>' for name in names)
        page = f"<!DOCTYPE html>\n<html>\n<body>\n{links}\n</body>\n</html>\n"
        self.server.serve_page(f"/pyg/whl/{folder}.html", page)

    def natten(self, *paths, page="/natten/"):
        """The root of SHI-Labs/NATTEN's gen_wheel_index.sh: one line, and the texts of links are paths."""
        links = ""
        for path in paths:
            name = path.rpartition("/")[2]
            url = f"https://github.com/SHI-Labs/NATTEN/releases/download/v{name.split('-')[1].partition('+')[0]}"
            links += f' <a href="{url}/{quoted(name)}">{path}</a><br>'
        head = '<!DOCTYPE html><html lang="en"><head> <meta charset="utf-8"><title>Index of packages</title></head>'
        self.server.serve_page(page, f"{head}<body>{links} </body></html>")

    def unsloth(self, *names):
        """The release of unslothai/unsloth that has wheels, with what is beside them."""
        tag = "prebuilt-wheels-cu13"
        files = [_github_asset("unslothai/unsloth", tag, name) for name in (*names, "SHA256SUMS")]
        files += [_github_asset("unslothai/unsloth", tag, f"{name}.sigstore.json") for name in names]
        self.api.serve_release(release(*files, tag=tag), repository="unslothai/unsloth")

    def mjun0812(self, releases=None):
        """The releases of mjun0812; as many files as there really are, or other ones by tag."""
        listed = [
            release(*(_github_asset(MJUN0812, tag, name) for name in names), tag=tag, published=f"2026-{number:05}")
            for number, (tag, names) in enumerate((releases or mjun0812_releases()).items())
        ]
        self.api.serve_releases(listed[::-1], repository=MJUN0812)

    def lesj0610(self, *files):
        """The releases of lesj0610, each of one wheel.

        :param files: ``TAG/NAME``
        """
        repository = "lesj0610/flash-attention"
        listed = [release(_github_asset(repository, *file.split("/")), tag=file.split("/")[0]) for file in files]
        self.api.serve_releases(listed, repository=repository)

    def nothing_anywhere(self):
        """Serve all repositories without wheels; of the other places all pages are missing."""
        self.unsloth()
        self.mjun0812({"v0.0.0": []})
        self.lesj0610()
        self.api.serve_releases([])

    def _serve_metadata(self, path, name, requires):
        project, version = name.split("-")[:2]
        lines = ["Metadata-Version: 2.4", f"Name: {project.replace('_', '-')}", f"Version: {version}"]
        text = "\n".join([*lines, *([f"Requires-Dist: {requires}"] if requires else []), ""])
        self.server.serve_body(f"{path}.metadata", text.encode())
        return digest(text)


def mjun0812_releases():
    """2,263 names in 50 releases: each version of flash-attn for each torch, CUDA, Python and platform."""
    platforms = (
        "linux_x86_64",
        "manylinux_2_24_x86_64.manylinux_2_28_x86_64",
        "linux_aarch64",
        "manylinux_2_34_aarch64",
    )
    pythons = ("cp310-cp310", "cp311-cp311", "cp312-cp312", "cp313-cp313", "cp314-cp314", "cp314-cp314t")
    torches = {
        **{f"2.{minor}": ("124", "126", "128") for minor in range(5, 9)},
        **{f"2.{minor}": ("126", "128", "130") for minor in range(9, 12)},
        "2.12": ("126", "130", "132"),
        "2.13": ("130", "132"),
    }
    names = [
        f"flash_attn-{version}+cu{cuda}torch{torch}-{python}-{platform}.whl"
        for version, (torch, cudas), python in itertools.product(
            ("2.8.3", "2.7.4", "2.6.3", "2.5.9"), torches.items(), pythons
        )
        for cuda in cudas
        for platform in platforms
    ][:2263]
    assert len(names) == 2263
    return {f"v0.9.{number}": names[number::50] for number in range(50)}


def _github_asset(repository, tag, name):
    url = f"https://github.com/{repository}/releases/download/{tag}/{quoted(name)}"
    return asset(name, browser_download_url=url, digest=f"sha256:{digest(name)}")


def _by_project(names):
    projects = {}
    for name in names:
        projects.setdefault(name.split("-")[0].replace("_", "-"), []).append(name)
    return projects.items()

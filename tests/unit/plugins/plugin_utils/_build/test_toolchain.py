# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.toolchain import find_toolchain

COMPONENTS = ("cuda_nvcc", "cuda_cudart", "cuda_cccl")


class Place:
    """A folder as NVIDIA's place is, with small archives."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}
        self.folder.mkdir()

    def add(self, release, platforms=("linux-x86_64", "linux-sbsa"), components=COMPONENTS, change=None):
        """Adds a release, with its manifest. Changes what this says of a component on a platform."""
        entries = {"release_date": "2025-03-05", "release_label": release, "release_product": "cuda"}
        for component in components:
            entries[component] = {"name": component, "license": "CUDA Toolkit", "version": f"{release}.93"}
            for platform in platforms:
                entries[component][platform] = self._add_archive(component, platform, f"{release}.93")
                if change:
                    entries[component][platform] = change(entries[component][platform])
        self.files[f"redistrib_{release}.json"] = json.dumps(entries).encode()
        self.write()

    def _add_archive(self, component, platform, version):
        name = f"{component}-{platform}-{version}-archive"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
            info = tarfile.TarInfo(f"{name}/bin/{component}")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"elf"))
        content = buffer.getvalue()
        path = f"{component}/{platform}/{name}.tar.xz"
        self.files[path] = content
        return {
            "relative_path": path,
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": "0" * 32,
            "size": str(len(content)),
        }

    def write(self):
        for path, content in self.files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)

    def serve(self, server, root="/redist/"):
        names = sorted({path.partition("/")[0] for path in self.files})
        server.serve_page(root, "<html><body>" + "".join(f"<a href='{name}'>{name}</a>" for name in names) + "</body></html>")
        for path, content in self.files.items():
            server.serve_file(f"{root}{path}", content)
        return f"{server.url}{root}"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "redist 1")


@pytest.fixture
def find(context, environment):
    def find(cuda="12.8", place="", machine="x86_64", **options):
        environment["platform"]["machine"] = machine
        return find_toolchain(cuda, environment, context, str(place), **options)

    return find


def read(file):
    with open(file.path, "rb") as content:
        return content.read()


@pytest.mark.parametrize("slash", ["", "/"])
def test_archives_come_from_the_newest_manifest_of_the_version_by_their_hashes(slash, find, place, server):
    for release in ("12.8.0", "12.8.1", "12.9.1", "12.6.10", "12.6.9"):
        place.add(release)
    url = place.serve(server).rstrip("/") + slash
    found = find("12.8", url)
    for component, file in zip(COMPONENTS, found, strict=True):
        assert file.name == f"{component}-linux-x86_64-12.8.1.93-archive.tar.xz"
        path = f"{component}/linux-x86_64/{file.name}"
        assert f"/redist/{path}" in server.requests
        assert read(file) == place.files[path]
        assert hashlib.sha256(read(file)).hexdigest() == file.sha256
    assert "-12.6.10." in find("12.6", url)[0].name, "9 is older than 10"


def test_each_archive_is_downloaded_once_and_needs_no_network_afterwards(find, place, server):
    place.add("12.8.1")
    url = place.serve(server)
    first = find(place=url)
    server.requests.clear()
    assert find(place=url) == first
    assert server.requests == []


def test_an_archive_that_comes_in_pieces_is_resumed(find, place, server):
    place.add("12.8.1")
    url = place.serve(server)
    path = next(path for path in place.files if path.startswith("cuda_nvcc/linux-x86_64"))
    content = place.files[path]
    server.serve_file(f"/redist/{path}", content, cuts=[len(content) // 2])
    assert read(find(place=url)[0]) == content
    assert sorted(server.sent_sizes)[0] < len(content)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_archives_in_a_folder_are_used_where_they_are(form, find, place):
    place.add("12.8.1")
    found = find(place=form.format(str(place.folder).replace(" ", "%20") if "file" in form else place.folder))
    assert [file.path for file in found] == [str(place.folder / path) for path in place.files if "x86_64" in path]


def test_a_folder_may_have_its_archives_without_folders_in_between(find, place):
    place.add("12.8.1")
    for path in place.files:
        if "/" in path:
            os.rename(place.folder / path, place.folder / path.rpartition("/")[2])
    assert [os.path.dirname(file.path) for file in find(place=place.folder)] == [str(place.folder)] * 3


def test_the_archives_are_those_of_the_machine(find, place):
    place.add("12.8.1")
    assert {file.name.partition("-")[2] for file in find(place=place.folder, machine="aarch64")} == {
        "linux-sbsa-12.8.1.93-archive.tar.xz"
    }
    with pytest.raises(TorchExtensionError, match="no compiler for riscv64.*torch_extension_builder"):
        find(place=place.folder, machine="riscv64")


def test_cuda_13_of_a_place_has_more_parts(find, place):
    place.add("13.0.2", components=(*COMPONENTS, "libnvvm", "cuda_crt"))
    found = [file.name.partition("-")[0] for file in find("13.0", place.folder)]
    assert found == [*COMPONENTS, "libnvvm", "cuda_crt"]


@pytest.mark.slow
def test_cuda_13_comes_as_wheels_of_its_minor_version_from_the_index(find, publish, requested_files):
    names = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl", "nvidia-cuda-runtime")
    requires = {"nvidia-cuda-nvcc": ["nvidia-nvvm", "nvidia-cuda-crt"]}
    for version in ("13.0.88", "13.0.96", "13.1.80"):
        publish(
            *(
                {"name": name, "version": version, "tags": f"py3-none-manylinux2014_{machine}", "requires": requires.get(name, ())}
                for name in names
                for machine in ("x86_64", "aarch64")
            )
        )
    found = find("13.0")
    assert sorted(file.name.partition("-")[0].replace("_", "-") for file in found) == sorted(names)
    assert {file.name.partition("-")[2] for file in found} == {"13.0.96-py3-none-manylinux2014_x86_64.whl"}
    assert all(hashlib.sha256(read(file)).hexdigest() == file.sha256 for file in found)
    assert len(requested_files()) == len(names)
    assert find("13.0") == found
    assert len(requested_files()) == len(names), "from the cache"


@pytest.mark.slow
def test_a_version_that_the_index_has_not_is_refused(find, publish):
    publish({"name": "nvidia-cuda-nvcc", "version": "13.0.88"})
    with pytest.raises(TorchExtensionError, match=r"nvidia-cuda-nvcc==13\.7\.\*.*index.*torch_extension_build_cuda") as failure:
        find("13.7")
    assert "on the node" not in str(failure.value)


@pytest.mark.parametrize("of_server", [False, True])
def test_a_place_without_the_version_says_which_it_has(of_server, find, place, server):
    place.add("12.6.3")
    place.add("12.10.0")
    with pytest.raises(TorchExtensionError, match=r"for CUDA 12\.8; it has those of 12\.6, 12\.10\..*torch_extension_build_cuda"):
        find(place=place.serve(server) if of_server else place.folder)


def test_a_folder_without_manifests_says_so(find, tmp_path):
    with pytest.raises(TorchExtensionError, match="it has none at all"):
        find(place=tmp_path)


def test_a_component_that_the_manifest_has_not_is_refused(find, place):
    place.add("12.8.1", components=COMPONENTS[:2])
    with pytest.raises(TorchExtensionError, match=r"redistrib_12\.8\.1\.json has no cuda_cccl for linux-x86_64"):
        find(place=place.folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"relative_path": "../../etc/x.tar.xz"}, "its path"),
        ({"relative_path": "/etc/x.tar.xz"}, "its path"),
        ({"relative_path": "https://evil.example/x.tar.xz"}, "its path"),
        ({"relative_path": "a/./x.tar.xz"}, "its path"),
        ({"relative_path": "cuda_nvcc/x.tar.xz?y"}, "its path"),
        ({"relative_path": "cuda_nvcc/x.sh"}, "not the name of an archive"),
        ({"relative_path": 7}, "its path"),
        ({"relative_path": None}, "its path"),
        ({"sha256": "abc"}, "its sha256"),
        ({"sha256": None}, "its sha256"),
        ({"size": "-1"}, "its size"),
        ({"size": [1]}, "its size"),
    ],
)
def test_a_manifest_is_not_trusted(change, reason, find, place):
    place.add("12.8.1", change=lambda entry: {**entry, **change})
    with pytest.raises(TorchExtensionError, match=f"does not say where cuda_nvcc.*{reason}"):
        find(place=place.folder)


@pytest.mark.parametrize("key", ["relative_path", "sha256"])
def test_an_entry_that_lacks_a_key_is_refused(key, find, place):
    place.add("12.8.1", change=lambda entry: {name: value for name, value in entry.items() if name != key})
    with pytest.raises(TorchExtensionError, match=f"'{key}' is missing"):
        find(place=place.folder)


def test_an_entry_that_is_no_dictionary_is_refused(find, place):
    place.add("12.8.1", change=lambda entry: "text")
    with pytest.raises(TorchExtensionError, match="does not say where cuda_nvcc"):
        find(place=place.folder)


@pytest.mark.parametrize("content", [b"<html>login</html>", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("of_server", [False, True])
def test_what_is_no_manifest_is_refused(of_server, content, find, place, server):
    place.files["redistrib_12.8.1.json"] = content
    place.write()
    with pytest.raises(TorchExtensionError, match="torch_extension_build_cuda") as failure:
        find(place=place.serve(server) if of_server else place.folder)
    assert len(str(failure.value)) < 1000


def test_a_manifest_in_a_folder_is_not_read_without_an_end(find, place):
    place.files["redistrib_12.8.1.json"] = b"{}" + b" " * (5 << 20)
    place.write()
    with pytest.raises(TorchExtensionError, match="it has more than 4194304 bytes"):
        find(place=place.folder)


def test_an_archive_with_another_hash_is_thrown_away(find, place, server, context):
    place.add("12.8.1")
    url = place.serve(server)
    path = next(path for path in place.files if path.startswith("cuda_nvcc/linux-x86_64"))
    content = place.files[path]
    server.serve_file(f"/redist/{path}", content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TorchExtensionError, match="has sha256 .* as the manifest has it"):
        find(place=url)
    left = [file for _folder, _names, files in os.walk(context.cache) for file in files if "nvcc" in file]
    assert [file for file in left if not file.endswith(".lock")] == []
    server.serve_file(f"/redist/{path}", b"<html>login</html>" * 99, etag='"2"')
    with pytest.raises(TorchExtensionError, match=r"torch_extension_build_cuda|not the archive"):
        find(place=url)


@pytest.mark.parametrize("place", ["relative/folder", "/nowhere", "ftp://a.example/", "https://user:secret@a.example/"])
def test_a_place_that_is_none_is_refused(place, find):
    with pytest.raises(TorchExtensionError, match="torch_extension_build_cuda") as failure:
        find(place=place)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("cuda", ["12", "12.8.1", "", "12.x", "../12.8"])
def test_what_is_no_version_of_cuda_is_refused(cuda, find, tmp_path):
    with pytest.raises(TorchExtensionError, match="is no version of CUDA"):
        find(cuda, tmp_path)

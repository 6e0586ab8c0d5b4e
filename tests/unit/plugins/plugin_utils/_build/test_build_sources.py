# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import os
import tarfile

import pytest
from servers import running_server

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.sources import SourceSettings, fetch_sources
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import archives
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import INDEX_OF_PIP, Sdist

FILENAME = "fast_hadamard_transform-1.1.0.tar.gz"
TAG = "/Dao-AILab/fast-hadamard-transform/archive/refs/tags/v1.1.0.tar.gz"


def sdist_bytes(*paths, blob=b""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in ("setup.py", *paths):
            info = tarfile.TarInfo(f"fast-hadamard-transform-1.1.0/{path}")
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return buffer.getvalue()


WHOLE = sdist_bytes("csrc/fast_hadamard_transform.cpp")


@pytest.fixture
def pip_index(server, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")


@pytest.fixture
def offer(server, pip_index):
    """An sdist on the index of pip."""

    def offer(content, name="fast-hadamard-transform", version="1.1.0", **serving):
        filename = f"{name.replace('-', '_')}-{version}.tar.gz"
        url = server.serve_file(f"/files/{filename}", content, **serving)
        digest = hashlib.sha256(content).hexdigest()
        return Sdist(name, version, filename, url, digest, len(content), None, INDEX_OF_PIP)

    return offer


@pytest.fixture
def fetch(context, tls_server):
    def fetch(sdist, **more):
        return fetch_sources(sdist, builds.find_build(sdist.name), SourceSettings(context, tls_server.url, **more))

    return fetch


def test_an_sdist_of_the_index_is_downloaded_once_by_its_hash(fetch, offer, server):
    sdist = offer(WHOLE)
    sources = fetch(sdist)
    assert sources.sdist == sdist
    assert sources.file.sha256 == sdist.sha256
    with open(sources.file.path, "rb") as file:
        assert file.read() == WHOLE
    server.requests.clear()
    assert fetch(sdist).file.path == sources.file.path
    assert server.requests == []


def test_an_sdist_whose_transfer_is_cut_is_resumed(fetch, offer, server):
    content = sdist_bytes("csrc/fast_hadamard_transform.cpp", blob=os.urandom(1 << 20))
    sources = fetch(offer(content, cuts=[1 << 19]))
    assert sources.file.sha256 == hashlib.sha256(content).hexdigest()
    assert sum(server.sent_sizes) < len(content) + (1 << 18)


def test_an_sdist_with_another_hash_is_thrown_away(fetch, offer, context):
    sdist = offer(WHOLE)._replace(sha256="ab" * 32)
    with pytest.raises(TorchExtensionError, match="has sha256 .* as the index or torch_extension_sha256 has it"):
        fetch(sdist)
    files = [file for _folder, _names, files in os.walk(context.cache) for file in files]
    assert [file for file in files if not file.endswith(".lock")] == []


def test_a_page_in_the_place_of_an_sdist_says_so(fetch, offer, server):
    sdist = offer(WHOLE)
    server.serve_body(f"/files/{FILENAME}", b"<html>login</html>")
    with pytest.raises(TorchExtensionError, match=r"is not the sdist: it is not a gzip file\..*login"):
        fetch(sdist._replace(size=None))


def test_an_index_that_is_gone_is_named_by_the_setting_of_pip(fetch, offer):
    with pytest.raises(TorchExtensionError, match="set index-url of pip on the control node"):
        fetch(offer(WHOLE)._replace(url=f"http://127.0.0.1:9/{FILENAME}"))


def test_credentials_of_the_index_go_to_its_own_host_alone(fetch, offer, server, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url.replace('//', '//user:secret@')}/simple/")
    server.authorization = "Basic dXNlcjpzZWNyZXQ="
    sdist = offer(WHOLE)
    assert fetch(sdist).file.is_new
    with running_server() as other:
        other.serve_file(f"/files/{FILENAME}", WHOLE)
        assert fetch(sdist._replace(url=f"{other.url}/files/{FILENAME}")).file.is_new
        assert all("Authorization" not in headers for headers in other.headers)
        server.authorization = "Basic other"
        with pytest.raises(TorchExtensionError, match="401") as failure:
            fetch(sdist._replace(url=f"{server.url}/files/other-1.tar.gz", filename="other-1.tar.gz"))
    assert "secret" not in str(failure.value)


def test_an_sdist_in_a_folder_is_used_where_it_is(fetch, tmp_path):
    path = tmp_path / FILENAME
    path.write_bytes(WHOLE)
    sdist = Sdist("fast-hadamard-transform", "1.1.0", FILENAME, path.as_uri(), None, None, None, f"directory:{tmp_path}")
    assert fetch(sdist).file.path == str(path)


def test_an_incomplete_sdist_of_the_index_gives_way_to_the_archive_of_its_tag(fetch, offer, tls_server):
    url = tls_server.serve_file(TAG, WHOLE)
    sources = fetch(offer(sdist_bytes()))
    assert (sources.sdist.url, sources.sdist.source) == (url, url)
    assert os.path.basename(sources.file.path) == sources.sdist.filename == "fast-hadamard-transform-1.1.0.tar.gz"
    assert sources.file.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert "has no published hash" in sources.file.warning
    assert fetch(offer(sdist_bytes())).file.warning is None, "its hash was recorded"


def test_the_archive_of_a_tag_that_cannot_be_had_or_is_incomplete_is_one_message(fetch, offer, tls_server):
    sdist = offer(sdist_bytes())
    lacks = f"{FILENAME} of the index of the control node's pip lacks csrc/fast_hadamard_transform.cpp"
    with pytest.raises(TorchExtensionError, match=f"^{lacks}.*does not exist.*torch_extension_sources"):
        fetch(sdist)
    tls_server.serve_file(TAG, sdist_bytes())
    with pytest.raises(TorchExtensionError, match=f"^{lacks}.*lacks csrc/fast_hadamard_transform.cpp, too"):
        fetch(sdist)


def test_the_archive_of_a_tag_without_its_submodule_is_refused(fetch, tmp_path):
    path = tmp_path / "flash-attention-2.8.3.tar.gz"
    path.write_bytes(sdist_bytes("csrc/flash_attn/flash_api.cpp"))
    sdist = Sdist("flash-attn", "2.8.3", path.name, path.as_uri(), None, None, None, f"directory:{tmp_path}")
    with pytest.raises(TorchExtensionError, match=r"lacks csrc/cutlass/.*\. That is a submodule.* sdist on the index has it"):
        fetch(sdist)


def test_the_operators_own_incomplete_sdist_is_not_replaced(fetch, tmp_path, tls_server):
    tls_server.serve_file(TAG, WHOLE)
    path = tmp_path / FILENAME
    path.write_bytes(sdist_bytes())
    sdist = Sdist("fast-hadamard-transform", "1.1.0", FILENAME, path.as_uri(), None, None, None, f"directory:{tmp_path}")
    with pytest.raises(TorchExtensionError, match="lacks csrc/fast_hadamard_transform.cpp"):
        fetch(sdist)
    assert tls_server.requests == []


@pytest.mark.parametrize("name", ["../a.tar.gz", "a/b.tar.gz", ".a.tar.gz", "a.tar.gz\n", "a.sh", "-a.tar.gz", ""])
def test_a_name_that_is_none_of_an_archive_is_refused(name, tmp_path):
    downloader = Downloader(str(tmp_path), kind=archives.CUDA_ARCHIVES)
    with pytest.raises(TorchExtensionError, match="is not the name of an archive"):
        downloader.get("https://127.0.0.1:9/a.tar.gz", name, "ab" * 32)


def test_a_prediction_downloads_nothing_and_knows_what_is_here(offer, fetch, requested_files):
    sdist = offer(WHOLE)
    assert fetch(sdist, predict=True) is None
    assert requested_files() == []
    fetched = fetch(sdist)
    assert fetch(sdist, predict=True).facts == fetched.facts
    assert requested_files() == [FILENAME]


def test_a_hash_of_the_operator_goes_before_that_of_the_index(offer, fetch):
    with pytest.raises(TorchExtensionError, match="0000"):
        fetch(offer(WHOLE), sha256={FILENAME: "0" * 64})


@pytest.mark.parametrize(("path", "use_cuda"), [("csrc/kernel.cu", True), ("csrc/types.cuh", True), ("csrc/cuda.cpp", False)])
def test_sources_tell_whether_anything_is_compiled_for_gpus(offer, fetch, path, use_cuda):
    content = sdist_bytes(path, "csrc/fast_hadamard_transform.cpp")
    assert fetch(offer(content)).use_cuda is use_cuda

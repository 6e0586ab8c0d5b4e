# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from packaging.specifiers import SpecifierSet
from servers import running_server, tls_context
from wheels import build_sdist, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import (
    INDEX_OF_PIP,
    find_sdists,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import parse_source

JSON = "application/vnd.pypi.simple.v1+json"
SHA256 = "ab" * 32


@pytest.fixture(autouse=True)
def pip_settings(tmp_path, monkeypatch):
    """Settings of pip that know no index but the ones of a test. Writes pip.conf."""
    path = tmp_path / "pip.conf"
    path.touch()
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "PIP_TRUSTED_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))
    return lambda **values: path.write_text(
        "[global]\n" + "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in values.items())
    )


@pytest.fixture
def find(tmp_path):
    def find(name="flash-attn", specifier="", sources=(), python="3.12.3", **options):
        access = SourceAccess(str(tmp_path / "cache"), **options.pop("access", {}))
        parsed = [parse_source(source) for source in sources]
        return find_sdists(name, SpecifierSet(specifier), python, parsed, access, **options)

    return find


@pytest.fixture
def index(server, pip_settings):
    """Serves a page of an index that has these files, which pip is then set to."""

    def index(name, *files):
        items = [
            {"url": f"../../files/{file}", "filename": file, "hashes": {}} if isinstance(file, str) else file
            for file in files
        ]
        server.serve_page(f"/simple/{name}/", json.dumps({"meta": {"api-version": "1.1"}, "files": items}), JSON)
        pip_settings(index_url=f"{server.url}/simple/")

    return index


def versions(found):
    return [sdist.version for sdist in found]


@pytest.mark.parametrize(
    ("name", "filename", "version"),
    [
        ("flash-attn", "flash_attn-2.8.3.post2.tar.gz", "2.8.3.post2"),
        ("flash-attn", "flash-attention-2.8.3.tar.gz", "2.8.3"),
        ("flash-attn", "flash-attention-v2.8.3.zip", "2.8.3"),
        ("causal-conv1d", "causal_conv1d-1.7.0.tar.gz", "1.7.0"),
        ("causal-conv1d", "causal-conv1d-1.7.0.tar.gz", "1.7.0"),
        ("mamba-ssm", "mamba_ssm-2.3.2.post1.tar.gz", "2.3.2.post1"),
        ("mamba-ssm", "mamba-2.3.1.tar.gz", "2.3.1"),
        ("transformer-engine-torch", "TransformerEngine-2.8.tar.gz", "2.8"),
        ("our-kernels", "our_kernels-0.1.0.tar.gz", "0.1.0"),
        ("Our.Kernels", "our.kernels-0.1.0+site.1.zip", "0.1.0+site.1"),
    ],
)
def test_an_archive_in_a_folder_is_found_by_its_name(name, filename, version, find, tmp_path):
    folder = tmp_path / "src#1"
    folder.mkdir()
    (folder / filename).write_bytes(b"archive")
    (folder / f"{filename}.sha256").write_text(SHA256)
    (found,) = find(name, sources=[f"directory:{folder}"])
    assert (found.version, found.filename, found.sha256, found.size) == (version, filename, SHA256, 7)
    assert found.url.startswith("file:///")
    assert found.source == f"directory:{folder}"


@pytest.mark.parametrize(
    "filename",
    [
        "flash_attn_3-3.0.0.tar.gz",
        "flash-attention-main.zip",
        "flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl",
        "flash_attn-2.8.3.tar.bz2",
        "flash_attn-2.8.3.tar.gz.part",
        "flash_attn.tar.gz",
        "flash_attn-3.0.0rc1.tar.gz",
        "mamba-2.3.1.tar.gz",
    ],
)
def test_what_is_no_sdist_of_the_package_is_left_out(filename, find, index, tmp_path):
    (tmp_path / filename).touch()
    index("flash-attn", filename)
    assert find(sources=[f"directory:{tmp_path}"]) == []


def test_a_folder_that_has_one_is_taken_before_the_index_which_is_not_asked(find, index, server, tmp_path):
    index("flash-attn", "flash_attn-2.8.3.tar.gz")
    build_sdist(tmp_path / "src", version="2.8.2")
    source = f"directory:{tmp_path / 'src'}"
    assert versions(find(sources=["release", source])) == ["2.8.2"]
    assert server.requests == []
    assert versions(find(sources=[source], specifier=">=2.8.3")) == ["2.8.3"]


def test_the_page_of_the_index_tells_hash_and_size(find, index, server):
    filename = "flash_attn-2.8.3.post2.tar.gz"
    index(
        "flash-attn",
        {"url": f"../../f/{filename}", "hashes": {"sha256": SHA256}, "size": 7, "requires-python": ">=3.9"},
    )
    (found,) = find("Flash_Attn")
    assert found == (
        *("flash-attn", "2.8.3.post2", filename, f"{server.url}/f/{filename}"),
        *(SHA256, 7, ">=3.9", INDEX_OF_PIP),
    )


def test_only_what_the_requirement_python_and_the_publisher_allow_is_found(find, index):
    index(
        "our-kernels",
        "our_kernels-1.0.tar.gz",
        "our_kernels-1.10.tar.gz",
        "our_kernels-1.9.zip",
        "our_kernels-1.9.tar.gz",
        "our_kernels-2.0rc1.tar.gz",
        {"url": "our_kernels-1.11.tar.gz", "hashes": {}, "yanked": "broken"},
        {"url": "our_kernels-1.12.tar.gz", "hashes": {}, "requires-python": ">=3.13"},
        {"url": "our_kernels-1.8.tar.gz", "hashes": {}, "requires-python": "nonsense"},
    )
    assert versions(find("our-kernels")) == ["1.10", "1.9", "1.9", "1.8", "1.0"]
    assert [sdist.filename[-6:] for sdist in find("our-kernels", "==1.9")] == ["tar.gz", ".9.zip"]
    assert versions(find("our-kernels", ">=2.0rc1")) == ["2.0rc1"]
    assert versions(find("our-kernels", python="3.13.0"))[0] == "1.12"


def test_a_page_of_thousands_of_files_is_read_in_either_form(find, index, server, pip_settings):
    names = [f"flash_attn-2.{number}.tar.gz" for number in range(3000)]
    wheels = [
        f"flash_attn-2.{number}-cp3{python}-cp3{python}-linux_x86_64.whl"
        for number in range(1000)
        for python in (11, 12)
    ]
    index("flash-attn", *names, *wheels)
    from_json = versions(find())
    assert (len(from_json), from_json[0]) == (3000, "2.2999")
    links = "".join(
        f'<a href="/files/{name}#sha256={SHA256}" data-requires-python="&gt;=3.9">x</a>' for name in names + wheels
    )
    server.serve_page("/html/flash-attn/", f"<html><body>{links}</body></html>")
    pip_settings(index_url=f"{server.url}/html")
    assert versions(find()) == from_json
    assert find()[0].requires_python == ">=3.9"


def test_all_indexes_of_pip_are_asked_and_one_that_has_no_such_package_does_no_harm(
    find, server, pip_settings, monkeypatch
):
    for root, version in (("one", "1.0"), ("two", "2.0")):
        server.serve_page(f"/{root}/our-kernels/", f'<a href="our_kernels-{version}.tar.gz">x</a>')
    pip_settings(index_url=f"{server.url}/none/", extra_index_url=f"{server.url}/one/\n    {server.url}/two")
    warnings = []
    assert versions(find("our-kernels", warnings=warnings)) == ["2.0", "1.0"]
    assert warnings == []
    assert find("other") == []
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{server.url}/one")
    assert versions(find("our-kernels")) == ["1.0"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    server.requests.clear()
    assert find("our-kernels") == []
    assert server.requests == []


def test_credentials_in_the_address_of_an_index_are_used_and_shown_nowhere(find, index, server, pip_settings, tmp_path):
    index("our-kernels", "our_kernels-1.0.tar.gz")
    server.authorization = "Basic dXNlcjpzZSRjcmV0L0A="
    pip_settings(index_url=f"{server.url.replace('//', '//user:se$cret%2F%40@')}/simple")
    (found,) = find("our-kernels")
    assert found.url == f"{server.url}/files/our_kernels-1.0.tar.gz"
    server.authorization = "Basic other"
    with pytest.raises(TorchExtensionError, match="401") as failure:
        find("our-kernels", access={"max_age": 0})
    texts = [str(failure.value), repr(found), *(path.read_text() for path in (tmp_path / "cache" / "api").iterdir())]
    assert not [text for text in texts if "cret" in text or "dXNlcj" in text]


def test_credentials_go_to_the_host_that_they_are_for_alone(find, server, pip_settings):
    with running_server() as other:
        other.serve_page("/simple/our-kernels/", '<a href="our_kernels-1.0.tar.gz">x</a>')
        server.redirect("/simple/our-kernels/", f"{other.url}/simple/our-kernels/")
        pip_settings(index_url=f"{server.url.replace('//', '//user:secret@')}/simple")
        assert versions(find("our-kernels")) == ["1.0"]
        assert "Authorization" in server.headers[0]
        assert "Authorization" not in other.headers[0]


def test_an_index_on_the_disk_is_read_as_pip_reads_it(find, pip_settings, tmp_path):
    sdist = build_sdist(tmp_path / "mirror" / "our-kernels", "our-kernels", "1.0")
    build_wheel(tmp_path / "mirror" / "our-kernels", "our-kernels", "1.0")
    page = f'<a href="{sdist.name}#sha256={sha256(sdist)}">x</a><a href="file:///etc/our_kernels-2.0.tar.gz">y</a>'
    (tmp_path / "mirror" / "our-kernels" / "index.html").write_text(page)
    pip_settings(index_url=f"file://{tmp_path}/mirror")
    newest, found = find("our-kernels")
    assert (found.url, found.sha256) == (sdist.as_uri(), sha256(sdist))
    assert newest.url == "file:///etc/our_kernels-2.0.tar.gz", "it is the operator's own page"
    assert find("other") == []


def test_a_page_from_the_network_leads_to_no_file_of_the_control_node(find, index):
    index("our-kernels", {"url": "file:///etc/our_kernels-2.0.tar.gz", "hashes": {}})
    assert find("our-kernels") == []


def test_the_certificate_is_the_one_that_pip_trusts(find, pip_settings, certificate):
    with running_server(tls_context(certificate)) as server:
        server.serve_page("/simple/our-kernels/", '<a href="our_kernels-1.0.tar.gz">x</a>')
        pip_settings(index_url=f"{server.url}/simple")
        with pytest.raises(TorchExtensionError, match="certificate of localhost is not trusted"):
            find("our-kernels")
        pip_settings(index_url=f"{server.url}/simple", cert=certificate)
        assert versions(find("our-kernels")) == ["1.0"]


def test_an_index_that_pip_would_not_ask_is_not_asked(find, pip_settings):
    pip_settings(index_url="http://index.example/simple")
    with pytest.raises(UnavailableError, match=r"index\.example/simple was not asked: .* trusted-host"):
        find("our-kernels")


def test_what_is_found_is_told_with_why_an_index_could_not_be_asked(find, index, server, pip_settings):
    index("our-kernels", "our_kernels-1.0.tar.gz")
    server.serve_body("/broken/our-kernels/", b"", status=403)
    pip_settings(index_url=f"{server.url}/simple", extra_index_url=f"{server.url}/broken")
    warnings = []
    assert versions(find("our-kernels", warnings=warnings)) == ["1.0"]
    assert len(warnings) == 1
    assert "403" in warnings[0]


def test_what_is_no_address_of_an_index_is_refused_without_showing_it(find, pip_settings):
    pip_settings(index_url="ftp://user:secret@index.example/simple")
    with pytest.raises(TorchExtensionError, match="index-url or extra-index-url") as failure:
        find("our-kernels")
    assert "secret" not in str(failure.value)


def test_the_index_of_a_pip_without_settings_is_its_own(find, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UnavailableError, match=r"/simple.*our-kernels|proxy 127\.0\.0\.1:9"):
        find("our-kernels")

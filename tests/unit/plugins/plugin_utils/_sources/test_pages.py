# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import multiprocessing
import threading

import limited
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from servers import running_server

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Answer, UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import pages

NAME = "flash_attn-2.8.3+cu126torch2.13-cp312-cp312-linux_x86_64.whl"
QUOTED = NAME.replace("+", "%2B")
SHA256 = "ab" * 32
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture
def wheels(tmp_path):
    def wheels(url, name="flash-attn", keeps_address=False, **options):
        found = pages.list_wheels(url, name, str(tmp_path / "cache"), **options)
        return found if keeps_address else [asset._replace(address=None) for asset in found]

    return wheels


def page(*links, head=""):
    return f"<!DOCTYPE html><html><head>{head}</head><body>{' '.join(links)}</body></html>"


def link(href, text="wheel", attributes=""):
    return f'<a href="{href}" {attributes}>{text}</a>'


def test_a_page_of_a_package_is_read(server, wheels):
    server.serve_page("/simple/flash-attn/", page(link(f"../../files/{QUOTED}#sha256={SHA256.upper()}", NAME)))
    expected = [Asset(NAME, f"{server.url}/files/{QUOTED}", None, SHA256)]
    assert wheels(f"{server.url}/simple/flash-attn/") == expected
    assert server.requests == ["/simple/flash-attn/"]


@pytest.mark.parametrize("root", ["/simple/", "/simple", "/root/pypi/+simple/", "/root/pypi/%2Bsimple"])
def test_for_the_root_of_an_index_only_the_page_of_the_package_is_requested(root, server, wheels):
    path = f"{root.rstrip('/')}/flash-attn/"
    server.serve_page(path, page(link(QUOTED)))
    assert wheels(server.url + root, "Flash_Attn")[0].filename == NAME
    assert server.requests == [path]


@pytest.mark.parametrize("href", ["flash-attn/", "/whl/cu126/flash-attn/", "Flash_Attn"])
def test_a_root_of_another_name_leads_to_the_page_of_the_package(href, server, wheels):
    server.serve_page("/whl/cu126/", page(link("torch/"), link(href), link("flash-attn-3/")))
    server.serve_page("/whl/cu126/flash-attn/", page(link(QUOTED)))
    server.serve_page("/whl/cu126/Flash_Attn", page(link(QUOTED)))
    assert wheels(f"{server.url}/whl/cu126/")[0].filename == NAME


def test_an_index_that_does_not_have_the_package_has_no_wheels_of_it(server, wheels):
    assert wheels(f"{server.url}/simple/") == []


def test_a_page_that_is_not_there_is_an_error(server, wheels):
    with pytest.raises(TorchExtensionError, match=r"no page at .*/wheels/ \(404\).*torch_extension_sources"):
        wheels(f"{server.url}/wheels/")


def test_hashes_sizes_and_yanked_files_are_read_from_the_json_of_an_index(server, wheels):
    other = NAME.replace("312", "311")
    files = [
        {"filename": NAME, "url": f"../../f/{QUOTED}", "hashes": {"sha256": SHA256, "md5": "0"}, "size": 7},
        {"filename": other, "url": f"http://b.example/{other}", "hashes": {}, "yanked": False},
        {"filename": "flash_attn-1-py3-none-any.whl", "url": "flash_attn-1-py3-none-any.whl", "yanked": "broken"},
        {"filename": "flash_attn-1.tar.gz", "url": "flash_attn-1.tar.gz", "hashes": {}},
        {"filename": "a", "url": "file:///etc/flash_attn-1-py3-none-any.whl", "hashes": {}},
    ]
    server.serve_page("/simple/flash-attn/", json.dumps({"meta": {"api-version": "1.1"}, "files": files}), JSON)
    assert wheels(f"{server.url}/simple/") == [
        Asset(NAME, f"{server.url}/f/{QUOTED}", 7, SHA256),
        Asset(other, f"http://b.example/{other.replace('+', '%2B')}"),
    ]
    assert server.headers[0]["Accept"].startswith(JSON)


def test_each_wheel_bears_the_address_of_its_page(server, wheels):
    server.serve_page("/whl/cu130/flash-attn/", page(link(f"http://files.example/{QUOTED}")))
    (found,) = wheels(f"{server.url}/whl/cu130/flash-attn/", keeps_address=True)
    assert found.address == f"{server.url}/whl/cu130/flash-attn/"


@pytest.mark.parametrize(
    ("attribute", "has_metadata", "sha256"),
    [
        (f'data-core-metadata="sha256={SHA256}"', True, SHA256),
        (f'data-dist-info-metadata="sha256={SHA256}"', True, SHA256),
        ('data-core-metadata="true"', True, None),
        ('data-core-metadata="false"', False, None),
        ('data-core-metadata=""', False, None),
        ("", False, None),
    ],
)
def test_a_page_tells_whether_metadata_lies_beside_a_wheel(attribute, has_metadata, sha256, server, wheels):
    server.serve_page("/w/", page(link(QUOTED, attributes=attribute)))
    (found,) = wheels(f"{server.url}/w/")
    assert (found.has_metadata, found.metadata_sha256) == (has_metadata, sha256)
    assert found.sha256 is None, "the hash of METADATA is not the wheel's"


@pytest.mark.parametrize(
    ("fields", "has_metadata", "sha256"),
    [
        ({"core-metadata": {"sha256": SHA256}}, True, SHA256),
        ({"core-metadata": True}, True, None),
        ({"dist-info-metadata": {"sha256": SHA256}}, True, SHA256),
        ({"core-metadata": False}, False, None),
        ({}, False, None),
    ],
)
def test_so_does_the_json_of_an_index(fields, has_metadata, sha256, server, wheels):
    files = [{"filename": NAME, "url": QUOTED, "hashes": {}, **fields}]
    server.serve_page("/simple/flash-attn/", json.dumps({"meta": {"api-version": "1.4"}, "files": files}), JSON)
    (found,) = wheels(f"{server.url}/simple/")
    assert (found.has_metadata, found.metadata_sha256, found.sha256) == (has_metadata, sha256, None)


@pytest.mark.parametrize("plus", ["+", "%2B"])
def test_a_plus_in_the_address_of_a_page_is_sent_as_it_is_written(plus, server, wheels):
    path = f"/whl/torch-2.12.0{plus}cu130"
    server.serve_page(f"{path}.html", page(link(f"torch-2.12.0+cu130/{QUOTED}")))
    (found,) = wheels(f"{server.url}{path}.html")
    assert server.requests == [f"{path}.html"]
    assert found.url == f"{server.url}/whl/torch-2.12.0%2Bcu130/{QUOTED}"


def test_the_json_of_a_root_leads_to_the_page_of_the_package(server, wheels):
    server.serve_page("/pypi", json.dumps({"projects": [{"name": "torch"}, {"name": "Flash_Attn"}]}), JSON)
    server.serve_page("/pypi/flash-attn/", page(link(QUOTED)))
    assert wheels(f"{server.url}/pypi")[0].filename == NAME


def test_yanked_files_are_left_out(server, wheels):
    server.serve_page(
        "/w/", page(link(QUOTED, attributes="data-yanked"), link(QUOTED, attributes='data-yanked="broken"'))
    )
    assert wheels(f"{server.url}/w/") == []


LISTINGS = {
    "nginx": f'<h1>Index of /w/</h1><hr><pre><a href="../">../</a>\n<a href="{NAME}">{NAME[:47]}..&gt;</a> 1-Jan 5\n</pre>',
    "apache": '<table><tr><th><a href="?C=N;O=D">Name</a></th></tr><tr><td><a href="/">Parent Directory</a></td></tr>'
    f'<tr><td><a href="{QUOTED}">{NAME[:20]}..&gt;</a></td></tr></table>',
    "python": f'<ul><li><a href="{QUOTED}">{NAME}</a></li><li><a href="sub/">sub/</a></li></ul>',
    "upper case": f'<A HREF="{QUOTED}">x</A>',
    "absolute": f'<a href="/w/{QUOTED}">x</a>',
    "base": f'<base href="/w/"><base href="/no/"><a href="{QUOTED}">x</a>',
    "spaces": f'<a href=" {QUOTED}\n">x</a>',
    "rubbish": f'<a><a href="">x</a><a href="http://[">y</a><a href="mailto:a@b">z</a></p><a href="{QUOTED}">x',
}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_a_plain_listing_is_read_by_its_links(listing, server, wheels):
    server.serve_page("/w/", listing)
    assert wheels(f"{server.url}/w/") == [Asset(NAME, f"{server.url}/w/{QUOTED}")]


def test_the_listing_of_a_real_server_is_read(tmp_path, wheels):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / NAME).write_bytes(b"wheel")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        (found,) = wheels(f"http://127.0.0.1:{httpd.server_port}/")
        assert requests.get(found.url, timeout=10).content == b"wheel"
        httpd.shutdown()
    assert found.filename == NAME


def test_wheels_of_other_packages_are_left_out(server, wheels):
    three = "flash_attn_3-3.0.0+cu128torch2.9gite2743ab-cp39-abi3-linux_x86_64.whl"
    server.serve_page(
        "/w/", page(link(QUOTED), link(three), link("torch-2.8.0-cp312-cp312-linux_x86_64.whl"), link("a.whl"))
    )
    assert [asset.filename for asset in wheels(f"{server.url}/w/")] == [NAME]
    assert [asset.filename for asset in wheels(f"{server.url}/w/", "flash_attn_3")] == [three]
    assert len(server.requests) == 1, "the page is kept for all packages"


def test_a_url_loses_its_fragment_and_keeps_its_query(server, wheels):
    server.serve_page(
        "/w/", page(link(f"http://s3.example/{NAME}?sig=a+b#egg=x&sha256={SHA256}".replace("&", "&amp;")))
    )
    assert wheels(f"{server.url}/w/") == [Asset(NAME, f"http://s3.example/{QUOTED}?sig=a+b", None, SHA256)]


@pytest.mark.parametrize("href", ["file:///w/" + NAME, "ftp://a.example/" + NAME, "//[/" + NAME, "data:" + NAME])
def test_links_that_are_not_http_are_left_out(href, server, wheels):
    server.serve_page("/w/", page(link(href)))
    assert wheels(f"{server.url}/w/") == []


def test_relative_links_of_a_redirected_page_start_from_its_new_url(server, wheels):
    server.redirect("/w", "/there/w/?page=1")
    server.serve_page("/there/w/?page=1", page(link(QUOTED)))
    assert wheels(f"{server.url}/w")[0].url == f"{server.url}/there/w/{QUOTED}"


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("<form><input name=u><input type='Password'></form>", "text/html"),
        ("<ListBucketResult/>", "application/xml"),
        ("{}", JSON),
        ("nonsense", JSON),
        ("7", JSON),
        ('{"files": [{"url": 7}]}', JSON),
    ],
)
def test_a_page_that_is_no_listing_is_reported_and_the_cached_answer_serves(
    text, content_type, server, wheels, tmp_path
):
    server.serve_page("/w/", text, content_type)
    with pytest.raises(UnavailableError, match=r"is no answer: .*torch_extension_sources"):
        wheels(f"{server.url}/w/")
    for path in (tmp_path / "cache" / "api").glob("*.failure"):
        path.unlink()
    server.serve_page("/w/", page(link(QUOTED)))
    found = wheels(f"{server.url}/w/")
    server.handlers["/w/"] = None
    server.serve_page("/w/", text, content_type)
    warnings = []

    def no_etag(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    server.handlers["/w/"] = no_etag
    assert wheels(f"{server.url}/w/", max_age=0, warnings=warnings) == found
    assert len(warnings) == 1
    assert "is known as it was 0 seconds ago" in warnings[0]


def test_while_a_server_is_down_the_cached_answer_serves(wheels):
    with running_server() as server:
        server.serve_page("/w/", page(link(QUOTED)))
        found = wheels(f"{server.url}/w/")
    warnings = []
    assert wheels(f"{server.url}/w/", max_age=0, warnings=warnings) == found
    assert wheels(f"{server.url}/w/", max_age=0, warnings=warnings) == found
    assert "cannot be downloaded" in warnings[0]
    assert "torch_extension_sources" in warnings[0]
    assert len(warnings) == 1


def test_credentials_in_netrc_are_sent_to_a_page(tls_server, wheels, home):
    tls_server.serve_body("/w/", b"", 401)
    with pytest.raises(TorchExtensionError, match=r"HTTP status 401.*netrc"):
        wheels(f"{tls_server.url}/w/")
    (home / ".netrc").write_text("machine localhost login me password secret\n")
    tls_server.serve_page("/x/", page(link(QUOTED)))
    assert wheels(f"{tls_server.url}/x/")
    assert tls_server.headers[-1]["Authorization"] == requests.auth._basic_auth_str("me", "secret")


def test_credentials_in_the_url_are_refused_and_not_shown(wheels):
    with pytest.raises(TorchExtensionError, match=r"torch_extension_sources holds credentials.*netrc") as refusal:
        wheels("https://me:hunter2@a.example/simple/")
    assert "hunter2" not in str(refusal.value)


def test_credentials_in_a_link_are_not_passed_on(server, wheels):
    server.serve_page("/w/", page(link(f"http://me:hunter2@a.example/{QUOTED}")))
    assert wheels(f"{server.url}/w/") == [Asset(NAME, f"http://a.example/{QUOTED}")]


@pytest.mark.parametrize("inner", ["https://wheels.example", "https:/wheels.example"])
@pytest.mark.parametrize(
    "href",
    [
        "{mirror}/{inner}/whl/cu130/" + NAME,
        "/{inner}/whl/cu130/" + QUOTED,
        "../" + NAME,
        "./../../cu130/" + QUOTED,
    ],
)
def test_an_address_within_the_path_of_a_url_is_kept_as_it_is_written(href, inner, server, wheels):
    """As with https://mirror.example/https://github.com/…, of which a server that merges slashes makes https:/github.com."""
    root = f"/{inner}/whl/cu130/"
    href = href.format(mirror=server.url, inner=inner)
    server.serve_page(root, page(link("flash-attn/")))
    server.serve_page(f"{root}flash-attn/", page(link(href)))
    (asset,) = wheels(server.url + root)
    assert (asset.filename, asset.url) == (NAME, f"{server.url}/{inner}/whl/cu130/{QUOTED}")
    server.serve_page(f"{root}flash-attn/", json.dumps({"files": [{"url": href}]}), JSON)
    assert wheels(server.url + root, max_age=0) == [asset]
    assert server.requests == [root, f"{root}flash-attn/"] * 2


def ask(url, cache, start):
    start.wait()
    raise SystemExit(len(pages.list_wheels(url, "flash-attn", cache)) != 1)


def test_many_processes_that_ask_at_once_make_one_request(server, tmp_path):
    server.serve_page("/w/", page(link(QUOTED)))
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(5)
    processes = [
        fork.Process(target=ask, args=(f"{server.url}/w/", str(tmp_path / "cache"), start)) for _process in range(5)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 5
    assert server.requests == ["/w/"]


# Hostile pages

GOOD = Asset(NAME, "{url}/w/" + QUOTED)
ODD_LINKS = {
    "a name of 5,000 digits": f"flash_attn-{'9' * 5000}-cp312-cp312-linux_x86_64.whl",
    "a name of 3,000 digits": f"flash_attn-{'9' * 3000}-cp312-cp312-linux_x86_64.whl",
    "a build of many digits": f"flash_attn-1-{'9' * 150}-cp312-cp312-linux_x86_64.whl",
    "a version of many digits": f"flash_attn-{'9' * 100}-cp312-cp312-linux_x86_64.whl",
    "a label of many digits": f"flash_attn-1+{'9' * 100}-cp312-cp312-linux_x86_64.whl",
    "a character reference of 5,000 digits": f"&#{'9' * 5000};flash_attn-1-py3-none-any.whl",
    "a slash": "..%2F..%2Fflash_attn-1-py3-none-any.whl",
    "an escape": "flash_attn-1%1B[31m-py3-none-any.whl",
    "no address": "http://[bad/flash_attn-1-py3-none-any.whl",
    "no port": "http://a:b/flash_attn-1-py3-none-any.whl",
    "a long host": f"http://{'a' * 70}.example/flash_attn-1-py3-none-any.whl",
}


@pytest.mark.parametrize("href", ODD_LINKS.values(), ids=ODD_LINKS)
@pytest.mark.parametrize("form", ["html", "json"])
def test_a_link_that_no_page_should_have_does_not_hide_the_good_one_beside_it(form, href, server, wheels, environment):
    links = [href, QUOTED, href]
    if form == "html":
        server.serve_page("/w/", page(*map(link, links)))
    else:
        files = [{"url": each, "hashes": {"sha256": 7 * (each != QUOTED)}} for each in links]
        server.serve_page("/w/", json.dumps({"files": files}), JSON)

    def judged():
        found = wheels(f"{server.url}/w/")
        return found, judging.judge_wheels("flash-attn", found, environment)

    found, judgement = limited.run(judged, seconds=5, mebibytes=256)
    assert GOOD._replace(url=GOOD.url.format(url=server.url)) in found
    assert NAME in [candidate.asset.filename for candidate in judgement.candidates]
    assert all(
        len(asset.filename) <= 200 and "/" not in asset.filename and "\x1b" not in asset.filename for asset in found
    )


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1e999", "true", '"7"', "[]", "NaN"])
def test_a_size_that_is_none_is_left_out(size, server, wheels):
    server.serve_page("/w/", f'{{"files": [{{"url": "{QUOTED}", "size": {size}}}]}}', JSON)
    assert [asset.size for asset in wheels(f"{server.url}/w/")] == [None]


@pytest.mark.parametrize("unit", ["{},", "[],", '"",', "0,", '{"a":0},', "[" * 50, '"ab",', "0.5,", '{"files":'])
def test_json_of_any_kind_is_read_in_bounded_time_and_memory(unit):
    body = b'{"files": [' + unit.encode() * ((64 << 20) // len(unit)) + b"0]}"

    def read():
        with pytest.raises(ValueError, match="JSON"):
            pages._parse_page(Answer("http://a.example/", JSON, None, body))

    limited.run(read, seconds=20, mebibytes=1024)


def test_a_page_that_is_too_large_is_an_error_in_time():
    answer = Answer("http://a.example/", "text/html", None, b"<a x=" * (4 << 20))

    def read():
        with pytest.raises(ValueError, match=r"more than 16 MiB of HTML; wanted is .* the page of the package itself"):
            pages._parse_page(answer)

    limited.run(read, seconds=2, mebibytes=64)


@pytest.mark.parametrize("unit", ["<a x=", '<a href="x/">', '<a href="http://[">', f'<a href="{NAME}">'])
def test_a_page_is_read_in_time(unit, server, wheels):
    server.serve_page("/w/", unit * ((1 << 20) // len(unit)))
    limited.run(lambda: len(wheels(f"{server.url}/w/")), seconds=20, mebibytes=512)


@pytest.mark.parametrize("form", ["html", "json"])
def test_a_page_of_more_files_than_any_package_has_is_an_error(form, server, wheels, monkeypatch):
    monkeypatch.setattr(pages, "_MAX_FILES", 3)
    for number, fits in ((3, True), (4, False)):
        hrefs = [NAME.replace("2.8.3", f"2.8.{each}") for each in range(number)]
        text = page(*map(link, hrefs)) if form == "html" else json.dumps({"files": [{"url": each} for each in hrefs]})
        server.serve_page(f"/{number}/", text, "text/html" if form == "html" else JSON)
        if fits:
            assert len(wheels(f"{server.url}/{number}/")) == number
        else:
            with pytest.raises(UnavailableError, match="is no answer: it "):
                wheels(f"{server.url}/{number}/")


LINK_PARTS = st.lists(
    st.sampled_from(
        [*"/:@?#[]%&;=+.-_19aZ ", "http", "https:", "//", "file:", ".whl", "flash_attn-", "\ue000", "\xff"]
    ),
    max_size=12,
)


@pytest.mark.parametrize("form", ["html", "json"])
def test_whatever_a_page_links_to_the_good_wheel_is_found(form):
    def answer_with(hrefs):
        if form == "html":
            return Answer("http://a.example/w/", "text/html", None, page(*map(link, hrefs)).encode())
        return Answer(
            "http://a.example/w/", JSON, None, json.dumps({"files": [{"url": href} for href in hrefs]}).encode()
        )

    @given(st.lists(LINK_PARTS.map("".join), max_size=5))
    def check(hrefs):
        found = pages._parse_page(answer_with([*hrefs, QUOTED])).files
        assert NAME in [asset.filename for asset in found]

    limited.check_property(check)


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text("a/:[\xe9\0", max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                ["files", "projects", "url", "hashes", "sha256", "size", "yanked", "name", "core-metadata", "meta"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def test_any_json_is_a_page_or_none():
    @given(JSON_VALUES)
    def check(value):
        for whole in (value, {"files": [value]}, {"projects": [value]}):
            with contextlib.suppress(ValueError):
                pages._parse_page(Answer("http://a.example/w/", JSON, None, json.dumps(whole).encode()))

    limited.check_property(check)

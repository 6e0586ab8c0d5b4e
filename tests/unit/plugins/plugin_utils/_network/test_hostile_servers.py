# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that do not get to an end, or send what no server should: every way in which the control node asks ends in an error in words."""

from __future__ import annotations

import ast
import gzip
import re
import time
import zlib
from pathlib import Path

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_servers import flood, raw_server, send, trickle
from urllib3.util import Retry

from ansible_collections.airgap.torch_extensions.plugins import plugin_utils
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import upload
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.upload import Uploader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import (
    bodies,
    bounded_session,
    http_client,
    http_session,
    transfer,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import RemoteFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import RetryPolicy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import pages
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub

NAME = "flash_attn-2.8.3+cu12torch2.6cxx11abiFALSE-py3-none-any.whl"
OK = b"HTTP/1.1 200 OK\r\n"
PAGE = OK + b"Content-Type: text/html\r\n"
PATIENCE = 20  # seconds, in which a machine with much else to do gets through what takes two
DIGITS = b"9" * 5000


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)
    monkeypatch.setattr(http_session, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "LIMIT", Limit(0.5, 1000, total_seconds=5))
    monkeypatch.setattr(upload, "_TIMEOUTS", (0.5, 0.5))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def ways(cache, tmp_path):
    """All ways to ask a server, each with what it asks."""

    def download(url):
        policy = RetryPolicy(timeout=0.5, pace=Limit(0.5, 1000), max_retries=1, backoff=0)
        return Downloader(str(cache / "wheels"), retry_policy=policy).get(f"{url}/{NAME}", NAME, "0" * 64)

    def put(url):
        path = tmp_path / NAME
        path.write_bytes(b"wheel")
        return Uploader(url, None).upload(File(str(path), "0" * 64))

    return {
        "page": lambda url: pages.list_wheels(f"{url}/w/", "flash-attn", str(cache)),
        "api": lambda url: GitHub(url, cache=str(cache)).list_release("a/b", "v1"),
        "file": download,
        "part": lambda url: RemoteFile(f"{url}/{NAME}"),
        "upload": put,
    }


WAYS = ["page", "api", "file", "part", "upload"]


def refusal(way, url):
    """In what words a server is given up, and that it does not take long."""
    begun = time.monotonic()
    with pytest.raises(TorchExtensionError) as raised:
        way(url)
    assert time.monotonic() - begun < PATIENCE
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 2000
    return message


@pytest.mark.parametrize(
    "answer",
    [
        trickle(b"HTTP/1.1 200 OK "),
        trickle(b"X-A: b\r\n", OK),
        trickle(b"a", OK + b"X-A: "),
        trickle(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["status", "headers", "one header", "continue"],
)
@pytest.mark.parametrize("name", WAYS)
def test_a_head_that_trickles_is_not_waited_for(name, answer, ways):
    with raw_server(answer) as server:
        assert re.search(
            "no answer came in 1 s|got more than|timed out|Connection aborted", refusal(ways[name], server.url)
        )


@pytest.mark.parametrize(
    "answer",
    [
        trickle(b"a", PAGE + b"Content-Length: 100000\r\n\r\n"),
        trickle(b"a", PAGE + b"\r\n"),
        trickle(b"0", PAGE + b"Transfer-Encoding: chunked\r\n\r\n"),
        trickle(b"1\r\na\r\n", PAGE + b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["length", "no length", "size of a chunk", "chunks"],
)
def test_a_body_that_trickles_is_not_waited_for(answer, ways):
    with raw_server(answer) as server:
        assert "less than 1000 bytes were transferred in 0 s" in refusal(ways["page"], server.url)


@pytest.mark.parametrize("name", ["file", "part"])
def test_a_file_that_trickles_is_not_waited_for(name, ways):
    head = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99999/100000\r\nContent-Length: 100000\r\n\r\nPK\3\4"
    )
    with raw_server(trickle(b"a", head if name == "part" else OK + b"\r\nPK\3\4")) as server:
        assert "less than 1000 bytes were transferred in 0 s" in refusal(ways[name], server.url)


def test_one_byte_for_each_connection_is_no_progress(ways):
    sent = []

    def answer(line, over):
        sent.append(1)
        line.sendall(OK + b'ETag: "1"\r\nContent-Length: 100000\r\n\r\n' + b"PK\3\4"[: len(sent)])

    with raw_server(answer) as server:
        refusal(ways["file"], server.url)
        assert server.requests == 2, "one retry"


@pytest.mark.parametrize("name", WAYS)
def test_tls_that_is_not_agreed_on_is_not_waited_for(name, ways, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with raw_server(trickle(b"\0", b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"), reads=False) as server:
        refusal(ways[name], server.url.replace("http:", "https:"))


def test_a_proxy_that_does_not_connect_is_not_waited_for(ways):
    with raw_server(trickle(b"X-A: b\r\n", b"HTTP/1.1 200 OK\r\n")) as proxy, use_proxy(proxy.url):
        refusal(ways["page"], "https://far.example")


def test_an_upload_that_nobody_takes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_session, "PACE", Limit(0.5, 1000))
    monkeypatch.setattr(upload, "_TIMEOUTS", (5, 30))
    path = tmp_path / NAME
    with open(path, "wb") as file:
        file.truncate(64 << 20)

    def answer(line, over):
        line.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        while line.recv(1) and not over.wait(0.02):  # the body, byte by byte
            pass

    with raw_server(answer) as server:
        words = refusal(lambda url: Uploader(url, None).upload(File(str(path), "0" * 64)), server.url)
        assert "less than 1000 bytes were transferred in 0 s" in words


# Without an end


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_endless_body_does_not_fill_the_memory(packed, ways, monkeypatch):
    monkeypatch.setattr(http_client, "_MAX_BODY", 4 << 20)
    unit, head = b"<a>", PAGE + b"\r\n"
    if packed:
        packer = zlib.compressobj(wbits=31)
        head = (
            PAGE + b"Content-Encoding: gzip\r\n\r\n" + packer.compress(b"<a>" * 1000) + packer.flush(zlib.Z_SYNC_FLUSH)
        )
        unit = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    with raw_server(flood(unit, head)) as server:
        words = limited.run(lambda: refusal(ways["page"], server.url), seconds=10, mebibytes=512)
    assert "gives more than 4 MiB, which is no list of wheels" in words


@pytest.mark.parametrize("status", [302, 307, 500, 503])
@pytest.mark.parametrize("name", WAYS)
def test_a_body_that_nobody_wants_is_not_read(name, status, ways):
    """Of a redirect, and of an answer that is asked for again."""
    head = f"HTTP/1.1 {status} Some\r\nLocation: /again\r\nContent-Encoding: gzip\r\n\r\n".encode()
    with raw_server(flood(gzip.compress(bytes(1 << 20)), head)) as server:
        limited.run(lambda: refusal(ways[name], server.url), seconds=10, mebibytes=512)


def test_a_file_without_an_end_ends_where_it_is_as_large_as_any_may_be(ways, cache, monkeypatch):
    monkeypatch.setattr(transfer, "_MAX_SIZE", 8 << 20)
    with raw_server(flood(b"PK\3\4", OK + b"\r\n")) as server:
        assert f"has more than {8 << 20} bytes" in refusal(ways["file"], server.url)
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_an_answer_that_is_gzip_is_unpacked(ways, server):
    text = f'<a href="{NAME}">'.encode()

    def answer(handler):
        assert handler.headers["Accept-Encoding"] == "gzip"
        body = gzip.compress(text) + gzip.compress(b"</a>")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.handlers["/w/"] = answer
    assert [asset.filename for asset in ways["page"](server.url)] == [NAME]


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        (b"gzip", b"<a>", "it is said to be gzip, and is not"),
        (b"gzip", gzip.compress(b"<a>")[:-9], "it is cut off in its gzip"),
        (b"br", b"x", "it came with Content-Encoding 'br', wanted is gzip, or none"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"<a>")), "it came with Content-Encoding 'gzip, gzip'"),
    ],
    ids=["no gzip", "cut gzip", "br", "gzip twice"],
)
def test_an_answer_in_another_encoding_is_an_error(encoding, body, words, ways):
    with raw_server(send(PAGE + b"Content-Encoding: " + encoding + b"\r\n\r\n" + body)) as server:
        assert words in refusal(ways["page"], server.url)


# What no server should send

ODD_HEADS = {
    "length": OK + b"Content-Length: " + DIGITS + b"\r\n\r\nx",
    "lengths": OK + b"Content-Length: 1, 2\r\n\r\nx",
    "negative length": OK + b"Content-Length: -5\r\n\r\nx",
    "superscript length": OK + "Content-Length: \xb2\r\n\r\nx".encode("latin-1"),
    "retry-after": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: " + DIGITS + b"\r\n\r\n",
    "retry-after of a limit": b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\nRetry-After: " + DIGITS + b"\r\n\r\n",
    "rate limit": b"HTTP/1.1 403 No\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: " + DIGITS + b"\r\n\r\n",
    "location": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[bad\r\n\r\n",
    "location with a bad port": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://a:b/\r\n\r\n",
    "location of another kind": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: file:///etc/passwd\r\n\r\n",
    "location with a long label": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://"
    + b"a" * 70
    + b".b/\r\n\r\n",
    "location that is no text": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: \xff\xfe\x00\r\n\r\n",
    "circle": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /again\r\n\r\n",
    "chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "huge chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\nabc",
    "cut chunk": OK + b"Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "charset": OK + b"Content-Type: text/html; charset=no-such-thing\r\nContent-Length: 3000\r\n\r\nx",
    "range": b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-" + DIGITS + b"/" + DIGITS + b"\r\n\r\nx",
    "status": b"HTTP/1.1 " + DIGITS + b" OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "no http": b"SSH-2.0-x\r\n",
    "nothing": b"",
    "many headers": OK + b"A: b\r\n" * 200 + b"\r\n",
    "long header": OK + b"A: " + b"b" * 70000 + b"\r\n\r\n",
    "header without a name": OK + b": b\r\n\r\n",
    "link": OK + b'Content-Type: application/json\r\nLink: <http://[bad>; rel="next"\r\nContent-Length: 2\r\n\r\n[]',
    "etag and date": OK
    + b'ETag: "\xff\r\nDate: '
    + DIGITS
    + b"\r\nLast-Modified: Mon, 99 Xyz "
    + DIGITS
    + b"\r\n\r\nx",
}


@pytest.mark.parametrize("head", ODD_HEADS.values(), ids=ODD_HEADS)
@pytest.mark.parametrize("name", WAYS)
def test_an_answer_that_no_server_should_give_is_an_error_in_words(name, head, ways):
    with raw_server(send(head)) as server:
        limited.run(lambda: ended(ways[name], server.url), seconds=10, mebibytes=512)


def ended(way, url):
    """Whether a server was asked, or in what words it was given up."""
    try:
        way(url)
    except TorchExtensionError as exc:
        assert "\n" not in str(exc)
        return False
    return True


HEADER_NAMES = (
    *(
        "Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Location",
        "Retry-After",
        "ETag",
        "Link",
    ),
    *("Content-Range", "Last-Modified", "Date", "Set-Cookie", "X-RateLimit-Reset", "X-RateLimit-Remaining"),
)
HEADER_VALUES = st.one_of(
    st.sampled_from(
        [
            "0",
            "5",
            "-1",
            "9" * 5000,
            "1e9",
            "chunked",
            "gzip",
            "text/html",
            "application/json",
            "http://[",
            "http://a:99999/",
            "//",
        ]
    ),
    st.sampled_from(
        [
            "bytes 0-5/6",
            "bytes 0-5/*",
            'W/"1"',
            '"1"',
            "0",
            "Mon, 31 Feb 2026 00:00:00 GMT",
            "a=b; Max-Age=" + "9" * 500,
        ]
    ),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=60),
)


@pytest.mark.parametrize("name", WAYS)
def test_whatever_a_server_answers_ends_in_an_error_in_words(name, ways):
    current = [b""]

    def answer(line, over):
        line.sendall((line.recv(1 << 20, 0x2) and b"") or b"")
        line.sendall(current[0])

    seen = set()

    # the server runs in the parent, so what it sends stands in the path of a file
    @given(
        st.sampled_from([200, 200, 206, 301, 302, 304, 401, 403, 404, 407, 416, 429, 503]),
        st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_VALUES), max_size=5),
        st.binary(max_size=60),
    )
    def check(status, headers, body):
        head = f"HTTP/1.1 {status} Some\r\n".encode()
        head += b"".join(f"{key}: {value}\r\n".encode("latin-1") for key, value in headers)
        with raw_server(send(head + b"\r\n" + body)) as server:
            seen.add(ended(ways[name], server.url))

    assert False in limited.check_property(check, seconds=10, mebibytes=4096, patience=300, result=lambda: sorted(seen))


# The kind


_MAKES_CONNECTIONS = re.compile(
    r"requests\.(\w+\.)?(Session|get|head|post|put|request)|[\w.]*\b(urlopen|urlretrieve|HTTPS?Connection|PoolManager|create_connection"
    r"|open_url|fetch_url|get_netrc_auth)|netrc\.netrc|[\w.]*request\.build_opener"
)
_IS_OF_THE_NETWORK = re.compile(r"\b(requests|urllib3?|http\.client|socket|netrc|ansible\.module_utils\.urls)\b")
_IS_CONNECTION = re.compile(r"[\w.]*\b(Session|HTTPAdapter|HTTPS?Connection|HTTPS?Handler)")


def test_there_is_one_place_that_makes_connections():
    """All else asks it for a session, which bounds them and knows what credentials go where."""
    found = set()
    root = Path(next(iter(plugin_utils.__path__))).parent
    for path in root.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if _IS_OF_THE_NETWORK.search(text) else ():
            is_call = isinstance(node, ast.Call) and _MAKES_CONNECTIONS.fullmatch(ast.unparse(node.func))
            bases = node.bases if isinstance(node, ast.ClassDef) else ()
            if is_call or any(_IS_CONNECTION.fullmatch(ast.unparse(base)) for base in bases):
                found.add(str(path.relative_to(root)))
    assert found == {
        "plugin_utils/_network/bounded_session.py",
        "module_utils/_delivery/server.py",
        "module_utils/_delivery/credentials.py",
    }


def test_nothing_has_requests_or_urllib3_unpack_what_a_server_sends():
    """They unpack as much as there is, urllib3 up to version 2.5 even where it is asked for less."""
    root = Path(next(iter(plugin_utils.__path__))).parent
    unpacking = re.compile(r"\.iter_(content|lines)\b|\b(response|answer)\.(content|text|json)\b|decode_content=True")
    assert [path.name for path in root.rglob("*.py") if unpacking.search(path.read_text())] == []

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""METADATA of wheels on a real server, read by ranged requests."""

from __future__ import annotations

import base64
import re
import struct
import time
import zipfile

import pytest
from servers import running_server
from urllib3.util import Retry
from wheels import build_wheel, write_zip

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import remote_zip
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import RemoteFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.metadata import MetadataReader

BLOCK = 128 << 10
TAGS = "cp311-cp311-linux_x86_64"
NAME = f"flash_attn-2.8.3-{TAGS}.whl"
#: bytes that no compression makes smaller
NOISE = bytes((number * number * 31 + number // 255) % 251 for number in range(1 << 20))


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


@pytest.fixture
def make_wheel(tmp_path):
    """Makes a wheel that requires torch 2.2, of a size. Returns its bytes."""

    def make(extra=(), requires=("torch==2.2.*",), metadata_last=False):
        built = build_wheel(tmp_path / "made", version="2.8.3", tags=TAGS, requires=requires, extra=extra)
        if metadata_last:
            return built.read_bytes()
        with zipfile.ZipFile(built) as archive:  # METADATA in front: as far from the directory as can be
            members = [(name, archive.read(name)) for name in archive.namelist()]
        members.sort(key=lambda member: not member[0].endswith("/METADATA"))
        path = tmp_path / "sorted.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content)
        return path.read_bytes()

    return make


@pytest.fixture
def hold(environment, tmp_path):
    """Holds a wheel at a URL against its METADATA: what torch it requires, and what was wrong."""

    def hold(url):
        asset = judging.Asset(NAME, url)
        (candidate,) = judging.judge_wheels("flash-attn", [asset], environment).candidates
        held = MetadataReader(SourceAccess(str(tmp_path / "cache")), environment).hold_against(candidate)
        return held.required_torch, held.unread or None

    return hold


def sent_sizes(server):
    """How many bytes each answer had, once the server has written that down."""
    end = time.monotonic() + 5
    while not server.sent_sizes and time.monotonic() < end:
        time.sleep(0.01)
    return server.sent_sizes


def many_members(number):
    return [(f"flash_attn/ops/a_file_with_a_long_name_of_some_kernel_{index:06}.py", b"") for index in range(number)]


@pytest.mark.parametrize(
    ("extra", "requests"),
    [
        ([], 1),  # all of it in one block
        ([("lib.so", NOISE[: BLOCK // 2])], 1),
        ([("lib.so", NOISE[:BLOCK])], 2),  # METADATA is just before the last block
        ([("lib.so", NOISE)], 2),
        ([("lib.so", NOISE), *many_members(2000)], 3),  # a directory that is larger than a block
        (many_members(9000), 14),
    ],
)
def test_of_a_wheel_only_the_blocks_with_its_directory_and_metadata_are_read(extra, requests, server, make_wheel, hold):
    content = make_wheel(extra)
    assert hold(server.serve_file(f"/{NAME}", content)) == ("torch==2.2.*", None)
    ranges = [headers["Range"] for headers in server.headers]
    assert ranges[0] == f"bytes=-{BLOCK}"
    assert len(ranges) <= requests
    assert len(set(ranges)) == len(ranges), "what was read once is kept"
    assert max(sent_sizes(server)) <= BLOCK


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7])
def test_a_file_of_any_size_is_the_one_on_the_server(size, server):
    content = (NOISE * (size // len(NOISE) + 1))[:size]
    with RemoteFile(server.serve_file("/file", content)) as file:
        assert file.read() == content
        assert file.read(1) == b""
        for start, length in ((0, 3), (size // 2, size), (size - 1, 9), (BLOCK - 1, BLOCK + 2)):
            file.seek(start)
            assert file.read(length) == content[start : start + length]
            assert file.tell() == max(start, min(start + length, size))
        file.seek(-1, 2)
        assert file.read() == content[-1:]


def answer(server, status, body, length=None, **headers):
    """Answer every request alike."""

    def respond(handler):
        handler.send_response_only(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    server.handlers[f"/{NAME}"] = respond
    return f"{server.url}/{NAME}"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "gives no part of a file, only the whole"),
        (404, "does not exist (404)."),
        (416, "HTTP status 416"),
        (403, "HTTP status 403"),
        (503, "HTTP status 503"),
    ],
)
def test_a_server_that_gives_no_part_of_a_file_leaves_the_wheel_as_it_is(status, words, server, make_wheel, hold):
    required, failure = hold(answer(server, status, make_wheel()))
    assert required == ""
    assert words in failure


def test_of_a_server_that_ignores_ranges_the_file_is_not_read(server, hold):
    taken = []

    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 34))
        handler.end_headers()
        try:
            while sum(taken) < 1 << 28:
                taken.append(handler.wfile.write(bytes(1 << 20)))
        except OSError:
            pass

    server.handlers[f"/{NAME}"] = respond
    assert "only the whole" in hold(f"{server.url}/{NAME}")[1]
    assert sum(taken) < 1 << 26


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes */900",
        "bytes 0-899/*",
        "bytes 0-899",
        "items 0-899/900",
        "bytes 0-898/900",  # fewer than came
        "bytes 0-900/901",  # more than came
        "bytes 0-899/800",  # beyond the end
        "bytes 0-899/901",  # not the end
        "bytes 899-0/900",
        "bytes 1-900/901",  # the end of a larger file, whose beginning is never given
        f"bytes 0-{'9' * 30}/{'9' * 31}",
    ],
)
def test_a_false_content_range_is_told_from_a_true_one(content_range, server, make_wheel, hold):
    content = make_wheel()[:900].ljust(900)
    required, failure = hold(answer(server, 206, content, Content_Range=content_range))
    assert required == ""
    assert "gave other bytes than were asked for" in failure or "is not a wheel" in failure


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body, told: (body[:-9], len(body), told), "IncompleteRead"),  # the line is cut
        (lambda body, told: (body[:-9], len(body) - 9, told), "other bytes"),
        (lambda body, told: (body + b"and more", len(body) + 8, told), "other bytes"),
        (lambda body, told: (body + bytes(BLOCK), len(body) + BLOCK, told), "other bytes"),
    ],
)
def test_more_or_fewer_bytes_than_are_told_are_refused(change, words, server, make_wheel, hold):
    content = make_wheel()
    body, length, told = change(content, f"bytes 0-{len(content) - 1}/{len(content)}")
    required, failure = hold(answer(server, 206, body, length, Content_Range=told))
    assert required == ""
    assert words in failure


def test_more_bytes_than_the_server_says_that_it_sends_are_not_looked_at(server, make_wheel, hold):
    content = make_wheel()
    told = f"bytes 0-{len(content) - 1}/{len(content)}"
    url = answer(server, 206, content + b"and more", len(content), Content_Range=told)
    assert hold(url) == ("torch==2.2.*", None)


def test_a_file_that_changes_between_two_requests_is_not_put_together(server, make_wheel, hold):
    large, larger = make_wheel([("lib.so", NOISE)]), make_wheel([("lib.so", NOISE + b"1")])
    url = server.serve_file(f"/{NAME}", large)
    first = server.handlers[f"/{NAME}"]
    server.serve_file(f"/{NAME}", larger)
    second, asked = server.handlers[f"/{NAME}"], []

    def respond(handler):
        asked.append(handler)
        (first if len(asked) == 1 else second)(handler)

    server.handlers[f"/{NAME}"] = respond
    assert "gave other bytes" in hold(url)[1]


def test_a_block_from_elsewhere_in_the_file_is_refused(server, make_wheel, hold):
    content = make_wheel([("lib.so", NOISE)])
    url = server.serve_file(f"/{NAME}", content)
    honest = server.handlers[f"/{NAME}"]

    def respond(handler):
        if not handler.headers["Range"].startswith("bytes=-"):
            handler.headers.replace_header("Range", f"bytes={BLOCK}-{2 * BLOCK - 1}")
        honest(handler)

    server.handlers[f"/{NAME}"] = respond
    assert "gave other bytes" in hold(url)[1]


def test_a_server_that_cannot_be_reached_leaves_the_wheel_as_it_is(hold):
    with running_server() as server:
        url = f"{server.url}/{NAME}"
    required, failure = hold(url)
    assert required == ""
    assert re.search(r"cannot be downloaded: .*refused.*torch_extension_proxy", failure)


def test_a_certificate_that_is_not_trusted_is_told(tls_server, monkeypatch, make_wheel, hold):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    url = tls_server.serve_file(f"/{NAME}", make_wheel())
    assert "torch_extension_ca_path" in hold(url)[1]


def test_the_operators_ca_is_trusted(tls_server, certificate, monkeypatch, make_wheel):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    content = make_wheel()
    with RemoteFile(tls_server.serve_file("/file", content), str(certificate)) as file:
        assert file.read() == content


def end_of_zip(size, offset, comment=b""):
    """The last record of a zip: the size of its directory, and where that begins."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, offset, len(comment)) + comment


def test_a_directory_that_is_said_to_be_huge_is_not_read(server, hold):
    size = 10**14  # of the file, as the server says
    tail = end_of_zip(2**32 - 2, 2**32 - 2).rjust(BLOCK)
    url = answer(server, 206, tail, Content_Range=f"bytes {size - BLOCK}-{size - 1}/{size}")
    assert "is larger than 16 MiB" in hold(url)[1]
    assert len(server.requests) == 1


def test_what_is_read_of_one_file_is_bounded(server, monkeypatch, make_wheel, hold):
    monkeypatch.setattr(remote_zip, "_MAX_BYTES", 4 * BLOCK)
    url = server.serve_file(f"/{NAME}", make_wheel([("lib.so", NOISE), *many_members(5000)]))
    assert "is larger than 0 MiB" in hold(url)[1]
    assert len(server.requests) <= 4


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_metadata_is_an_error_in_words(compression, server, tmp_path, hold):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("flash_attn-2.8.3.dist-info/METADATA", b"Name: flash-attn\nVersion: 2.8.3\n" * 100)
    content = bytearray(path.read_bytes())
    start = 30 + len("flash_attn-2.8.3.dist-info/METADATA")
    content[start + 5 : start + 30] = b"\xff" * 25
    assert "is not a wheel" in hold(server.serve_file(f"/{NAME}", bytes(content)))[1]


def test_no_damage_of_a_wheel_gives_a_traceback(server, make_wheel, hold):
    content = make_wheel()
    url = server.serve_file(f"/{NAME}", content)
    directory = content.index(b"PK\1\2")
    for position in range(directory, len(content), 3):
        damaged = bytearray(content)
        damaged[position : position + 2] = b"\xfe\xff"
        server.serve_file(f"/{NAME}", bytes(damaged))
        hold(url)  # whatever it says
    for size in range(0, len(content), 41):
        server.serve_file(f"/{NAME}", content[:size])
        assert hold(url)[0] == ""


def test_an_empty_file_is_no_wheel(server, hold):
    assert "gave other bytes" in hold(server.serve_file(f"/{NAME}", b""))[1]


def test_a_wheel_of_another_package_is_no_traceback_either(server, tmp_path, hold):
    write_zip(tmp_path / "other.zip", [("a.dist-info/METADATA", b"Name: \xff\xfe\nVersion: 1\n")])
    required, _failure = hold(server.serve_file(f"/{NAME}", (tmp_path / "other.zip").read_bytes()))
    assert required == ""


def test_redirects_are_followed_and_keep_the_range(server, make_wheel, hold):
    content = make_wheel([("lib.so", NOISE)])
    server.redirect(f"/{NAME}", server.serve_file("/signed", content))
    assert hold(f"{server.url}/{NAME}") == ("torch==2.2.*", None)
    assert max(sent_sizes(server)) <= BLOCK


def test_credentials_are_sent_to_their_host_alone(server, tls_server, home, make_wheel, hold):
    (home / ".netrc").write_text("machine localhost login me password hunter2\n")
    tls_server.authorization = "Basic " + base64.b64encode(b"me:hunter2").decode()
    tls_server.redirect(f"/{NAME}", server.serve_file("/elsewhere", make_wheel()))
    assert hold(f"{tls_server.url}/{NAME}") == ("torch==2.2.*", None)
    assert [headers.get("Authorization") for headers in server.headers] == [None]


def test_what_is_no_url_is_an_error_in_words():
    for url in ("http://", "http://[::1", f"http://{'a' * 70}.example/", "ftp://a.example/"):
        with pytest.raises(TorchExtensionError):
            RemoteFile(url)

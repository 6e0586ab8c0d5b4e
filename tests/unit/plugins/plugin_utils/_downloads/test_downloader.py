# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import requests
from servers import running_proxy, running_server, tls_context
from urllib3.util import Retry
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import entry, waiting
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import transfer
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.progress import Progress
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import RetryPolicy

PATH = "/Dao-AILab/flash-attention/releases/download/v2.8.3/wheel.whl"
MAX_UNWRITTEN = (1 << 16) + 8192  # bytes that a process which is killed, or waits in vain, may not have written
FAST_RETRIES = RetryPolicy(timeout=5, pace=Limit(60, 1), max_retries=3, backoff=0)


@pytest.fixture
def server(tls_server):
    """As GitHub is, for a wheel whose hash nobody knows comes over TLS alone."""
    return tls_server


@pytest.fixture
def wheel(tmp_path):
    return build_wheel(tmp_path / "published", label=LABEL)


@pytest.fixture
def large(tmp_path):
    """A wheel that does not come in one piece."""
    return build_wheel(tmp_path / "large", label=LABEL, extra=[("flash_attn/blob", os.urandom(1 << 20))])


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def get(cache):
    """Downloads, with retries that fit a test."""

    def get(url, filename, sha256=None, size=None, provenance=Provenance(), **settings):  # noqa: B008 (it is a tuple)
        downloader = Downloader(str(cache), **{"retry_policy": FAST_RETRIES, **settings})
        return downloader.get(url, filename, sha256, size, provenance)

    return get


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


def cached_path(cache, url, filename):
    return cache / hashlib.sha256(url.encode()).hexdigest()[:16] / filename


def files_in(cache):
    """The names of all files but locks."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


@contextlib.contextmanager
def fails(cache, words, remaining=()):
    """Expects an error, and that only these files remain in the cache."""
    with pytest.raises(TorchExtensionError, match=words) as refusal:
        yield refusal
    assert files_in(cache) == list(remaining)


def partial_files(wheel):
    """The files that a transfer leaves to be resumed."""
    return [f".{wheel.name}.part", f".{wheel.name}.part.json"]


def began_at(headers):
    """The first byte of the range that a request asked for."""
    return int(re.fullmatch(r"bytes=(\d+)-", headers["Range"])[1])


class NoteRecorder(Progress):
    """Records the notes that the operator would see."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_wheel_is_downloaded_once_and_then_taken_from_the_cache(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    first = get(url, wheel.name)
    assert first[:4] == (str(cached_path(cache, url, wheel.name)), sha256(wheel), wheel.stat().st_size, True)
    assert get(url, wheel.name) == first._replace(is_new=False, warning=None)
    assert Downloader(str(cache)).find_cached(url, wheel.name) == first._replace(is_new=False, warning=None)
    assert server.requests == [PATH]
    assert {oct(folder.stat().st_mode)[-3:] for folder in (cache, cached_path(cache, url, wheel.name).parent)} == {
        "700"
    }


def test_sha256sum_accepts_the_hash_file_beside_a_cached_file(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    get(url, wheel.name)
    folder = cached_path(cache, url, wheel.name).parent
    subprocess.run(["sha256sum", "--check", "--strict", f"{wheel.name}.sha256"], cwd=folder, check=True)
    assert files_in(cache) == [wheel.name, f"{wheel.name}.sha256"]


def test_files_of_one_name_from_two_urls_are_two_files(server, wheel, tmp_path, get):
    other = build_wheel(tmp_path / "other", label=LABEL, files={"flash_attn/__init__.py": "OTHER = 1\n"})
    urls = [server.serve_body(f"/{number}", path.read_bytes()) for number, path in enumerate((wheel, other))]
    assert [get(url, wheel.name).sha256 for url in urls] == [sha256(wheel), sha256(other)]
    assert [get(url, wheel.name).is_new for url in urls] == [False, False]


@pytest.mark.parametrize(
    "damage", [lambda path: os.truncate(path, 100), lambda path: path.unlink()], ids=["cut", "gone"]
)
def test_a_cached_file_that_was_damaged_or_removed_is_downloaded_again(damage, server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    get(url, wheel.name)
    damage(cached_path(cache, url, wheel.name))
    assert Downloader(str(cache)).find_cached(url, wheel.name) is None
    again = get(url, wheel.name)
    assert (again.is_new, again.warning) == (True, None)
    assert sha256(cached_path(cache, url, wheel.name)) == sha256(wheel)


def test_an_unknown_hash_is_recorded_with_a_warning_and_enforced_from_then_on(server, wheel, cache, get, tmp_path):
    url = server.serve_body(PATH, wheel.read_bytes())
    warning = get(url, wheel.name).warning
    beside = f"{cached_path(cache, url, wheel.name)}.sha256"
    for words in (f"{wheel.name} has no published hash", sha256(wheel), beside, "torch_extension_sha256"):
        assert words in warning
    other = build_wheel(tmp_path / "other", label=LABEL, files={"flash_attn/__init__.py": "OTHER = 1\n"})
    server.serve_body(PATH, other.read_bytes())
    cached_path(cache, url, wheel.name).unlink()
    with fails(cache, f"{sha256(other)}, wanted is {sha256(wheel)}, as it was at its first", [f"{wheel.name}.sha256"]):
        get(url, wheel.name)
    with pytest.raises(TorchExtensionError, match=rf"{re.escape(beside)}.*torch_extension_sha256, or delete that file"):
        get(url, wheel.name)
    pinned = get(url, wheel.name, sha256(other))
    assert (pinned.is_new, pinned.warning) == (True, None)
    assert get(url, wheel.name).sha256 == sha256(other)


@pytest.mark.parametrize("debris", [None, "", "no hash", "\xff"], ids=["none", "empty", "nonsense", "no ASCII"])
def test_a_file_without_its_hash_beside_it_is_not_trusted(debris, server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    get(url, wheel.name)
    beside = cached_path(cache, url, f"{wheel.name}.sha256")
    beside.unlink() if debris is None else beside.write_text(debris)
    assert get(url, wheel.name).is_new


def test_a_wheel_with_another_hash_is_discarded(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    with fails(cache, f"has sha256 {sha256(wheel)}, wanted is {'0' * 64}, as the release, the lock or .*thrown away"):
        get(url, wheel.name, "0" * 64)
    assert len(server.requests) == 1, "it came in one piece, so another try would be the same"
    known = get(url, wheel.name, sha256(wheel).upper())
    assert (known.is_new, known.warning) == (True, None)


def test_a_cached_file_with_another_hash_is_not_used(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    get(url, wheel.name)
    assert Downloader(str(cache)).find_cached(url, wheel.name, "0" * 64) is None
    assert Downloader(str(cache)).find_cached(url, wheel.name, sha256(wheel))


def test_where_hashes_are_required_a_wheel_without_one_is_refused_before_any_request(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    get(url, wheel.name)
    strict = Downloader(str(cache), require_sha256=True)
    for refusing in (strict.get, strict.find_cached):
        with pytest.raises(
            TorchExtensionError, match=r"torch_extension_require_sha256.*Give it in torch_extension_sha256"
        ):
            refusing(url, wheel.name)
    assert strict.get(url, wheel.name, sha256(wheel)).is_new is False
    assert len(server.requests) == 1


def test_without_tls_only_a_wheel_with_a_known_hash_is_downloaded(wheel, cache, get):
    with running_server() as plain:
        url = plain.serve_body(PATH, wheel.read_bytes())
        with fails(cache, "is without TLS.*Give its hash in torch_extension_sha256"):
            get(url, wheel.name)
        with fails(cache, "is without TLS"):
            Downloader(str(cache)).find_cached(url, wheel.name)
        assert plain.requests == []
        assert get(url, wheel.name, sha256(wheel)).is_new


def test_a_redirect_from_https_to_http_counts_as_http(server, wheel, cache, get):
    with running_server() as plain:
        server.redirect(PATH, plain.serve_body("/", wheel.read_bytes()))
        with fails(cache, "is redirected to 127.0.0.1 without TLS"):
            get(server.url + PATH, wheel.name)
        assert get(server.url + PATH, wheel.name, sha256(wheel)).is_new


def test_a_mirror_is_asked_with_the_whole_address_in_its_path(server, wheel, cache, get):
    """As a GitHub accelerator wants it; one behind a server that merges slashes sends on to the merged spelling."""
    path, merged = f"/https://github.com{PATH}", f"/https:/github.com{PATH}"
    url = server.serve_body(path, wheel.read_bytes())
    assert get(url, wheel.name).path == str(cached_path(cache, url, wheel.name))
    server.redirect(path, merged)
    server.serve_body(merged, wheel.read_bytes())
    assert get(url, wheel.name, sha256(wheel)).is_new is False
    shutil.rmtree(cache)
    assert get(url, wheel.name, sha256(wheel)).path == str(cached_path(cache, url, wheel.name))
    assert server.requests == [path, path, merged]


def test_a_file_that_is_cut_to_a_short_content_length_is_no_wheel(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes(), length=10)
    with fails(cache, "is not the wheel"):
        get(url, wheel.name)


def test_a_connection_that_is_cut_every_time_is_given_up(server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes()[:-100], length=wheel.stat().st_size)
    with fails(cache, r"wheel\.whl cannot be downloaded: .*torch_extension_proxy", partial_files(wheel)):
        get(url, wheel.name)
    assert len(server.requests) == 1 + FAST_RETRIES.max_retries, "what comes again each time is no progress"


def test_after_a_cut_only_the_rest_is_requested(server, large, cache, get):
    body = large.read_bytes()
    url = server.serve_file(PATH, body, cuts=[300000, 400000])
    recorder = NoteRecorder()
    assert get(url, large.name, progress=recorder).sha256 == sha256(large)
    ranges = [headers.get("Range") for headers in server.headers]
    assert (ranges[0], len(ranges)) == (None, 3)
    assert [began_at(headers) for headers in server.headers[1:]] == [300000, 700000]
    assert server.sent_sizes == [300000, 400000, len(body) - 700000], "no byte came twice"
    assert {headers["If-Range"] for headers in server.headers[1:]} == {'"1"'}
    assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}
    assert len(recorder.notes) == 2
    assert re.search(
        rf"{re.escape(large.name)}: Connection broken.*; attempt 1 of \d+ failed, retrying in 0 s", recorder.notes[0]
    )
    assert files_in(cache) == [large.name, f"{large.name}.sha256"]


def test_a_redirect_to_another_signed_url_each_time_does_not_hinder_a_resume(server, large, get):
    body, signatures = large.read_bytes(), []

    def redirect(handler):
        signatures.append(len(signatures))
        server.redirect("/discarded", f"/storage?signature={len(signatures)}")
        server.handlers["/discarded"](handler)

    server.serve_file("/storage", body, cuts=[300000])
    server.handlers[PATH] = redirect
    server.handlers.update({f"/storage?signature={number}": server.handlers["/storage"] for number in (1, 2)})
    assert get(server.url + PATH, large.name).sha256 == sha256(large)
    assert server.requests == [PATH, "/storage?signature=1", PATH, "/storage?signature=2"]
    assert server.sent_sizes == [300000, len(body) - 300000]


def test_the_next_run_resumes_what_a_failed_run_left(server, large, cache, get):
    body = large.read_bytes()
    url = server.serve_file(PATH, body, cuts=[100000])
    with fails(cache, "cannot be downloaded", partial_files(large)):
        get(url, large.name, retry_policy=FAST_RETRIES._replace(max_retries=0))
    assert get(url, large.name).sha256 == sha256(large)
    assert server.sent_sizes == [100000, len(body) - 100000]


def test_a_file_that_changed_between_two_pieces_starts_over(server, large, tmp_path, cache, get):
    other = build_wheel(tmp_path / "other", label=LABEL, extra=[("flash_attn/blob", os.urandom(1 << 20))])
    url = server.serve_file(PATH, large.read_bytes(), cuts=[100000])
    with fails(cache, "cannot be downloaded", partial_files(large)):
        get(url, large.name, retry_policy=FAST_RETRIES._replace(max_retries=0))
    server.serve_file(PATH, other.read_bytes(), etag='"2"')
    assert get(url, large.name).sha256 == sha256(other)
    assert server.sent_sizes[1:] == [other.stat().st_size]
    assert server.headers[-1]["If-Range"] == '"1"'


@pytest.mark.parametrize(
    ("etag", "headers", "resumes"),
    [
        (None, {}, False),
        ('W/"1"', {}, False),
        (None, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, False),
        (None, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Date": "Mon, 01 Jan 2024 01:00:00 GMT"}, True),
        (None, {"Last-Modified": "yesterday", "Date": "Mon, 01 Jan 2024 01:00:00 GMT"}, False),
    ],
    ids=["none", "a weak one", "a date of the same second", "a date", "no date"],
)
def test_without_a_strong_validator_a_transfer_starts_over(etag, headers, resumes, server, large, get):
    url = server.serve_file(PATH, large.read_bytes(), etag=etag, headers=headers, cuts=[100000])
    assert get(url, large.name).sha256 == sha256(large)
    assert ("Range" in server.headers[1]) is resumes


@pytest.mark.parametrize(
    "answer",
    [
        (416, {}),
        (206, {}),
        (206, {"Content-Range": "bytes 5-10/100"}),
        (206, {"Content-Range": "nonsense"}),
    ],
    ids=["416", "206 without a range", "206 from elsewhere", "206 with nonsense"],
)
def test_a_server_that_ignores_the_range_is_asked_for_the_whole_file(answer, server, large, get):
    url = server.serve_file(PATH, large.read_bytes(), cuts=[100000])
    good = server.handlers[PATH]

    def refuse_ranges(handler):
        if "Range" not in handler.headers:
            good(handler)
            return
        handler.send_response(answer[0])
        for name, value in {"Content-Length": "0", **answer[1]}.items():
            handler.send_header(name, value)
        handler.end_headers()

    server.handlers[PATH] = refuse_ranges
    assert get(url, large.name).sha256 == sha256(large)
    assert ["Range" in headers for headers in server.headers] == [False, True, False]


@pytest.mark.parametrize(
    "debris", ["", "[]", "{}", '{"validator": 1, "verified": true}', '{"validator": "\\n", "verified": 1}']
)
def test_a_partial_file_with_unreadable_notes_is_started_over(debris, server, large, cache, get):
    url = server.serve_file(PATH, large.read_bytes())
    part = cached_path(cache, url, f".{large.name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x")
    part.with_name(f"{part.name}.json").write_text(debris)
    assert get(url, large.name).sha256 == sha256(large)
    assert "Range" not in server.headers[0]


def test_a_resumed_file_with_a_wrong_hash_is_downloaded_again_in_one_piece(server, large, cache, get):
    url = server.serve_file(PATH, large.read_bytes(), cuts=[100000])
    with fails(cache, "cannot be downloaded", partial_files(large)):
        get(url, large.name, retry_policy=FAST_RETRIES._replace(max_retries=0))
    with cached_path(cache, url, f".{large.name}.part").open("r+b") as file:
        file.write(b"PK\3\4damaged")
    assert get(url, large.name, sha256(large)).is_new
    assert ["Range" in headers for headers in server.headers] == [False, True, False]


def test_a_wrong_hash_is_downloaded_again_no_more_than_once(server, large, cache, get):
    url = server.serve_file(PATH, large.read_bytes(), cuts=[100000, 1 << 30, 100000])
    with fails(cache, "wanted is 000"):
        get(url, large.name, "0" * 64)
    assert ["Range" in headers for headers in server.headers] == [False, True, False, True]


def test_what_came_without_tls_is_not_resumed_where_there_is_no_hash(server, large, cache, get):
    with running_server() as plain:
        server.redirect(PATH, plain.serve_file("/", large.read_bytes(), cuts=[100000]))
        with fails(cache, "cannot be downloaded", partial_files(large)):
            get(server.url + PATH, large.name, sha256(large), retry_policy=FAST_RETRIES._replace(max_retries=0))
        server.serve_file(PATH, large.read_bytes())
        assert get(server.url + PATH, large.name).sha256 == sha256(large)
        assert "Range" not in server.headers[-1]


def serve_and_hang(server, path, body, many, release_server):
    """Serve the first bytes of a file, and then nothing until the server is released."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        handler.wfile.write(body[:many])
        release_server.wait(20)

    server.handlers[path] = answer
    return server.url + path


@pytest.fixture
def release_server():
    event = threading.Event()
    yield event
    event.set()


def test_a_transfer_that_stalls_is_resumed(server, large, get, release_server):
    body = large.read_bytes()
    url = serve_and_hang(server, PATH, body, 200000, release_server)
    stopping = server.handlers[PATH]
    server.serve_file(PATH, body)
    going = server.handlers[PATH]

    def answer(handler):
        return (going if len(server.requests) > 1 else stopping)(handler)

    server.handlers[PATH] = answer
    assert get(url, large.name, retry_policy=FAST_RETRIES._replace(timeout=0.3)).sha256 == sha256(large)
    assert 200000 - MAX_UNWRITTEN < began_at(server.headers[1]) <= 200000


def test_a_transfer_that_stalls_every_time_is_given_up(server, large, cache, get, release_server):
    url = serve_and_hang(server, PATH, large.read_bytes(), 0, release_server)
    started_at = time.monotonic()
    with fails(cache, "cannot be downloaded: .*(timed out|no answer came)"):
        get(url, large.name, retry_policy=FAST_RETRIES._replace(timeout=0.1))
    assert time.monotonic() - started_at < 20, "and a machine may have much else to do"


def test_a_server_that_accepts_connections_and_never_answers_times_out(wheel, cache, get):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_at = time.monotonic()
        with fails(cache, "cannot be downloaded: .*(timed out|no answer came)"):
            get(
                f"https://127.0.0.1:{silent.getsockname()[1]}/",
                wheel.name,
                retry_policy=FAST_RETRIES._replace(timeout=0.1),
            )
    assert time.monotonic() - started_at < 20, "and a machine may have much else to do"


@pytest.mark.parametrize("quickly", [0, 600000], ids=["from the start", "after a quick start"])
def test_a_transfer_that_trickles_counts_as_stalled(quickly, server, large, cache, get, release_server):
    body = large.read_bytes()

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:quickly])
        for byte in body[quickly:]:
            handler.wfile.write(bytes([byte]))
            if release_server.wait(0.01):
                break

    server.handlers[PATH] = trickle
    retry_policy = RetryPolicy(pace=Limit(0.2, 1000), max_retries=1, backoff=0)
    with fails(cache, r"cannot be downloaded: less than 1000 bytes were transferred in 0 s", partial_files(large)):
        get(server.url + PATH, large.name, retry_policy=retry_policy)
    assert len(server.requests) == 2


def test_a_wrong_content_length_is_refused_before_the_body_is_read(server, wheel, cache, get, release_server):
    body = wheel.read_bytes()
    url = serve_and_hang(server, PATH, body, 0, release_server)
    with fails(cache, f"wheel.whl has {len(body)} bytes, wanted are {len(body) + 1}, as the release"):
        get(url, wheel.name, size=len(body) + 1)
    server.serve_body(PATH, body)
    assert get(url, wheel.name, size=len(body)).is_new


@pytest.mark.parametrize("error", [-1, 1], ids=["more", "less"])
def test_a_body_of_unknown_length_must_have_the_expected_size(error, server, wheel, cache, get):
    body = wheel.read_bytes()

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    server.handlers[PATH] = answer
    words = f"has more than {len(body) - 1} bytes" if error < 0 else f"cut after {len(body)} of {len(body) + 1} bytes"
    with fails(cache, words, partial_files(wheel) if error > 0 else ()):
        get(server.url + PATH, wheel.name, size=len(body) + error)
    assert get(server.url + PATH, wheel.name, size=len(body)).is_new


def test_an_html_page_is_refused_without_reading_it_all(server, wheel, cache, get, release_server):
    page = b"<html><title>Please log in</title>" + b" " * 1000

    def login(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Content-Length", str(1 << 30))
        handler.end_headers()
        handler.wfile.write(page)
        release_server.wait(20)

    server.handlers[PATH] = login
    with fails(cache, r"is not the wheel: it is a page of HTML\. It begins with '<html><title>Please log in.*login"):
        get(server.url + PATH, wheel.name)
    assert len(server.requests) == 1


def test_what_is_no_zip_file_is_refused_without_reading_it_all(server, wheel, cache, get):
    url = server.serve_body(PATH, b"<!DOCTYPE html><html>Please log in", length=1 << 30)
    with fails(cache, r"is not the wheel: it is not a zip file\. It begins with '<!DOCTYPE html>.*login page"):
        get(url, wheel.name)
    assert len(server.requests) == 1


def test_a_login_page_between_two_pieces_does_not_cost_the_first_piece(server, large, cache, get):
    body = large.read_bytes()
    url = server.serve_file(PATH, body, cuts=[100000])
    good = server.handlers[PATH]

    def answer(handler):
        if len(server.requests) == 2:
            server.serve_page("/login", "<html>")
            server.handlers["/login"](handler)
        else:
            good(handler)

    server.handlers[PATH] = answer
    with fails(cache, "is not the wheel", partial_files(large)):
        get(url, large.name)
    assert get(url, large.name).sha256 == sha256(large)
    assert server.headers[-1]["Range"] == "bytes=100000-"


def test_a_compressed_answer_is_refused(server, wheel, cache, get):
    url = server.serve_file(PATH, wheel.read_bytes(), headers={"Content-Encoding": "gzip"})
    with fails(cache, "Content-Encoding gzip"):
        get(url, wheel.name)


def test_a_wheel_of_another_version_than_its_name_says_is_refused(server, tmp_path, cache, get):
    url = server.serve_body(PATH, build_wheel(tmp_path, version="2.8.2").read_bytes())
    with fails(cache, r"is not the wheel: .*METADATA is of flash-attn 2\.8\.2"):
        get(url, "flash_attn-2.8.3-py3-none-any.whl")


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            Provenance("guess", None, "it is what setup.py would ask for"),
            r"nobody has told that it does: it is what setup.py would ask for\. Most likely there is no wheel of this version"
            r".*/Dao-AILab/flash-attention/releases/tag/v2\.8\.3\. Or localhost \(torch_extension_github_url\) has not got it",
        ),
        (
            Provenance("release", "v2.8.3"),
            r"though GitHub's API lists it in release v2\.8\.3: localhost has not got it\. .*set torch_extension_github_url",
        ),
        (
            Provenance("mjun0812", "v0.9.1"),
            r"though GitHub's API lists it in release v0\.9\.1: localhost has not got it",
        ),
        (
            Provenance("index:https://wheels.example/"),
            r"though the page of index:https://wheels\.example/ links to it.*torch_extension_sources",
        ),
        (
            Provenance("release", is_locked=True),
            r"though the lock has it \(from release\): it was removed there since, .* playbook lock again",
        ),
        (Provenance("astral"), r"though astral has told of it.*torch_extension_sources"),
        (Provenance(), ": localhost has not got it"),
    ],
    ids=["guess", "release", "place", "index", "lock", "page of a place", "nobody"],
)
def test_the_error_for_a_missing_wheel_says_who_has_told_of_it(told, words, status, server, wheel, cache, get):
    url = server.serve_body(PATH, b"", status)
    with fails(cache, rf"does not exist \({status}\).*{words}") as refusal:
        get(url, wheel.name, provenance=told)
    assert ("there is no wheel" in str(refusal.value)) == (told.source == "guess")
    assert len(server.requests) == 1, "there is no use in asking again"


@pytest.mark.parametrize("release", [None, "v2.8.3"])
def test_at_github_itself_no_mirror_is_blamed(release):
    told = Provenance("release", release) if release else Provenance("guess")
    assert "torch_extension_github_url" not in told.explain_missing(f"https://github.com{PATH}")


@pytest.mark.parametrize("status", [401, 403, 418])
def test_the_error_for_a_refused_request_has_the_status(status, server, wheel, cache, get):
    url = server.serve_body(PATH, b"", status)
    with fails(cache, f"HTTP status {status}; it was asked without a proxy, for none is set") as refusal:
        get(url, wheel.name)
    assert ("netrc" in str(refusal.value)) == (status != 418)
    assert len(server.requests) == 1


def not_the_wheel(server, path):
    """Links that lead to something else, in the ways that there are."""
    server.serve_page(f"{path}/login", "<!DOCTYPE html><title>Sign in</title>")
    server.serve_body(f"{path}/preview", b"<html>", 200)
    server.serve_body(f"{path}/missing", b"", 404)
    server.serve_body(f"{path}/forbidden", b"", 403)
    server.serve_body(f"{path}/other", b"PK\x03\x04 another file")
    server.redirect(f"{path}/elsewhere", f"{server.url}{path}/login")
    with running_server() as gone:
        pass
    names = ("login", "preview", "missing", "forbidden", "other", "elsewhere")
    return [f"{server.url}{path}/{name}" for name in names] + [f"{gone.url}/gone"]


def test_where_a_link_does_not_give_the_wheel_the_next_one_is_tried(server, wheel, cache, get):
    links = not_the_wheel(server, "/links")
    good = server.serve_body("/good", wheel.read_bytes())
    for link in links:
        told = Provenance(source="index:x", other_urls=(good,))
        file = get(link, wheel.name, sha256(wheel), provenance=told)
        assert (file.sha256, file.other_url) == (sha256(wheel), good)
        if file.is_new:
            assert link in file.warning.partition(" It was taken")[0]
            assert f"It was taken from {good} instead." in file.warning
        assert get(link, wheel.name, sha256(wheel), provenance=told)._replace(is_new=file.is_new) == file._replace(
            warning=None
        )
        shutil.rmtree(cache)
    told = Provenance(source="index:x", other_urls=tuple(links[1:]))
    with pytest.raises(TorchExtensionError) as refusal:
        get(links[0], wheel.name, sha256(wheel), provenance=told)
    assert all(link in str(refusal.value) for link in links)


def test_a_wheel_from_a_further_link_must_have_the_hash_too(server, wheel, tmp_path, cache, get):
    other = build_wheel(tmp_path / "other", label=LABEL, files={"flash_attn/__init__.py": "OTHER = 1\n"})
    first, second = server.serve_body("/1", b"", 404), server.serve_body("/2", other.read_bytes())
    with pytest.raises(TorchExtensionError, match=f"{sha256(other)}, wanted is {sha256(wheel)}"):
        get(first, wheel.name, sha256(wheel), provenance=Provenance(other_urls=(second,)))


def test_a_full_disk_is_no_reason_to_try_another_link(server, wheel, get, monkeypatch):
    first, second = (server.serve_body(path, wheel.read_bytes()) for path in ("/1", "/2"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=0))
    with pytest.raises(TorchExtensionError, match="MiB free"):
        get(first, wheel.name, provenance=Provenance(other_urls=(second,)))
    assert server.requests == ["/1"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried(status, server, wheel, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    good = server.handlers[PATH]

    def stumble_twice(handler):
        if len(server.requests) > 2:
            good(handler)
        else:
            handler.send_error(status)

    server.handlers[PATH] = stumble_twice
    recorder = NoteRecorder()
    assert get(url, wheel.name, progress=recorder).is_new
    assert len(server.requests) == 3
    assert f"HTTP status {status}" in recorder.notes[0]


def test_a_transient_status_that_does_not_go_away_is_given_up(server, wheel, cache, get):
    url = server.serve_body(PATH, b"", 500)
    with fails(cache, "HTTP status 500"):
        get(url, wheel.name)
    assert len(server.requests) == 1 + FAST_RETRIES.max_retries


@pytest.mark.parametrize(("asked", "paused"), [("7", 7), ("86400", 300), ("soon", 0)])
def test_retry_after_is_respected_up_to_a_limit(asked, paused, server, wheel, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(transfer, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    url = server.serve_body(PATH, wheel.read_bytes())
    good = server.handlers[PATH]

    def busy(handler):
        if len(server.requests) > 1:
            good(handler)
            return
        handler.send_response(503)
        handler.send_header("Retry-After", asked)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.handlers[PATH] = busy
    assert get(url, wheel.name).is_new
    assert pauses == [paused]


def test_credentials_in_netrc_are_sent_to_their_host_only(server, wheel, cache, home, get):
    url = server.serve_body(PATH, wheel.read_bytes()).replace("localhost", "127.0.0.1")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    get(url, wheel.name)
    assert server.headers[0]["Authorization"] == requests.auth._basic_auth_str("me", "secret")
    get(url.replace("127.0.0.1", "localhost"), wheel.name)
    assert "Authorization" not in server.headers[1]


def test_a_filename_that_is_no_wheel_name_is_refused_before_anything_is_written(server, cache, get):
    url = server.serve_body(PATH, b"")
    with pytest.raises(TorchExtensionError, match="is not the name of a wheel"):
        get(url, "../flash_attn-2.8.3-py3-none-any.whl")
    assert server.requests == []
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match=r"file/cache on the control node cannot be made.*cache_dir"):
        Downloader(str(tmp_path / "file" / "cache"))


def download(cache, url, filename, start=None):
    if start:
        start.wait()
    Downloader(cache).get(url, filename)


def download_in_process(cache, url, filename, start=None):
    process = multiprocessing.get_context("fork").Process(target=download, args=(str(cache), url, filename, start))
    process.start()
    return process


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_that_need_the_same_file_download_it_once(server, large, cache):
    url = server.serve_file(PATH, large.read_bytes(), pause=0.05)
    start = multiprocessing.get_context("fork").Barrier(3)
    processes = [download_in_process(cache, url, large.name, start) for _process in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.requests == [PATH]
    assert files_in(cache) == [large.name, f"{large.name}.sha256"]


def test_a_waiting_process_says_so_and_takes_over_when_the_other_is_killed(
    server, large, cache, get, release_server, monkeypatch
):
    monkeypatch.setattr(waiting, "_TELL_AFTER_SECONDS", 0.2)
    body = large.read_bytes()
    url = serve_and_hang(server, PATH, body, 500000, release_server)
    holder = download_in_process(cache, url, large.name)
    part = cached_path(cache, url, f".{large.name}.part")
    wait_for(lambda: part.exists() and part.stat().st_size > 500000 - MAX_UNWRITTEN)
    server.serve_file(PATH, body)
    recorder, downloads = NoteRecorder(), []
    thread = threading.Thread(target=lambda: downloads.append(get(url, large.name, progress=recorder)))
    thread.start()
    wait_for(lambda: recorder.notes)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    thread.join(10)
    assert [download.sha256 for download in downloads] == [sha256(large)]
    (note,) = recorder.notes
    assert re.match(
        rf"Waiting for process {holder.pid} since .*, which has locked .*{re.escape(large.name)}\.lock on the", note
    )
    assert began_at(server.headers[1]) > 500000 - MAX_UNWRITTEN, "what the killed one had is not lost"


def test_a_download_of_another_process_is_waited_for_as_long_as_it_gets_on(server, large, cache, get, monkeypatch):
    monkeypatch.setattr(entry, "_PATIENCE_SECONDS", 1)
    url = server.serve_file(PATH, large.read_bytes(), pause=0.4)
    holder = download_in_process(cache, url, large.name)
    wait_for(lambda: server.requests)
    begun = time.monotonic()
    assert not get(url, large.name).is_new
    assert time.monotonic() - begun > 2
    holder.join()


def test_one_that_gets_nowhere_is_given_up_with_its_process(server, large, cache, get, release_server, monkeypatch):
    monkeypatch.setattr(entry, "_PATIENCE_SECONDS", 1)
    url = serve_and_hang(server, PATH, large.read_bytes(), 500000, release_server)
    holder = download_in_process(cache, url, large.name)
    wait_for(lambda: server.requests)
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(
        TorchExtensionError, match=rf"\.lock on the control node is locked by process {holder.pid} since"
    ):
        get(url, large.name)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()


def kill_halfway(server, large, cache, release_server):
    """Kill a process that has downloaded half of a file. Returns the file's URL, and the part that is there."""
    body = large.read_bytes()
    url = serve_and_hang(server, PATH, body, len(body) // 2, release_server)
    process = download_in_process(cache, url, large.name)
    part = cached_path(cache, url, f".{large.name}.part")
    wait_for(lambda: part.exists() and part.stat().st_size > len(body) // 2 - MAX_UNWRITTEN)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return url, part


def test_a_killed_download_leaves_only_a_partial_file_and_the_next_run_resumes_it(
    server, large, cache, get, release_server
):
    url, part = kill_halfway(server, large, cache, release_server)
    assert files_in(cache) == partial_files(large)
    notes = json.loads(part.with_name(f"{part.name}.json").read_text())
    assert (notes["validator"], notes["verified"]) == ('"1"', True)
    assert Downloader(str(cache)).find_cached(url, large.name) is None
    partial_size = part.stat().st_size
    server.serve_file(PATH, large.read_bytes())
    assert get(url, large.name).sha256 == sha256(large)
    assert began_at(server.headers[1]) == partial_size
    assert server.sent_sizes == [large.stat().st_size - partial_size]
    assert files_in(cache) == [large.name, f"{large.name}.sha256"]


def test_what_was_there_before_the_machine_went_off_is_not_gone_on_with_unless_a_hash_tells_that_it_is_whole(
    server, large, cache, get, release_server
):
    url, part = kill_halfway(server, large, cache, release_server)
    notes = part.with_name(f"{part.name}.json")
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "boot": "another"}))
    part.write_bytes(bytes(part.stat().st_size))  # a power cut
    server.serve_file(PATH, large.read_bytes())
    assert get(url, large.name).sha256 == sha256(large)
    assert "Range" not in server.headers[1]


@pytest.mark.parametrize("damage", [lambda body: b"", lambda body: body[:-1], lambda body: bytes(len(body))])
def test_what_a_power_cut_has_left_of_a_file_is_downloaded_again(damage, server, wheel, cache, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    path = Path(get(url, wheel.name).path)
    path.write_bytes(damage(wheel.read_bytes()))
    assert get(url, wheel.name).sha256 == sha256(wheel) == sha256(path)
    path.write_bytes(damage(wheel.read_bytes()))
    record = path.with_name(f"{path.name}.sha256")
    record.write_bytes(damage(record.read_bytes()))
    again = get(url, wheel.name)
    assert again.sha256 == sha256(wheel) == sha256(path)
    assert record.read_text().split()[0] == sha256(wheel)


def test_what_was_built_here_and_is_not_what_was_built_is_thrown_away(wheel, cache, get):
    built = cache / "built" / "x" / wheel.name
    built.parent.mkdir(parents=True)
    built.write_bytes(bytes(wheel.stat().st_size))
    downloader = Downloader(str(cache / "wheels"))
    with pytest.raises(TorchExtensionError, match=r"wanted is .* was thrown away: it is built again in the next run"):
        downloader.get(built.as_uri(), wheel.name, sha256(wheel))
    assert not built.exists()
    other = cache / wheel.name
    other.write_bytes(b"x")
    with pytest.raises(TorchExtensionError, match="it is another file or it is damaged"):
        downloader.get(other.as_uri(), wheel.name, sha256(wheel))
    assert other.exists(), "it is the operator's"


def test_a_disk_without_room_is_an_error_before_anything_is_written(server, wheel, cache, get, monkeypatch):
    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=3 << 20))
    url = server.serve_body(PATH, wheel.read_bytes())
    with fails(cache, r"has 3 MiB free, wanted are 16 MiB\. Make room, or set torch_extension_cache_dir"):
        get(url, wheel.name)


def test_the_error_for_a_full_disk_names_the_setting(server, wheel, cache, get, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    url = server.serve_body(PATH, wheel.read_bytes())
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TorchExtensionError, match=r"cannot be written .*No space left.*torch_extension_cache_dir"):
        get(url, wheel.name)
    assert wheel.name not in files_in(cache)


def test_the_error_for_a_disk_that_fills_up_midway_names_the_setting(server, large, cache):
    url = server.serve_file(PATH, large.read_bytes())
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))
from {Downloader.__module__} import Downloader
Downloader({str(cache)!r}).get({url!r}, {large.name!r})
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert re.search(
        r"TorchExtensionError: .* cannot be written .*File too large.*torch_extension_cache_dir", done.stderr
    )
    assert files_in(cache) == [], "others need the room"


def test_a_proxy_is_used_for_all_hosts_but_those_in_no_proxy(wheel, get, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://old.example")
    far = f"http://github.example{PATH}"
    with running_server() as server, running_server() as proxy:
        near = server.serve_body("/near", wheel.read_bytes())
        proxy.serve_body(far, wheel.read_bytes())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with use_proxy(proxy.url):
            get(far, wheel.name, sha256(wheel))
            get(near, wheel.name, sha256(wheel))
        assert (proxy.requests, server.requests) == ([far], ["/near"])
    assert {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")} == {
        "HTTPS_PROXY": "http://old.example",
        "no_proxy": "127.0.0.1",
    }


def test_without_the_setting_the_proxy_of_the_environment_stays(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://own.example")
    with use_proxy(None):
        assert os.environ["https_proxy"] == "http://own.example"


def test_after_a_proxy_cuts_the_connection_only_the_rest_is_requested(server, large, get):
    body = large.read_bytes()
    url = server.serve_file(PATH, body)
    with running_proxy(cuts=[400000]) as proxy, use_proxy(proxy.url):
        assert get(url, large.name).sha256 == sha256(large)
    assert len(proxy.requests) == 2
    assert 300000 < began_at(server.headers[1]) < 400000


def test_a_proxy_gets_its_credentials(server, wheel, get):
    url = server.serve_body(PATH, wheel.read_bytes())
    wanted = requests.auth._basic_auth_str("me", "hunter2")
    with running_proxy(wanted) as proxy, use_proxy(proxy.url.replace("//", "//me:hunter2@")):
        assert get(url, wheel.name).is_new
    assert "Proxy-Authorization" not in server.headers[0]


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_the_error_for_refused_proxy_credentials_does_not_show_them(tls, server, wheel, cache, get):
    with running_proxy("Basic other") if tls else running_server() as proxy:
        url = server.url + PATH if tls else "http://github.example/a"
        if not tls:
            proxy.serve_body(url, b"", 407)
        with (
            fails(
                cache,
                rf"The proxy 127\.0\.0\.1:{proxy.port} wants other .*\(407\).* in torch_extension_proxy, where it is named",
            ),
            use_proxy(proxy.url.replace("//", "//me:hunter2@")),
        ):
            try:
                get(url, wheel.name, sha256(wheel))
            except TorchExtensionError as exc:
                assert "hunter2" not in str(exc)
                raise
    assert len(proxy.requests) == 1, "there is no use in asking again"


@pytest.mark.parametrize("port", ["1", "99999"], ids=["not there", "no address"])
def test_the_error_for_an_unreachable_proxy_does_not_show_its_credentials(port, wheel, get):
    with use_proxy(f"http://me:sec@ret@127.0.0.1:{port}"), pytest.raises(TorchExtensionError) as error:
        get("https://github.example/a", wheel.name)
    assert "torch_extension_proxy" in str(error.value)
    assert "sec" not in str(error.value)
    assert "ret@" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "seen", "knob", "wrong"),
    [
        ({}, "asked without a proxy, for none is set", "set torch_extension_proxy", "no_proxy"),
        (
            {"https_proxy": "http://proxy.example:3128", "no_proxy": "far.example,localhost"},
            r"asked without a proxy, for no_proxy \(far\.example,localhost\) has localhost",
            "take it out of no_proxy",
            "set torch_extension_proxy",
        ),
        (
            {"http_proxy": "http://proxy.example:3128"},
            "asked without a proxy, for only http_proxy is set, which is for other addresses",
            "set torch_extension_proxy",
            "no_proxy",
        ),
        (
            {"HTTPS_PROXY": "http://me:hunter2@127.0.0.1:{gone}"},
            r"The proxy 127\.0\.0\.1:{gone} \(HTTPS_PROXY\) cannot be reached: .*refused\. So localhost was not asked",
            "Correct HTTPS_PROXY; or, if localhost is reached without a proxy, add it to no_proxy",
            "set torch_extension_proxy",
        ),
        (
            {"https_proxy": "http://127.0.0.1:{refusing}"},
            r"The proxy 127\.0\.0\.1:{refusing} \(https_proxy\) does not connect to localhost: 403",
            "Have it let localhost through, set torch_extension_github_url to a mirror",
            "set torch_extension_proxy",
        ),
        (
            {"all_proxy": "http://127.0.0.1:{proxy}"},
            r"The proxy 127\.0\.0\.1:{proxy} \(all_proxy\) does not connect to localhost: 502 Bad Gateway\.",
            "Have it let localhost through",
            "set torch_extension_proxy",
        ),
        (
            {"https_proxy": "socks5://127.0.0.1:{gone}"},
            r"the proxy 127\.0\.0\.1:{gone} \(https_proxy\) is one for SOCKS, and the Python that runs Ansible lacks PySocks",
            "name a proxy for HTTP in torch_extension_proxy",
            "mirror",
        ),
        ({"https_proxy": "127.0.0.1"}, r"The proxy 127\.0\.0\.1 \(https_proxy\)", "Correct https_proxy", "mirror"),
    ],
    ids=["none", "no_proxy", "other scheme", "unreachable", "refuses", "cannot reach", "SOCKS", "no address"],
)
def test_the_error_for_a_server_that_is_not_reached_says_which_proxy_was_asked_or_why_none(
    variables, seen, knob, wrong, wheel, get, monkeypatch
):
    with running_server() as server, running_server() as unused, running_proxy() as proxy:
        pass
    with running_proxy(status=403) as refusing, running_proxy() as proxy:
        ports = {"gone": unused.port, "refusing": refusing.port, "proxy": proxy.port}
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(**ports))
        with pytest.raises(TorchExtensionError) as error:
            get(f"https://localhost:{server.port}/a", wheel.name)
    message = str(error.value)
    for port in ports:
        seen = seen.replace(f"{{{port}}}", str(ports[port]))
    assert re.search(seen, message)
    assert knob in message
    assert wrong not in message
    assert "hunter2" not in message


def test_a_status_from_a_proxy_is_told_with_the_proxy(wheel, get, monkeypatch):
    with running_server() as proxy:
        url = "http://wheels.example/a"
        proxy.serve_body(url, b"", 403)
        proxy.serve_page("http://wheels.example/b", "<html>Not allowed")
        monkeypatch.setenv("http_proxy", proxy.url)
        for path, words in (("a", "HTTP status 403; it was"), ("b", "is not the wheel: .* It was")):
            with pytest.raises(
                TorchExtensionError, match=rf"{words} asked through the proxy 127\.0\.0\.1:{proxy.port} \(http_proxy\)"
            ):
                get(f"http://wheels.example/{path}", wheel.name, "0" * 64)


def test_a_certificate_is_trusted_only_if_its_ca_is_set(wheel, cache, certificate, monkeypatch, get):
    with running_server(tls=tls_context(certificate)) as server:
        url = server.serve_body(PATH, wheel.read_bytes())
        with fails(cache, "certificate of localhost is not trusted.*torch_extension_ca_path"):
            get(url, wheel.name)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none")
        assert get(url, wheel.name, ca_path=str(certificate)).is_new


def test_a_missing_requests_ca_bundle_is_an_error(server, wheel, cache, monkeypatch, get):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none")
    with fails(cache, "cannot be downloaded: .*invalid path: /none"):
        get(server.serve_body(PATH, wheel.read_bytes()), wheel.name)


def test_a_missing_ca_file_is_an_error(cache):
    with pytest.raises(TorchExtensionError, match="torch_extension_ca_path is /none"):
        Downloader(str(cache), "/none")


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "http://user:hunter2@", "http://[", "nonsense"])
def test_an_invalid_proxy_is_refused_without_showing_its_credentials(proxy):
    with pytest.raises(TorchExtensionError, match=r"torch_extension_proxy is no address") as refusal, use_proxy(proxy):
        pass
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["requests", "packaging"])
def test_a_missing_library_is_a_clear_error(name):
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules[{name!r}] = None  # as if it were not installed
from {Downloader.__module__} import Downloader
from {Downloader.__module__.replace("_downloads.downloader", "_planning.decision")} import Settings, choose_wheel
choose_wheel("flash-attn==2.8.3", {{}}, Settings(None)) if {name!r} == "packaging" else Downloader("nowhere")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"lacks {name}" in done.stderr
    assert "Install the collection's requirements.txt" in done.stderr

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server is asked, over TLS where credentials are."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import random
import re
import resource
import shutil
import socket
import stat
import threading
import time
from pathlib import Path
from urllib.parse import quote

import limited
import pytest
from other_users import OWNER, needs_root
from raw_servers import flood, raw_server, send, trickle
from servers import running_proxy, running_server, tls_context

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.pull import (
    MISSING,
    PRESENT,
    PULLED,
    Puller,
    RemoteFile,
    make_folder,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import (
    build_opener,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import locking

NAME = "flash_attn-2.8.3+cu12torch2.6-cp311-cp311-linux_x86_64.whl"
PATH = f"/wheels/{quote(NAME)}"
BODY = random.Random(7).randbytes(300_000)  # noqa: S311
WANTED = RemoteFile(NAME, hashlib.sha256(BODY).hexdigest(), len(BODY))
AUTHORIZATION = "Basic " + base64.b64encode(b"me:s3cret").decode()


@pytest.fixture
def folder(tmp_path):
    return Path(make_folder(str(tmp_path / "stage")))


@pytest.fixture
def part(folder):
    return folder / staging.part_name(WANTED.filename, WANTED.sha256)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def pull(folder, pauses, server):
    """Fetches the file, from a server without TLS unless told otherwise."""

    def pull(url=None, wanted=WANTED, seconds=10, pace=Limit(60, 10_000), **more):  # noqa: B008 (it is a tuple)
        puller = Puller(url or f"{server.url}/wheels/", str(folder), build_opener(**more), pauses.append, seconds, pace)
        return puller.pull(wanted)

    return pull


@pytest.fixture
def pull_error(pull, part):
    """The words in which a fetch is refused."""

    def pull_error(*args, **more):
        with pytest.raises(TorchExtensionError) as raised:
            pull(*args, **more)
        assert "s3cret" not in str(raised.value)
        return str(raised.value)

    return pull_error


@pytest.fixture
def https_server(certificate):
    with running_server(tls_context(certificate)) as started:
        yield started


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def ranges(server):
    return [headers.get("Range") for headers in server.headers]


def give_range(server, content_range, body):
    """Answer with this part of the file, whatever was asked for."""

    def answer(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", content_range)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_a_file_is_fetched_for_the_user_alone_and_not_requested_again(pull, server, folder):
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}
    assert (mode(folder), mode(folder / NAME)) == (0o700, 0o600)
    assert pull() == PRESENT
    assert server.request_lines() == [f"GET {PATH}"]
    assert "%2B" in server.requests[0]


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_it_does_not_matter_how_the_url_of_the_folder_ends(end, pull, server):
    server.serve_file(PATH, BODY)
    assert pull(f"{server.url}/wheels{end}") == PULLED


def test_the_part_that_an_earlier_run_fetched_is_not_fetched_again(pull, server, folder, part):
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}
    assert ranges(server) == ["bytes=100000-"]


def test_a_link_in_the_place_of_a_part_is_not_followed_and_the_next_run_fetches_the_file(
    pull, pull_error, server, folder, part, tmp_path
):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    part.symlink_to(victim)
    server.serve_file(PATH, BODY)
    assert "cannot be written to" in pull_error()
    assert victim.read_text() == "precious"
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}


def test_a_complete_part_is_taken_without_a_request(pull, server, folder, part):
    part.write_bytes(BODY)
    assert pull() == PULLED
    assert (files_in(folder), server.requests) == ({NAME: BODY}, [])


def test_a_server_without_ranges_sends_the_whole_file(pull, server, folder, part):
    part.write_bytes(BODY[:100_000])
    server.serve_body(PATH, BODY)
    assert pull() == PULLED
    assert (files_in(folder), len(server.requests)) == ({NAME: BODY}, 1)


@pytest.mark.parametrize("content_range", ["bytes 5-299999/300000", "bytes */300000", "no range", "bytes 1000000-"])
def test_another_range_than_the_requested_one_is_not_used(content_range, pull, server, folder, part, pauses):
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    whole, wrong = server.handlers[PATH], give_range(server, content_range, BODY[5:])
    server.handlers[PATH] = lambda handler: (wrong if "Range" in handler.headers else whole)(handler)
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}
    assert (ranges(server), pauses) == (["bytes=100000-", None], [1])


def test_a_range_that_was_not_requested_is_not_used(pull_error, server, folder):
    server.handlers[PATH] = give_range(server, "bytes 5-299999/300000", BODY[5:])
    assert "the server gives bytes 5-299999/300000, asked for was 0-" in pull_error()
    assert files_in(folder) == {}


def test_a_part_longer_than_the_servers_file_is_fetched_again(pull, server, folder, part):
    """416: nothing there from this byte on."""
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    whole = server.handlers[PATH]
    server.handlers[PATH] = lambda handler: handler.send_error(416) if "Range" in handler.headers else whole(handler)
    assert pull() == PULLED
    assert (files_in(folder), ranges(server)) == ({NAME: BODY}, ["bytes=100000-", None])


def test_a_part_longer_than_the_file_is_fetched_again(pull, server, folder, part):
    part.write_bytes(BODY + b"x")
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert (files_in(folder), ranges(server)) == ({NAME: BODY}, [None])


@pytest.mark.parametrize("there_already", [100_000, len(BODY)])
def test_after_a_part_of_another_file_the_file_is_fetched_once_more(there_already, pull, server, folder, part):
    part.write_bytes(bytes(there_already))
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    asked = ["bytes=100000-", None] if there_already < len(BODY) else [None]
    assert (files_in(folder), ranges(server)) == ({NAME: BODY}, asked)


@pytest.mark.parametrize("there_already", [0, 100_000])
def test_another_file_of_the_same_size_is_refused_and_removed(there_already, pull_error, server, folder, part):
    if there_already:
        part.write_bytes(BODY[:there_already])
    other_host = bytes(len(BODY))
    server.serve_file(PATH, other_host)
    message = pull_error()
    assert (
        f"{server.url}{PATH} has sha256 {hashlib.sha256(other_host).hexdigest()}, wanted is {WANTED.sha256}" in message
    )
    assert "If no node wants that one, remove it from that server." in message
    assert files_in(folder) == {}
    assert ranges(server)[-1] is None


@pytest.mark.parametrize("there_already", [0, 100_000])
@pytest.mark.parametrize("size", [299_999, 300_001, 0])
def test_a_file_of_another_size_is_refused_before_a_byte_is_written(
    size, there_already, pull_error, server, folder, part, monkeypatch
):
    if there_already:
        part.write_bytes(BODY[:there_already])
    server.serve_body(PATH, bytes(size))
    monkeypatch.setattr(os, "fdopen", None)  # what would write
    message = pull_error()
    assert (
        f"{PATH} has {size} bytes, wanted are 300000: it is another file. If no node wants that one, remove it"
        in message
    )
    assert "If nodes of another kind want it, set torch_extension_pull_url for this node" in message
    assert files_in(folder) == {}


def test_a_response_longer_than_the_file_is_another_file(pull_error, server, folder):
    """Without Content-Length it shows only then."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY + bytes(3_000_000))

    server.handlers[PATH] = answer
    assert f"{PATH} has more than 300000 bytes, which are wanted: it is another file" in pull_error()
    assert (files_in(folder), len(server.requests)) == ({}, 1)


def test_a_response_without_a_length_is_taken(pull, server, folder):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)

    server.handlers[PATH] = answer
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}


def test_a_download_that_breaks_is_continued_as_long_as_bytes_arrive(pull, server, folder, pauses):
    server.serve_file(PATH, BODY, cuts=[20_000] * 8 + [0, 0, 0, 0])
    assert pull() == PULLED
    assert files_in(folder) == {NAME: BODY}
    assert ranges(server)[:9] == [None, *(f"bytes={number}0000-" for number in range(2, 17, 2))]
    assert pauses == [1] * 8 + [2, 4, 8, 16]


def test_after_five_tries_without_new_bytes_it_gives_up_and_the_part_stays(
    pull, pull_error, server, folder, part, pauses
):
    server.serve_file(PATH, BODY, cuts=[20_000, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    message = pull_error()
    assert message.startswith(f"{server.url}{PATH} cannot be fetched by this node: ")
    assert "20000 bytes came, wanted are 300000. What has come stays, and the next run goes on." in message
    assert "copy" in message
    assert files_in(folder) == {part.name: BODY[:20_000]}
    assert (len(server.requests), pauses) == (6, [1, 2, 4, 8, 16])
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert ranges(server)[-1] == "bytes=20000-"


def test_a_server_that_starts_over_each_time_is_given_up(pull_error, server, pauses):
    """Now it gives more, now less: that is no progress."""
    sizes = [20_000, 10_000] * 50

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[: sizes.pop(0)])

    server.handlers[PATH] = answer
    assert "bytes came, wanted are 300000" in pull_error()
    assert (len(server.requests), pauses) == (6, [1, 2, 4, 8, 16])


def test_a_file_that_the_server_does_not_have_is_missing_and_no_error(pull, server, folder):
    assert pull() == MISSING
    assert (files_in(folder), len(server.requests)) == ({}, 1)
    server.serve_body(PATH, b"", status=410)
    assert pull() == MISSING


def test_a_part_stays_where_the_server_no_longer_has_the_file(pull, folder, part):
    part.write_bytes(BODY[:10])
    assert pull() == MISSING
    assert files_in(folder) == {part.name: BODY[:10]}


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_credentials_is_an_error_that_says_where_to_put_them(status, pull_error, server, folder):
    server.serve_body(PATH, b"", status=status)
    message = pull_error()
    assert f"{PATH} is refused to this node ({status} " in message
    assert "Put credentials for 127.0.0.1 into ~/.netrc of the user that the task becomes there" in message
    assert (files_in(folder), len(server.requests)) == ({}, 1)


@pytest.mark.parametrize("status", [400, 405, 418, 451, 501])
def test_another_error_status_is_not_retried(status, pull_error, server, folder):
    server.serve_body(PATH, b"", status=status)
    message = pull_error()
    assert f"the server answers {status} (" in message
    assert "Look at torch_extension_pull_url" in message
    assert (files_in(folder), len(server.requests)) == ({}, 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_transient_error_status_is_retried(status, pull, server, pauses):
    server.serve_file(PATH, BODY)
    whole, bad = server.handlers[PATH], [status] * 4
    server.handlers[PATH] = lambda handler: handler.send_error(bad.pop()) if bad else whole(handler)
    assert (pull(), pauses) == (PULLED, [1, 2, 4, 8])


def test_a_transient_error_status_that_stays_is_an_error(pull_error, server, folder):
    server.serve_body(PATH, b"", status=503)
    assert "cannot be fetched by this node: the server answers 503 (Service Unavailable). What" in pull_error()
    assert (files_in(folder), len(server.requests)) == ({}, 5)


def test_a_server_that_is_down_is_an_error(pull_error, folder, pauses):
    with running_server() as gone:
        pass
    assert "cannot be fetched by this node: Connection refused. What has come stays" in pull_error(f"{gone.url}/wheels")
    assert (files_in(folder), pauses) == ({}, [1, 2, 4, 8])


def test_a_host_that_does_not_resolve_is_an_error(pull_error):
    assert "https://nowhere.invalid/wheels/flash_attn" in pull_error("https://nowhere.invalid/wheels")


def test_a_server_that_does_not_respond_is_retried_after_the_timeout(pull, server, folder):
    server.serve_file(PATH, BODY)
    whole, silent, ended = server.handlers[PATH], [True], threading.Event()
    server.handlers[PATH] = lambda handler: ended.wait(20) if silent and silent.pop() else whole(handler)
    assert pull(seconds=0.3) == PULLED
    ended.set()
    assert files_in(folder) == {NAME: BODY}


def test_a_response_that_is_not_http_is_an_error(pull_error):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            for _try in range(5):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-nothing\r\n")

        threading.Thread(target=babble, daemon=True).start()
        message = pull_error(f"http://127.0.0.1:{listener.getsockname()[1]}/wheels")
    assert "the server's answer is broken (BadStatusLine(" in message


def test_a_certificate_that_is_not_trusted_is_an_error_with_the_knob(pull_error, https_server, folder, pauses):
    message = pull_error(https_server.url)
    assert message.startswith("This node does not trust the certificate of localhost: self")
    assert "Name the file of your site's CA in torch_extension_pull_ca_path." in message
    assert (files_in(folder), pauses) == ({}, [])


def test_a_certificate_of_the_sites_own_ca_is_trusted(pull, https_server, certificate):
    https_server.serve_file(PATH, BODY)
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED


def test_a_ca_file_may_hold_comments_in_any_language(pull, https_server, certificate):
    https_server.serve_file(PATH, BODY)
    text = f"# Főtanúsítvány\n{certificate.read_text()}\n# größer\n"
    assert pull(f"{https_server.url}/wheels", ca=text) == PULLED


def test_a_certificate_for_another_host_is_not_trusted(pull_error, certificate):
    with running_server(tls_context(certificate)) as server:
        message = pull_error(f"https://127.1:{server.port}/wheels", ca=certificate.read_text())
    assert "does not trust the certificate of 127.1: Hostname mismatch" in message


def test_credentials_go_to_their_server_over_tls(pull, https_server, certificate, netrc):
    netrc("machine localhost login me password s3cret\n")
    https_server.authorization = AUTHORIZATION
    https_server.serve_file(PATH, BODY)
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED


def test_credentials_for_all_go_to_the_server_over_tls(pull, https_server, certificate, netrc):
    netrc("machine elsewhere.example login you password other\ndefault login me password s3cret\n")
    https_server.authorization = AUTHORIZATION
    https_server.serve_file(PATH, BODY)
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED


def test_wrong_credentials_do_not_show_in_the_error(pull_error, https_server, certificate, netrc):
    netrc("machine localhost login me password s3cret\n")
    https_server.authorization = "Basic other"
    assert "is refused to this node (401" in pull_error(f"{https_server.url}/wheels", ca=certificate.read_text())
    assert https_server.headers[0]["Authorization"] == AUTHORIZATION


def test_without_tls_no_credentials_are_sent(pull_error, server, netrc):
    netrc("machine 127.0.0.1 login me password s3cret\ndefault login me password s3cret\n")
    server.authorization = AUTHORIZATION
    assert "which are sent over https alone" in pull_error()
    assert [headers.get("Authorization") for headers in server.headers] == [None]


@pytest.mark.parametrize("entry", ["machine localhost", "default"])
def test_a_redirect_to_another_host_gets_no_credentials(entry, pull, https_server, other_host, certificate, netrc):
    netrc(f"{entry} login me password s3cret\n")
    https_server.redirect(PATH, other_host.serve_file("/store", BODY))
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED
    assert [headers.get("Authorization") for headers in (*https_server.headers, *other_host.headers)] == [
        AUTHORIZATION,
        None,
    ]


def test_a_redirect_to_another_host_gets_the_credentials_of_that_host(
    pull, https_server, other_host, certificate, netrc
):
    netrc("machine localhost login me password s3cret\nmachine 127.0.0.1 login you password too\n")
    https_server.redirect(PATH, other_host.serve_file("/store", BODY))
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED
    assert other_host.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"you:too").decode()


@pytest.mark.parametrize("entry", ["machine localhost", "default"])
def test_a_redirect_to_the_same_host_gets_the_credentials_again(entry, pull, https_server, certificate, netrc):
    netrc(f"{entry} login me password s3cret\n")
    https_server.authorization = AUTHORIZATION
    https_server.redirect(PATH, https_server.serve_file("/store", BODY))
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED


def test_a_redirect_away_from_tls_gets_no_credentials(pull, https_server, server, certificate, netrc):
    netrc("machine localhost login me password s3cret\nmachine 127.0.0.1 login me password s3cret\n")
    https_server.redirect(PATH, server.serve_file("/store", BODY))
    assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED
    assert "Authorization" not in server.headers[0]


def test_a_download_that_breaks_after_a_redirect_is_continued(pull, server):
    with running_server() as store:
        server.redirect(PATH, store.serve_file("/store", BODY, cuts=[20_000]))
        assert pull() == PULLED
        assert ranges(store) == [None, "bytes=20000-"]


def test_proxies_are_those_of_the_environment(pull, server, monkeypatch):
    """The server is one that answers whole URLs, as a proxy does."""
    monkeypatch.setenv("http_proxy", server.url)
    server.serve_file(f"http://inside.example{PATH}", BODY)
    assert pull("http://inside.example/wheels") == PULLED
    assert server.requests == [f"http://inside.example{PATH}"]


def test_a_proxy_that_fails_is_named_without_its_credentials(pull_error, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:s3cret@"))
    server.serve_body(f"http://inside.example{PATH}", b"", status=502)
    message = pull_error("http://inside.example/wheels")
    assert (
        "by this node through the proxy of its environment (no_proxy=inside.example goes without): the server"
        in message
    )


def test_a_host_in_no_proxy_is_reached_directly(pull, pull_error, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.serve_body(PATH, b"", status=503)
    assert "proxy" not in pull_error()
    server.serve_file(PATH, BODY)
    assert pull() == PULLED


def test_proxy_and_server_each_get_their_own_credentials(pull, https_server, certificate, netrc, monkeypatch):
    netrc("machine localhost login me password s3cret\n")
    https_server.authorization = AUTHORIZATION
    https_server.serve_file(PATH, BODY)
    with running_proxy("Basic " + base64.b64encode(b"proxied:too").decode()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//proxied:too@"))
        assert pull(f"{https_server.url}/wheels", ca=certificate.read_text()) == PULLED
    assert proxy.requests == [f"localhost:{https_server.port}"]
    assert "Proxy-Authorization" not in https_server.headers[0]


def test_a_proxy_that_refuses_the_credentials_is_an_error(pull_error, https_server, certificate, monkeypatch):
    with running_proxy("Basic other") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:s3cret@"))
        message = pull_error(f"{https_server.url}/wheels", ca=certificate.read_text())
    assert (
        "through the proxy of its environment (no_proxy=localhost goes without): Tunnel connection failed: 407"
        in message
    )


@pytest.mark.parametrize("proxy", ["http://me:s3/cret@127.0.0.1:3128", "http://me@127.0.0.1:s3cret"])
def test_a_malformed_proxy_is_an_error_that_does_not_show_it(proxy, pull_error, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    message = pull_error()
    assert "s3" not in message
    assert "proxy" in message


def test_a_full_disk_is_an_error_and_nothing_stays(pull_error, server, folder):
    server.serve_file(PATH, BODY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        message = pull_error()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{NAME} cannot be written to {folder} on the node (File too large). Make room there, or set" in message
    assert "torch_extension_stage_dir" in message
    assert (files_in(folder), len(server.requests)) == ({}, 1)


def test_without_room_nothing_is_requested_and_nothing_stays(pull_error, server, folder, part):
    part.write_bytes(BODY[:10])
    free = shutil.disk_usage(folder).free
    message = pull_error(wanted=WANTED._replace(size=free * 2))
    assert f"{folder} on the node has " in message
    assert "MiB free, wanted are" in message
    assert (files_in(folder), server.requests) == ({}, [])


def test_a_folder_that_vanished_is_an_error(pull_error, server, folder):
    server.serve_file(PATH, BODY)
    whole = server.handlers[PATH]

    def answer(handler):
        shutil.rmtree(folder)
        whole(handler)

    server.handlers[PATH] = answer
    assert "cannot be written to" in pull_error()
    assert len(server.requests) == 1


def test_a_folder_in_the_place_of_the_file_is_an_error(pull_error, server, folder):
    server.serve_file(PATH, BODY)
    (folder / NAME).mkdir()
    assert "cannot be written to" in pull_error()
    assert os.listdir(folder) == [NAME]


def test_parent_folders_are_made_for_the_user_alone(home):
    assert make_folder("~/a/b") == f"{home}/a/b"
    assert (mode(home / "a"), mode(home / "a/b")) == (0o700, 0o700)


def test_the_path_of_the_folder_is_returned_without_links(tmp_path):
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    assert make_folder(str(tmp_path / "link")) == str(tmp_path / "real")
    assert mode(tmp_path / "real") == 0o755


@pytest.mark.parametrize("others", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(others, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(others)
    with pytest.raises(TorchExtensionError, match=r"may write to .*/open \(owner .*torch_extension_stage_dir"):
        make_folder(str(tmp_path / "open"))


@needs_root
def test_a_folder_below_one_of_another_user_is_refused_unless_that_one_is_trusted(open_folder):
    (open_folder / "theirs").mkdir()
    os.chown(open_folder / "theirs", OWNER, OWNER)
    with pytest.raises(
        TorchExtensionError, match=rf"{open_folder}/theirs belongs to {OWNER} .*torch_extension_stage_dir"
    ):
        make_folder(f"{open_folder}/theirs/stage")
    assert make_folder(f"{open_folder}/theirs/stage", [str(OWNER)]) == f"{open_folder}/theirs/stage"


def test_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path if os.geteuid() == 0 else Path("/")
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    with pytest.raises(TorchExtensionError, match=f"{folder} belongs to "):
        make_folder(str(folder))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/x"):
        with pytest.raises(TorchExtensionError, match=f"{folder} on the node cannot be made or used"):
            make_folder(str(tmp_path / folder))


def test_two_runs_that_fetch_the_same_file_do_not_disturb_each_other(pull, server, folder):
    """A run that is killed leaves its module at the node, and the next one comes."""
    server.serve_file(PATH, BODY, pause=0.05)
    outcomes = []
    both = [threading.Thread(target=lambda: outcomes.append(pull())) for _number in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (sorted(outcomes), files_in(folder)) == ([PULLED, PRESENT], {NAME: BODY})
    assert server.request_lines() == [f"GET {PATH}"]


def test_what_another_run_keeps_locked_is_left_to_it_and_named(pull, server, folder, part, monkeypatch):
    server.serve_file(PATH, BODY)
    monkeypatch.setattr(locking.lock, "__defaults__", (0.3,))
    with open(part, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TorchExtensionError) as caught:
            pull()
        assert f"{part.name} is held by process {os.getpid()} of user " in str(caught.value)
        assert (part.exists(), server.requests) == (True, [])


def test_a_run_that_waited_for_one_that_failed_fetches_the_file(pull, server, folder, part):
    server.serve_file(PATH, BODY)
    with open(part, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcomes = []
        waiting = threading.Thread(target=lambda: outcomes.append(pull()))
        waiting.start()
        waiting.join(0.3)
        assert (waiting.is_alive(), server.requests) == (True, [])
    waiting.join(10)
    assert (outcomes, files_in(folder)) == ([PULLED], {NAME: BODY})


# Servers that do not get to an end, or send what no server should

OK = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "status": trickle(b"HTTP/1.1 200 OK "),
    "headers": trickle(b"X-A: b\r\n", OK),
    "one header": trickle(b"a", OK + b"X-A: "),
    "continue": trickle(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": trickle(b"a", OK + b"Content-Length: 300000\r\n\r\n"),
    "body without a length": trickle(b"a", OK + b"\r\n"),
    "size of a chunk": trickle(b"0", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "chunks": trickle(b"1\r\na\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_a_server_that_trickles_is_not_waited_for(answer, pull_error, folder):
    with raw_server(answer) as slow:
        begun = time.monotonic()
        message = pull_error(slow.url, seconds=0.5, pace=Limit(0.5, 1000))
        assert time.monotonic() - begun < 30
    assert re.search(
        "no answer came in 1 s|less than 1000 bytes were transferred in 0 s|got more than 100 headers", message
    )
    assert 4 <= slow.requests <= 6


def test_one_byte_for_each_connection_is_no_progress(pull_error):
    sent = []

    def answer(line, over):
        sent.append(1)
        line.sendall(OK + b"Content-Length: 300000\r\n\r\n" + BODY[: len(sent)])

    with raw_server(answer) as slow:
        pull_error(slow.url)
        assert slow.requests == 5


def test_tls_that_is_not_agreed_on_is_not_waited_for(pull_error):
    with raw_server(trickle(b"\0", b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"), reads=False) as slow:
        assert "cannot be fetched by this node: " in pull_error(slow.url.replace("http:", "https:"), seconds=0.5)


def test_a_proxy_that_does_not_connect_is_not_waited_for(pull_error, monkeypatch):
    with raw_server(trickle(b"X-A: b\r\n", OK)) as slow:
        monkeypatch.setenv("https_proxy", slow.url)
        assert "cannot be fetched by this node through the proxy" in pull_error("https://far.example", seconds=0.5)


ODD_HEADS = {
    "length": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    "superscript length": OK + "Content-Length: \xb2\r\n\r\nx".encode("latin-1"),
    "negative length": OK + b"Content-Length: -5\r\n\r\nx",
    "location": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[bad\r\n\r\n",
    "location with a bad port": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://a:b/\r\n\r\n",
    "location of another kind": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: file:///etc/passwd\r\n\r\n",
    "location that is no text": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: \xff\xfe\x01\r\n\r\n",
    "chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\nabc",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "range": b"HTTP/1.1 206 Part\r\nContent-Range: bytes " + b"9" * 5000 + b"-1/2\r\n\r\nx",
    "status": b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
    "reason": b"HTTP/1.1 500 " + b"x" * 5000 + b"\x1b[31m\r\n\r\n",
    "many headers": OK + b"A: b\r\n" * 200 + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("head", ODD_HEADS.values(), ids=ODD_HEADS)
def test_an_answer_that_no_server_should_give_is_an_error_in_words(head, pull_error):
    with raw_server(send(head)) as odd:
        message = limited.run(lambda: pull_error(odd.url), seconds=5, mebibytes=512)
    assert len(message) < 1500
    assert message.isprintable()


def test_a_body_without_an_end_ends_with_the_size_that_is_wanted(pull_error, folder):
    with raw_server(flood(b"x", OK + b"\r\n")) as endless:
        assert "has more than 300000 bytes" in pull_error(endless.url)
    assert files_in(folder) == {}


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_body_that_nobody_wants_is_not_read(status, pull_error, folder):
    head = f"HTTP/1.1 {status} Some\r\nLocation: /again\r\n\r\n".encode()
    with raw_server(flood(b"x", head)) as endless:
        if status == 404:
            assert limited.run(lambda: pull_outcome(endless.url, folder), seconds=5, mebibytes=256) == MISSING
        else:
            limited.run(lambda: pull_error(endless.url), seconds=5, mebibytes=256)


def pull_outcome(url, folder):
    return Puller(url, str(folder), build_opener(), lambda seconds: None, 5).pull(WANTED)


def test_a_redirect_to_another_kind_of_address_is_not_followed(pull_error, server):
    server.redirect(PATH, "ftp://127.0.0.1:9/x")
    assert "it redirects to no http: or https:" in pull_error()

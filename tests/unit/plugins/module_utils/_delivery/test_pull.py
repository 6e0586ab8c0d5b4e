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
import resource
import shutil
import socket
import stat
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
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
    check_url,
    extract_certificates,
)

NAME = "flash_attn-2.8.3+cu12torch2.6-cp311-cp311-linux_x86_64.whl"
PATH = f"/wheels/{quote(NAME)}"
BODY = random.Random(7).randbytes(300_000)  # noqa: S311
WANTED = RemoteFile(NAME, hashlib.sha256(BODY).hexdigest(), len(BODY))
ME = "Basic " + base64.b64encode(b"me:s3cret").decode()


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

    def pull(url=None, wanted=WANTED, seconds=10, **more):
        puller = Puller(url or f"{server.url}/wheels/", str(folder), build_opener(**more), pauses.append, seconds)
        return puller.pull(wanted)

    return pull


@pytest.fixture
def refused(pull, part):
    """The words in which a fetch is refused."""

    def refused(*args, **more):
        with pytest.raises(TorchExtensionError) as raised:
            pull(*args, **more)
        assert "s3cret" not in str(raised.value)
        return str(raised.value)

    return refused


@pytest.fixture
def secure(certificate):
    with running_server(tls_context(certificate)) as started:
        yield started


@pytest.fixture
def other(certificate):
    """The same, of which this machine thinks that it is another."""
    with running_server(tls_context(certificate)) as started:
        started.url = f"https://127.0.0.1:{started.port}"
        yield started


@pytest.fixture
def netrc(home):
    def netrc(text):
        (home / ".netrc").write_text(text)

    return netrc


def there(folder):
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


def test_a_file_comes_whole_for_the_user_alone_and_is_not_asked_for_again(pull, server, folder):
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert there(folder) == {NAME: BODY}
    assert (mode(folder), mode(folder / NAME)) == (0o700, 0o600)
    assert pull() == PRESENT
    assert server.request_lines() == [f"GET {PATH}"]
    assert "%2B" in server.requests[0]


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_it_does_not_matter_how_the_url_of_the_folder_ends(end, pull, server):
    server.serve_file(PATH, BODY)
    assert pull(f"{server.url}/wheels{end}") == PULLED


def test_what_an_earlier_run_has_brought_is_not_fetched_again(pull, server, folder, part):
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert there(folder) == {NAME: BODY}
    assert ranges(server) == ["bytes=100000-"]


def test_where_all_has_come_the_server_is_not_asked(pull, server, folder, part):
    part.write_bytes(BODY)
    assert pull() == PULLED
    assert (there(folder), server.requests) == ({NAME: BODY}, [])


def test_a_server_without_ranges_gives_it_anew(pull, server, folder, part):
    part.write_bytes(BODY[:100_000])
    server.serve_body(PATH, BODY)
    assert pull() == PULLED
    assert (there(folder), len(server.requests)) == ({NAME: BODY}, 1)


@pytest.mark.parametrize("content_range", ["bytes 5-299999/300000", "bytes */300000", "no range", "bytes 1000000-"])
def test_another_part_than_the_one_asked_for_is_not_used(content_range, pull, server, folder, part, pauses):
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    whole, wrong = server.handlers[PATH], give_range(server, content_range, BODY[5:])
    server.handlers[PATH] = lambda handler: (wrong if "Range" in handler.headers else whole)(handler)
    assert pull() == PULLED
    assert there(folder) == {NAME: BODY}
    assert (ranges(server), pauses) == (["bytes=100000-", None], [1])


def test_a_part_that_nobody_asked_for_is_not_used(refused, server, folder):
    server.handlers[PATH] = give_range(server, "bytes 5-299999/300000", BODY[5:])
    assert "the server gives bytes 5-299999/300000, asked for was 0-" in refused()
    assert there(folder) == {}


def test_where_the_server_has_less_it_is_fetched_anew(pull, server, folder, part):
    """416: nothing there from this byte on."""
    part.write_bytes(BODY[:100_000])
    server.serve_file(PATH, BODY)
    whole = server.handlers[PATH]
    server.handlers[PATH] = lambda handler: handler.send_error(416) if "Range" in handler.headers else whole(handler)
    assert pull() == PULLED
    assert (there(folder), ranges(server)) == ({NAME: BODY}, ["bytes=100000-", None])


def test_what_is_longer_than_the_file_is_no_part_of_it(pull, server, folder, part):
    part.write_bytes(BODY + b"x")
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert (there(folder), ranges(server)) == ({NAME: BODY}, [None])


@pytest.mark.parametrize("there_already", [100_000, len(BODY)])
def test_where_the_part_was_of_another_file_it_is_fetched_once_more(there_already, pull, server, folder, part):
    part.write_bytes(bytes(there_already))
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    asked = ["bytes=100000-", None] if there_already < len(BODY) else [None]
    assert (there(folder), ranges(server)) == ({NAME: BODY}, asked)


@pytest.mark.parametrize("there_already", [0, 100_000])
def test_another_file_of_this_size_is_refused_and_nothing_stays_of_it(there_already, refused, server, folder, part):
    if there_already:
        part.write_bytes(BODY[:there_already])
    other = bytes(len(BODY))
    server.serve_file(PATH, other)
    said = refused()
    assert f"{server.url}{PATH} has sha256 {hashlib.sha256(other).hexdigest()}, wanted is {WANTED.sha256}" in said
    assert "Remove it from that server, or name another folder in torch_extension_pull_url" in said
    assert there(folder) == {}
    assert ranges(server)[-1] is None


@pytest.mark.parametrize("there_already", [0, 100_000])
@pytest.mark.parametrize("size", [299_999, 300_001, 0])
def test_another_size_is_refused_before_a_byte_is_written(
    size, there_already, refused, server, folder, part, monkeypatch
):
    if there_already:
        part.write_bytes(BODY[:there_already])
    server.serve_body(PATH, bytes(size))
    monkeypatch.setattr(os, "fdopen", None)  # what would write
    assert f"{PATH} has {size} bytes, wanted are 300000: it is another file. Remove it" in refused()
    assert there(folder) == {}


def test_what_does_not_end_where_it_should_is_another_file(refused, server, folder):
    """Without Content-Length it shows only then."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY + bytes(3_000_000))

    server.handlers[PATH] = answer
    assert f"{PATH} has more than 300000 bytes, which are wanted: it is another file" in refused()
    assert (there(folder), len(server.requests)) == ({}, 1)


def test_what_comes_without_a_length_is_taken(pull, server, folder):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)

    server.handlers[PATH] = answer
    assert pull() == PULLED
    assert there(folder) == {NAME: BODY}


def test_connections_that_are_cut_are_taken_up_again_as_long_as_something_comes(pull, server, folder, pauses):
    server.serve_file(PATH, BODY, cuts=[20_000] * 8 + [0, 0, 0, 0])
    assert pull() == PULLED
    assert there(folder) == {NAME: BODY}
    assert ranges(server)[:9] == [None, *(f"bytes={number}0000-" for number in range(2, 17, 2))]
    assert pauses == [1] * 8 + [2, 4, 8, 16]


def test_after_five_tries_that_have_brought_nothing_it_gives_up_and_what_has_come_stays(
    pull, refused, server, folder, part, pauses
):
    server.serve_file(PATH, BODY, cuts=[20_000, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    said = refused()
    assert said.startswith(f"{server.url}{PATH} cannot be fetched by this node: ")
    assert "20000 bytes came, wanted are 300000. What has come stays, and the next run goes on." in said
    assert "copy" in said
    assert there(folder) == {part.name: BODY[:20_000]}
    assert (len(server.requests), pauses) == (6, [1, 2, 4, 8, 16])
    server.serve_file(PATH, BODY)
    assert pull() == PULLED
    assert ranges(server)[-1] == "bytes=20000-"


def test_a_server_that_begins_anew_each_time_is_not_asked_for_ever(refused, server, pauses):
    """Now it gives more, now less: that is no progress."""
    sizes = [20_000, 10_000] * 50

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[: sizes.pop(0)])

    server.handlers[PATH] = answer
    assert "bytes came, wanted are 300000" in refused()
    assert (len(server.requests), pauses) == (6, [1, 2, 4, 8, 16])


def test_what_the_server_does_not_have_is_no_error_and_makes_no_file(pull, server, folder):
    assert pull() == MISSING
    assert (there(folder), len(server.requests)) == ({}, 1)
    server.serve_body(PATH, b"", status=410)
    assert pull() == MISSING


def test_what_an_earlier_run_has_brought_stays_where_the_server_does_not_have_it_now(pull, folder, part):
    part.write_bytes(BODY[:10])
    assert pull() == MISSING
    assert there(folder) == {part.name: BODY[:10]}


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_credentials_is_told_with_where_to_put_them(status, refused, server, folder):
    server.serve_body(PATH, b"", status=status)
    said = refused()
    assert f"{PATH} is refused to this node ({status} " in said
    assert "Put credentials for 127.0.0.1 into ~/.netrc of the user that the task becomes there" in said
    assert (there(folder), len(server.requests)) == ({}, 1)


@pytest.mark.parametrize("status", [400, 405, 418, 451, 501])
def test_a_server_that_answers_something_else_is_not_asked_again(status, refused, server, folder):
    server.serve_body(PATH, b"", status=status)
    said = refused()
    assert f"the server answers {status} (" in said
    assert "Look at torch_extension_pull_url" in said
    assert (there(folder), len(server.requests)) == ({}, 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_that_is_out_of_order_is_asked_again(status, pull, server, pauses):
    server.serve_file(PATH, BODY)
    whole, bad = server.handlers[PATH], [status] * 4
    server.handlers[PATH] = lambda handler: handler.send_error(bad.pop()) if bad else whole(handler)
    assert (pull(), pauses) == (PULLED, [1, 2, 4, 8])


def test_a_server_that_stays_out_of_order_is_an_error(refused, server, folder):
    server.serve_body(PATH, b"", status=503)
    assert "cannot be fetched by this node: the server answers 503 (Service Unavailable). What" in refused()
    assert (there(folder), len(server.requests)) == ({}, 5)


def test_a_server_that_is_down_is_an_error(refused, folder, pauses):
    with running_server() as gone:
        pass
    assert "cannot be fetched by this node: Connection refused. What has come stays" in refused(f"{gone.url}/wheels")
    assert (there(folder), pauses) == ({}, [1, 2, 4, 8])


def test_a_host_that_nobody_knows_is_an_error(refused):
    assert "https://nowhere.invalid/wheels/flash_attn" in refused("https://nowhere.invalid/wheels")


def test_a_server_that_says_nothing_is_left_after_a_while_and_asked_again(pull, server, folder):
    server.serve_file(PATH, BODY)
    whole, silent, ended = server.handlers[PATH], [True], threading.Event()
    server.handlers[PATH] = lambda handler: ended.wait(20) if silent and silent.pop() else whole(handler)
    assert pull(seconds=0.3) == PULLED
    ended.set()
    assert there(folder) == {NAME: BODY}


def test_what_is_no_server_of_this_kind_is_an_error(refused):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            for _try in range(5):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-nothing\r\n")

        threading.Thread(target=babble, daemon=True).start()
        said = refused(f"http://127.0.0.1:{listener.getsockname()[1]}/wheels")
    assert "the server's answer is broken (BadStatusLine(" in said


def test_a_certificate_that_is_not_trusted_is_told_with_the_knob(refused, secure, folder, pauses):
    said = refused(secure.url)
    assert said.startswith("This node does not trust the certificate of localhost: self")
    assert "Name the file of your site's CA in torch_extension_pull_ca_path." in said
    assert (there(folder), pauses) == ({}, [])


def test_a_certificate_of_the_sites_own_ca_is_trusted(pull, secure, certificate):
    secure.serve_file(PATH, BODY)
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED


def test_a_file_of_cas_may_hold_comments_in_any_language(pull, secure, certificate):
    secure.serve_file(PATH, BODY)
    text = f"# Főtanúsítvány\n{certificate.read_text()}\n# größer\n"
    assert pull(f"{secure.url}/wheels", ca=text) == PULLED


def test_a_certificate_for_another_host_is_not_trusted(refused, certificate):
    with running_server(tls_context(certificate)) as server:
        said = refused(f"https://127.1:{server.port}/wheels", ca=certificate.read_text())
    assert "does not trust the certificate of 127.1: Hostname mismatch" in said


@pytest.mark.parametrize(
    "text",
    ["", "no PEM", "größe", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "not ASCII", "broken"],
)
def test_a_file_of_cas_without_any_is_refused(text):
    with pytest.raises(TorchExtensionError, match=r"^torch_extension_pull_ca_path has no certificates \(PEM"):
        build_opener(text)


def test_nothing_but_certificates_is_taken_from_a_file_of_cas(certificate):
    assert "PRIVATE KEY" in certificate.read_text()
    assert "PRIVATE" not in extract_certificates(certificate.read_text())


def test_credentials_go_to_their_server_over_tls(pull, secure, certificate, netrc):
    netrc("machine localhost login me password s3cret\n")
    secure.authorization = ME
    secure.serve_file(PATH, BODY)
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED


def test_credentials_for_all_go_to_the_server_over_tls(pull, secure, certificate, netrc):
    netrc("machine elsewhere.example login you password other\ndefault login me password s3cret\n")
    secure.authorization = ME
    secure.serve_file(PATH, BODY)
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED


def test_wrong_credentials_are_not_told(refused, secure, certificate, netrc):
    netrc("machine localhost login me password s3cret\n")
    secure.authorization = "Basic other"
    assert "is refused to this node (401" in refused(f"{secure.url}/wheels", ca=certificate.read_text())
    assert secure.headers[0]["Authorization"] == ME


def test_without_tls_no_credentials_are_sent(refused, server, netrc):
    netrc("machine 127.0.0.1 login me password s3cret\ndefault login me password s3cret\n")
    server.authorization = ME
    assert "which are sent over https alone" in refused()
    assert [headers.get("Authorization") for headers in server.headers] == [None]


@pytest.mark.parametrize("entry", ["machine localhost", "default"])
def test_credentials_do_not_go_to_another_host_to_which_the_server_leads(
    entry, pull, secure, other, certificate, netrc
):
    netrc(f"{entry} login me password s3cret\n")
    secure.redirect(PATH, other.serve_file("/store", BODY))
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED
    assert [headers.get("Authorization") for headers in (*secure.headers, *other.headers)] == [ME, None]


def test_another_host_to_which_the_server_leads_gets_its_own_credentials(pull, secure, other, certificate, netrc):
    netrc("machine localhost login me password s3cret\nmachine 127.0.0.1 login you password too\n")
    secure.redirect(PATH, other.serve_file("/store", BODY))
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED
    assert other.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"you:too").decode()


@pytest.mark.parametrize("entry", ["machine localhost", "default"])
def test_where_the_server_leads_to_itself_it_gets_the_credentials_again(entry, pull, secure, certificate, netrc):
    netrc(f"{entry} login me password s3cret\n")
    secure.authorization = ME
    secure.redirect(PATH, secure.serve_file("/store", BODY))
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED


def test_where_the_server_leads_away_from_tls_no_credentials_are_sent(pull, secure, server, certificate, netrc):
    netrc("machine localhost login me password s3cret\nmachine 127.0.0.1 login me password s3cret\n")
    secure.redirect(PATH, server.serve_file("/store", BODY))
    assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED
    assert "Authorization" not in server.headers[0]


def test_what_is_cut_behind_a_redirection_is_taken_up_again(pull, server):
    with running_server() as store:
        server.redirect(PATH, store.serve_file("/store", BODY, cuts=[20_000]))
        assert pull() == PULLED
        assert ranges(store) == [None, "bytes=20000-"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("machine localhost login me s3cret\n", r"line \d is not understood"),
        ("\nmachine localhost login me password s3cret\ns3cret\n", r"line \d is not understood"),
    ],
    ids=["no keyword", "no entry"],
)
def test_a_file_of_credentials_that_is_broken_is_an_error_that_does_not_tell_them(text, reason, home):
    (home / ".netrc").write_text(text)
    with pytest.raises(TorchExtensionError, match=reason) as raised:
        build_opener()
    assert "s3cret" not in str(raised.value)
    assert str(raised.value).startswith(f"{home}/.netrc on the node cannot be read: ")


def test_a_file_of_credentials_in_other_characters_is_an_error_that_does_not_tell_them(home):
    (home / ".netrc").write_bytes(b"machine localhost login me password s3cret\xff\n")
    with pytest.raises(TorchExtensionError, match=r"\.netrc on the node cannot be read: its characters are not"):
        build_opener()


def test_a_file_of_credentials_that_cannot_be_read_is_an_error(home):
    (home / ".netrc").mkdir()
    with pytest.raises(TorchExtensionError, match=r"\.netrc on the node cannot be read: Is a directory\. Correct it\."):
        build_opener()


def test_proxies_are_those_of_the_environment(pull, server, monkeypatch):
    """The server is one that answers whole URLs, as a proxy does."""
    monkeypatch.setenv("http_proxy", server.url)
    server.serve_file(f"http://inside.example{PATH}", BODY)
    assert pull("http://inside.example/wheels") == PULLED
    assert server.requests == [f"http://inside.example{PATH}"]


def test_a_proxy_that_does_not_get_there_is_named_but_not_its_credentials(refused, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:s3cret@"))
    server.serve_body(f"http://inside.example{PATH}", b"", status=502)
    said = refused("http://inside.example/wheels")
    assert (
        "by this node through the proxy of its environment (no_proxy=inside.example goes without): the server" in said
    )


def test_a_host_that_is_excepted_from_the_proxy_is_asked_itself(pull, refused, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.serve_body(PATH, b"", status=503)
    assert "proxy" not in refused()
    server.serve_file(PATH, BODY)
    assert pull() == PULLED


def test_behind_a_proxy_each_of_both_gets_its_own_credentials(pull, secure, certificate, netrc, monkeypatch):
    netrc("machine localhost login me password s3cret\n")
    secure.authorization = ME
    secure.serve_file(PATH, BODY)
    with running_proxy("Basic " + base64.b64encode(b"proxied:too").decode()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//proxied:too@"))
        assert pull(f"{secure.url}/wheels", ca=certificate.read_text()) == PULLED
    assert proxy.requests == [f"localhost:{secure.port}"]
    assert "Proxy-Authorization" not in secure.headers[0]


def test_a_proxy_that_wants_other_credentials_is_told(refused, secure, certificate, monkeypatch):
    with running_proxy("Basic other") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:s3cret@"))
        said = refused(f"{secure.url}/wheels", ca=certificate.read_text())
    assert (
        "through the proxy of its environment (no_proxy=localhost goes without): Tunnel connection failed: 407" in said
    )


@pytest.mark.parametrize("proxy", ["http://me:s3/cret@127.0.0.1:3128", "http://me@127.0.0.1:s3cret"])
def test_a_proxy_that_is_none_is_an_error_that_does_not_show_it(proxy, refused, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    said = refused()
    assert "s3" not in said
    assert "proxy" in said


def test_a_disk_that_fills_up_is_told_and_nothing_stays(refused, server, folder):
    server.serve_file(PATH, BODY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        said = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{NAME} cannot be written to {folder} on the node (File too large). Make room there, or set" in said
    assert "torch_extension_stage_dir" in said
    assert (there(folder), len(server.requests)) == ({}, 1)


def test_without_room_nothing_is_asked_for_and_nothing_stays(refused, server, folder, part):
    part.write_bytes(BODY[:10])
    free = shutil.disk_usage(folder).free
    said = refused(wanted=WANTED._replace(size=free * 2))
    assert f"{folder} on the node has " in said
    assert "MiB free, wanted are" in said
    assert (there(folder), server.requests) == ({}, [])


def test_a_folder_that_is_gone_meanwhile_is_an_error(refused, server, folder):
    server.serve_file(PATH, BODY)
    whole = server.handlers[PATH]

    def answer(handler):
        shutil.rmtree(folder)
        whole(handler)

    server.handlers[PATH] = answer
    assert "cannot be written to" in refused()
    assert len(server.requests) == 1


def test_a_folder_in_the_place_of_the_file_is_an_error(refused, server, folder):
    server.serve_file(PATH, BODY)
    (folder / NAME).mkdir()
    assert "cannot be written to" in refused()
    assert os.listdir(folder) == [NAME]


def test_folders_on_the_way_are_made_for_the_user_alone(home):
    assert make_folder("~/a/b") == f"{home}/a/b"
    assert (mode(home / "a"), mode(home / "a/b")) == (0o700, 0o700)


def test_the_folder_is_told_without_links(tmp_path):
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    assert make_folder(str(tmp_path / "link")) == str(tmp_path / "real")
    assert mode(tmp_path / "real") == 0o755


@pytest.mark.parametrize("others", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(others, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(others)
    with pytest.raises(TorchExtensionError, match=r"others may write to it\).*torch_extension_stage_dir"):
        make_folder(str(tmp_path / "open"))


def test_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path if os.geteuid() == 0 else Path("/")
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    with pytest.raises(TorchExtensionError, match="it belongs to another user"):
        make_folder(str(folder))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/x"):
        with pytest.raises(TorchExtensionError, match=f"{folder} on the node cannot be made or used"):
            make_folder(str(tmp_path / folder))


@pytest.mark.parametrize("url", ["https://artifacts.example/wheels/", "http://10.0.0.1:8081", "https://[::1]/a%20b"])
def test_the_address_of_a_folder_is_taken_as_it_is(url):
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://artifacts.example/", "http:// or https:// and a host"),
        ("artifacts.example/wheels", "http:// or https:// and a host"),
        ("https:///wheels", "http:// or https:// and a host"),
        ("https://artifacts.example:0/", "http:// or https:// and a host"),
        ("https://artifacts.example:x/", "a number"),
        ("https://[::1/", "a number"),
        ("https://artifacts.example/wheels?token=s3cret", "without ? or #"),
        ("https://artifacts.example/wheels#a", "without ? or #"),
        ("https://artifacts.example/my wheels/", "%20"),
        ("https://artifacts.example/größe/", "%20"),
        ("https://artifacts.example/a\nb", "%20"),
        ("https://me:s3cret@artifacts.example/", "credentials for artifacts.example, which would be shown"),
        ("https://me@artifacts.example/", "credentials for artifacts.example, which would be shown"),
        ("https://me:s3/cret@artifacts.example/", "a number"),
    ],
)
def test_what_is_no_address_of_a_folder_is_refused_and_credentials_are_not_shown(url, words):
    with pytest.raises(TorchExtensionError) as raised:
        check_url(url)
    assert words in str(raised.value)
    assert "torch_extension_pull_url" in str(raised.value)
    assert "s3" not in str(raised.value)


def test_two_that_fetch_the_same_do_not_get_in_each_others_way(pull, server, folder):
    """A run that is killed leaves its module at the node, and the next one comes."""
    server.serve_file(PATH, BODY, pause=0.05)
    outcomes = []
    both = [threading.Thread(target=lambda: outcomes.append(pull())) for _number in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (sorted(outcomes), there(folder)) == ([PULLED, PRESENT], {NAME: BODY})
    assert server.request_lines() == [f"GET {PATH}"]


def test_who_waited_for_one_that_failed_fetches_it(pull, server, folder, part):
    server.serve_file(PATH, BODY)
    with open(part, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcomes = []
        waiting = threading.Thread(target=lambda: outcomes.append(pull()))
        waiting.start()
        waiting.join(0.3)
        assert (waiting.is_alive(), server.requests) == (True, [])
    waiting.join(10)
    assert (outcomes, there(folder)) == ([PULLED], {NAME: BODY})

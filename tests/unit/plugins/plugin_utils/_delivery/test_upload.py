# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server takes what is PUT there, over TLS where credentials are."""

from __future__ import annotations

import base64
import hashlib
import socket
from urllib.parse import quote

import pytest
from servers import running_server, tls_context

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.upload import Uploader

NAME = "flash_attn-2.8.3+cu12torch2.6-cp311-cp311-linux_x86_64.whl"
PATH = f"/wheels/{quote(NAME)}"
BODY = bytes(range(256)) * 12_000
ME = "Basic " + base64.b64encode(b"me:s3cret").decode()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(BODY)
    return File(str(path), hashlib.sha256(BODY).hexdigest())


@pytest.fixture
def secure(certificate):
    with running_server(tls_context(certificate)) as started:
        started.accept_uploads("/wheels/")
        yield started


@pytest.fixture
def netrc(home):
    def netrc(*machines):
        (home / ".netrc").write_text("".join(f"machine {name} login me password s3cret\n" for name in machines))

    return netrc


def refusal(url, file, ca_path=None):
    """The words in which an upload is refused."""
    with pytest.raises(TorchExtensionError) as raised:
        Uploader(url, ca_path and str(ca_path)).upload(file)
    message = str(raised.value)
    assert "s3cret" not in message
    assert "Nothing was changed on the nodes. torch_extension_delivery has other ways" in message
    return message


def credentials(server):
    return [headers.get("Authorization") for headers in server.headers]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_file_is_uploaded_once_and_with_its_hash(end, server, file):
    url = server.accept_uploads("/wheels/")
    uploader = Uploader(f"{url.rstrip('/')}{end}", None)
    assert [uploader.upload(file) for _run in range(2)] == [True, False]
    assert server.request_lines() == [f"HEAD {PATH}", f"PUT {PATH}", f"HEAD {PATH}"]
    assert "%2B" in PATH
    assert server.read(PATH) == BODY
    headers = server.headers[1]
    assert (headers["X-Checksum-Sha256"], headers["Content-Length"]) == (file.sha256, str(len(BODY)))


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_success_status_of_an_upload_is_accepted(status, server, file):
    assert Uploader(server.accept_uploads("/wheels/", status=status), None).upload(file)


def test_another_file_of_the_same_name_is_not_replaced(server, file):
    url = server.accept_uploads("/wheels/")
    server.serve_file(PATH, b"other")
    message = refusal(url, file)
    assert message.startswith(
        f"{server.url}{PATH} has 5 bytes, wanted are {len(BODY)}: it is another file, and stays. If"
    )
    assert "If nodes of another kind want it, set torch_extension_pull_url for this node" in message
    assert server.read(PATH) == b"other"


@pytest.mark.parametrize("reads", [True, False], ids=["after all has come", "at once"])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            401,
            "(401 Unauthorized). It wants credentials for 127.0.0.1 in ~/.netrc of the control node; they are sent over https",
        ),
        (403, "(403 Forbidden). It wants other credentials for 127.0.0.1 in ~/.netrc of the control node, or takes no"),
        (404, "(404 Not Found). There is no such folder, and it does not make it."),
        (405, "(405 Method Not Allowed). It takes no files there."),
        (409, "(409 Conflict). There is no such folder, and it does not make it."),
        (413, "(413 Request Entity Too Large). It takes no files of that size."),
        (500, "(500 Internal Server Error). Look at its log; its disk may be full."),
        (507, "(507 Insufficient Storage). It has no room."),
        (307, "(307 Temporary Redirect). It leads to https://elsewhere.example, where no upload follows it."),
        (301, "(301 Moved Permanently). It leads to https://elsewhere.example, where no upload follows it."),
    ],
)
def test_a_refused_upload_is_an_error_that_says_what_to_do(status, words, reads, server, file):
    url = server.accept_uploads("/wheels/", status=status, reads=reads)
    message = refusal(url, file)
    assert f"{url.rstrip('/')} does not take {NAME} from the control node {words}" in message
    assert f"Put the file there yourself (it is {file.path} on the control node), or name another folder in" in message
    assert server.request_lines() == [f"HEAD {PATH}", f"PUT {PATH}"]


def test_a_server_that_does_not_support_uploads_is_an_error(server, file):
    assert "(405 Method Not Allowed). It takes no files there." in refusal(f"{server.url}/wheels", file)


def test_without_the_credentials_that_the_server_wants_the_file_is_not_sent(server, file):
    url = server.accept_uploads("/wheels/")
    server.authorization = ME
    assert "(401 Unauthorized). It wants credentials for 127.0.0.1" in refusal(url, file)
    assert server.request_lines() == [f"HEAD {PATH}"]


def test_a_server_that_hangs_up_is_an_error_and_the_next_upload_starts_over(server, file):
    url = server.accept_uploads("/wheels/", limit=100_000)
    message = refusal(url, file)
    assert message.startswith(f"{NAME} cannot be put onto {url.rstrip('/')} from the control node: ")
    assert "except 127.0.0.1 from it in no_proxy" in message
    server.accept_uploads("/wheels/")
    assert Uploader(url, None).upload(file)
    assert server.read(PATH) == BODY


def test_a_server_that_is_down_is_an_error(file):
    with running_server() as gone:
        pass
    message = refusal(f"{gone.url}/wheels", file)
    assert message.startswith(f"{NAME} cannot be put onto {gone.url}/wheels from the control node: ")
    assert "Connection refused" in message


def test_a_server_without_tls_at_an_https_url_is_an_error(file, certificate):
    with running_server() as plain:
        message = refusal(plain.url.replace("http://127.0.0.1", "https://localhost"), file, certificate)
    assert "localhost" in message
    assert "certificate" not in message


def test_a_file_that_is_gone_is_an_error(server, file, tmp_path):
    (tmp_path / NAME).unlink()
    assert "No such file" in refusal(server.accept_uploads("/wheels/"), file._replace(sha256="0" * 64))


def test_an_untrusted_certificate_is_an_error_that_names_the_variable(secure, file):
    message = refusal(f"{secure.url}/wheels", file)
    assert message.startswith("The control node does not trust the certificate of localhost: ")
    assert "Name the file of your site's CA in torch_extension_pull_ca_path." in message
    assert secure.requests == []


def test_a_certificate_of_the_sites_own_ca_is_trusted(secure, file, certificate):
    assert Uploader(f"{secure.url}/wheels", str(certificate)).upload(file)


def test_the_operators_ca_goes_before_requests_ca_bundle(secure, file, certificate, tmp_path, monkeypatch):
    from servers import make_certificate

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(make_certificate(tmp_path)))
    assert Uploader(f"{secure.url}/wheels", str(certificate)).upload(file)


def test_credentials_of_netrc_are_sent_over_tls(secure, file, certificate, netrc):
    netrc("localhost")
    secure.authorization = ME
    assert Uploader(f"{secure.url}/wheels", str(certificate)).upload(file)
    assert credentials(secure) == [ME, ME]


def test_without_tls_no_credentials_are_sent(server, file, netrc):
    netrc("127.0.0.1")
    assert Uploader(server.accept_uploads("/wheels/"), None).upload(file)
    assert credentials(server) == [None, None]


def test_a_redirect_away_from_tls_drops_the_credentials(secure, server, file, certificate, netrc):
    netrc("127.0.0.1", "localhost")
    secure.redirect(PATH, server.serve_file("/store", BODY))
    assert not Uploader(f"{secure.url}/wheels", str(certificate)).upload(file)
    assert (credentials(secure), credentials(server)) == ([ME], [None])


def test_a_redirect_without_tls_sends_no_credentials(server, file, netrc):
    netrc("127.0.0.1")
    url = server.accept_uploads("/wheels/")
    with running_server() as store:
        server.redirect(PATH, store.serve_file("/store", BODY))
        assert not Uploader(url, None).upload(file)
        assert (credentials(server), credentials(store)) == ([None], [None])


def test_a_redirect_to_another_host_drops_the_credentials(secure, file, certificate, netrc):
    netrc("localhost")
    with running_server(tls_context(certificate)) as store:
        store.serve_file("/store", BODY)
        secure.redirect(PATH, f"https://127.0.0.1:{store.port}/store")
        assert not Uploader(f"{secure.url}/wheels", str(certificate)).upload(file)
        assert (credentials(secure), credentials(store)) == ([ME], [None])


def test_a_proxys_credentials_are_not_in_the_message(file, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:s3cret@127.0.0.1:{port}")
    assert "Connection refused" in refusal("http://inside.example/wheels", file)

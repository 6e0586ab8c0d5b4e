# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import multiprocessing
import os
import signal
import ssl
import subprocess
import sys
import threading
import time

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from servers import serving
from urllib3.util import Retry
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._download import (
    Downloader,
    default_cache,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._http import proxied

PATH = "/Dao-AILab/flash-attention/releases/download/v2.8.3/wheel.whl"


@pytest.fixture
def wheel(tmp_path):
    return build_wheel(tmp_path / "published", label=LABEL)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


def wheels_in(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix == ".whl")


@contextlib.contextmanager
def refuses(cache, words):
    """A download fails, and nothing that looks like a wheel, whole or in part, stays in the cache."""
    with pytest.raises(TorchExtensionError, match=words):
        yield
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_wheel_is_downloaded_once_and_then_taken_from_the_cache(server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    first = Downloader(str(cache)).get(url, wheel.name)
    assert first == (str(cache / wheel.name), sha256(wheel), wheel.stat().st_size, True)
    assert Downloader(str(cache)).get(url, wheel.name) == first._replace(is_new=False)
    assert server.requests == [PATH]
    assert oct(cache.stat().st_mode)[-3:] == "700"


def test_what_changed_in_the_cache_since_is_downloaded_again(server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    Downloader(str(cache)).get(url, wheel.name)
    os.truncate(cache / wheel.name, 100)
    assert Downloader(str(cache)).cached(wheel.name) is None
    assert Downloader(str(cache)).get(url, wheel.name).is_new
    assert sha256(cache / wheel.name) == sha256(wheel)


@pytest.mark.parametrize("debris", [None, "", "no hash", "\xff"], ids=["none", "empty", "nonsense", "no ASCII"])
def test_a_file_without_its_hash_beside_it_is_not_trusted(debris, server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    Downloader(str(cache)).get(url, wheel.name)
    beside = cache / f"{wheel.name}.sha256"
    beside.unlink() if debris is None else beside.write_text(debris)
    assert Downloader(str(cache)).get(url, wheel.name).is_new


def test_another_hash_than_the_one_wanted_is_thrown_away(server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    with refuses(cache, f"has sha256 {sha256(wheel)}, wanted is {'0' * 64}.*thrown away"):
        Downloader(str(cache)).get(url, wheel.name, "0" * 64)
    assert Downloader(str(cache)).get(url, wheel.name, sha256(wheel)).is_new


def test_a_cached_file_with_another_hash_than_the_one_wanted_does_not_serve(server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    Downloader(str(cache)).get(url, wheel.name)
    assert Downloader(str(cache)).cached(wheel.name, "0" * 64) is None
    assert Downloader(str(cache)).cached(wheel.name, sha256(wheel))


@pytest.mark.parametrize("length", [10, 1000000], ids=["too small", "too large"])
def test_a_server_that_lies_about_the_length_gives_no_wheel(length, server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes(), length=length)
    with refuses(cache, "cannot be downloaded|is not the wheel"):
        Downloader(str(cache)).get(url, wheel.name)


def test_a_connection_that_is_cut_gives_no_wheel(server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes()[:-100], length=wheel.stat().st_size)
    with refuses(cache, r"wheel\.whl cannot be downloaded: .*torch_extension_proxy"):
        Downloader(str(cache)).get(url, wheel.name)


def test_a_login_page_with_status_200_is_no_wheel(server, wheel, cache):
    url = server.give(PATH, b"<!DOCTYPE html><title>Please log in</title>")
    with refuses(cache, r"is not the wheel: it is not a wheel: .*begins with '<!DOCTYPE html>.*A login page"):
        Downloader(str(cache)).get(url, wheel.name)


def test_another_wheel_than_the_one_named_is_no_wheel(server, tmp_path, cache):
    url = server.give(PATH, build_wheel(tmp_path, version="2.8.2").read_bytes())
    with refuses(cache, r"is not the wheel: .*METADATA is of flash-attn 2\.8\.2"):
        Downloader(str(cache)).get(url, "flash_attn-2.8.3-py3-none-any.whl")


def test_a_missing_wheel_is_told_with_what_there_is(server, wheel, cache):
    with refuses(cache, r"does not exist \(404\).*/Dao-AILab/flash-attention/releases/tag/v2\.8\.3\. Choose another"):
        Downloader(str(cache)).get(server.url + PATH, wheel.name)
    assert len(server.requests) == 1, "there is no use in asking again"


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refusal_is_told_with_its_status(status, server, wheel, cache):
    url = server.give(PATH, b"", status)
    with refuses(cache, f"HTTP status {status}.*netrc"):
        Downloader(str(cache)).get(url, wheel.name)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_stumbles_is_asked_again(status, server, wheel, cache):
    url = server.give(PATH, wheel.read_bytes())
    good = server.answers[PATH]

    def stumble_twice(handler):
        if len(server.requests) > 2:
            good(handler)
        else:
            handler.send_error(status)

    server.answers[PATH] = stumble_twice
    assert Downloader(str(cache)).get(url, wheel.name).is_new
    assert len(server.requests) == 3


def test_a_server_that_always_stumbles_is_given_up(server, wheel, cache):
    url = server.give(PATH, b"", 500)
    with refuses(cache, "HTTP status 500"):
        Downloader(str(cache)).get(url, wheel.name)
    assert len(server.requests) == 4


def test_a_redirect_is_followed_as_github_has_it(server, wheel, cache):
    server.give("/storage", wheel.read_bytes())

    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", "/storage?signed=yes")
        handler.end_headers()

    server.answers[PATH] = redirect
    server.answers["/storage?signed=yes"] = server.answers["/storage"]
    assert Downloader(str(cache)).get(server.url + PATH, wheel.name).is_new


def test_credentials_of_netrc_are_given_to_their_host_alone(server, wheel, cache, home):
    url = server.give(PATH, wheel.read_bytes())
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    Downloader(str(cache)).get(url, wheel.name)
    assert server.headers[0]["Authorization"] == requests.auth._basic_auth_str("me", "secret")
    (cache / wheel.name).unlink()
    Downloader(str(cache)).get(url.replace("127.0.0.1", "localhost"), wheel.name)
    assert "Authorization" not in server.headers[1]


def test_a_name_that_is_no_wheels_gets_nowhere_near_the_disk(server, cache, tmp_path):
    url = server.give(PATH, b"")
    with pytest.raises(TorchExtensionError, match="is not the name of a wheel"):
        Downloader(str(cache)).get(url, "../flash_attn-2.8.3-py3-none-any.whl")
    assert server.requests == []
    assert list(cache.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match=r"file/cache on the control node cannot be made.*cache_dir"):
        Downloader(str(tmp_path / "file" / "cache"))


def test_the_cache_is_where_the_desktop_specification_wants_it(home, monkeypatch):
    assert default_cache() == f"{home}/.cache/airgap.torch_extensions"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache() == "/x/airgap.torch_extensions"


def download(cache, url, filename, start=None):
    if start:
        start.wait()
    Downloader(cache).get(url, filename)


def test_two_processes_that_want_the_same_file_download_it_once(server, wheel, cache):
    body = wheel.read_bytes()

    def slowly(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:100])
        time.sleep(0.5)
        handler.wfile.write(body[100:])

    server.answers[PATH] = slowly
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(3)
    processes = [
        fork.Process(target=download, args=(str(cache), server.url + PATH, wheel.name, start)) for _process in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.requests == [PATH]
    assert wheels_in(cache) == [wheel.name]


def test_a_download_that_is_killed_leaves_nothing_that_looks_whole_and_the_next_heals(server, wheel, cache):
    body = wheel.read_bytes()
    half_way, killed = threading.Event(), threading.Event()

    def hang(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        half_way.set()
        killed.wait()

    server.answers[PATH] = hang
    process = multiprocessing.get_context("fork").Process(
        target=download, args=(str(cache), server.url + PATH, wheel.name)
    )
    process.start()
    half_way.wait()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    killed.set()
    assert wheels_in(cache) == []
    assert Downloader(str(cache)).cached(wheel.name) is None
    url = server.give(PATH, body)
    assert Downloader(str(cache)).get(url, wheel.name).is_new
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == [
        wheel.name,
        f"{wheel.name}.sha256",
    ], "the half of the killed one is gone too"


def test_a_full_disk_is_told_with_the_knob(server, wheel, cache, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    url = server.give(PATH, wheel.read_bytes())
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TorchExtensionError, match=r"cannot be written .*No space left.*torch_extension_cache_dir"):
        Downloader(str(cache)).get(url, wheel.name)
    assert wheels_in(cache) == []


def test_a_proxy_is_used_for_all_but_what_no_proxy_names(server, wheel, cache, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://old.example")
    far = f"http://github.example{PATH}"
    near = server.give("/near", wheel.read_bytes())
    with serving() as proxy:
        proxy.give(far, wheel.read_bytes())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with proxied(proxy.url):
            Downloader(str(cache)).get(far, wheel.name)
            Downloader(str(cache / "2")).get(near, wheel.name)
        assert proxy.requests == [far]
    assert server.requests == ["/near"]
    assert {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")} == {
        "HTTPS_PROXY": "http://old.example",
        "no_proxy": "127.0.0.1",
    }


def test_without_a_proxy_the_environments_own_stays(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://own.example")
    with proxied(None):
        assert os.environ["https_proxy"] == "http://own.example"


@pytest.mark.parametrize("port", ["1", "99999"], ids=["not there", "no address"])
def test_a_proxy_that_does_not_work_is_told_without_its_credentials(port, wheel, cache):
    with proxied(f"http://me:secret@127.0.0.1:{port}"), pytest.raises(TorchExtensionError) as error:
        Downloader(str(cache)).get("http://github.example/a", wheel.name)
    assert "torch_extension_proxy" in str(error.value)
    assert "secret" not in str(error.value)


def certificate(folder):
    """A certificate for localhost that signs itself; the file of it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "ca.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_certificate_is_trusted_where_its_ca_is_named_and_else_not(wheel, cache, tmp_path, monkeypatch):
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serving(tls=context) as server:
        url = server.give(PATH, wheel.read_bytes())
        with refuses(cache, "certificate of localhost is not trusted.*torch_extension_ca_path"):
            Downloader(str(cache)).get(url, wheel.name)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none")
        assert Downloader(str(cache), str(path)).get(url, wheel.name).is_new


def test_a_ca_file_that_is_not_there_is_told(cache):
    with pytest.raises(TorchExtensionError, match="torch_extension_ca_path is /none"):
        Downloader(str(cache), "/none")


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "http://user:hunter2@", "http://[", "nonsense"])
def test_what_is_no_address_of_a_proxy_is_refused_without_its_credentials(proxy):
    with pytest.raises(TorchExtensionError, match=r"torch_extension_proxy is no address") as refusal, proxied(proxy):
        pass
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["requests", "packaging"])
def test_a_library_that_the_control_node_lacks_is_a_clear_error(name):
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules[{name!r}] = None  # as if it were not installed
from {Downloader.__module__} import Downloader
from {Downloader.__module__.replace("_download", "_decision")} import Settings, decide
decide("flash-attn==2.8.3", {{}}, Settings(None)) if {name!r} == "packaging" else Downloader("nowhere")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"lacks {name}" in done.stderr
    assert "Install the collection's requirements.txt" in done.stderr

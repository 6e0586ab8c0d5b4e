# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials go to whom they are for, over lines that nobody reads along, and stand nowhere else."""

from __future__ import annotations

import base64
import json
import logging
import traceback

import pytest
from github_server import REPOSITORY, Api
from packaging.specifiers import SpecifierSet
from servers import running_proxy
from urllib3.util import Retry
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.upload import Uploader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import Downloader
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.fetch import fetch_for_nodes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import may_carry_token
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_session import open_session
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.pip_indexes import read_pip_indexes
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import RemoteFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import RetryPolicy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import pages
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.answer import ask_source
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (
    SourceAccess,
    WheelCatalogue,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import parse_source

NAME = f"flash_attn-2.8.3+{LABEL}-py3-none-any.whl"
LOGIN = "Basic " + base64.b64encode(b"me:hunter2").decode()
SIGNATURE = "hunter2%2Fc2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def ways(cache, tmp_path):
    """All ways to ask a server; each says whether it is asked by an address that the operator has written."""

    def download(url):
        policy = RetryPolicy(timeout=5, pace=Limit(60, 1), max_retries=0)
        return Downloader(str(cache / "wheels"), retry_policy=policy).get(f"{url}/asked", NAME, "0" * 64)

    def put(url):
        path = tmp_path / "asked"
        path.write_bytes(b"wheel")
        return Uploader(url, None).upload(File(str(path), "0" * 64))

    return {
        "page": lambda url: pages.list_wheels(f"{url}/asked", "flash-attn", str(cache)),
        "project": lambda url: pages.list_project(url, "asked", str(cache)),
        "api": lambda url: GitHub(f"{url}/asked", cache=str(cache)).list_release("a/b", "v1"),
        "file": download,
        "part": lambda url: RemoteFile(f"{url}/asked"),
        "upload": put,
    }


WAYS = {
    "page": "/asked",
    "project": "/asked/",
    "api": "/asked/repos/a/b/releases/tags/v1",
    "file": "/asked",
    "part": "/asked",
}
WAYS["upload"] = "/asked"
#: whose addresses come from servers
UNNAMED = ("file", "part")


def ask(way, url):
    try:
        way(url)
    except TorchExtensionError as exc:
        assert "hunter2" not in str(exc)


def sent(server):
    return [headers.get("Authorization") for headers in server.headers]


@pytest.mark.parametrize("name", WAYS)
def test_netrc_is_sent_to_its_host_over_tls(name, ways, tls_server, netrc):
    netrc("machine localhost login me password hunter2\n")
    ask(ways[name], tls_server.url)
    assert set(sent(tls_server)) == {LOGIN}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_netrc_is_not_sent_without_tls(entry, name, ways, server, netrc):
    netrc(f"{entry} login me password hunter2\n")
    ask(ways[name], server.url)
    assert set(sent(server)) == {None}


@pytest.mark.parametrize("name", WAYS)
def test_the_default_of_netrc_is_sent_to_hosts_that_the_operator_has_named(name, ways, tls_server, netrc):
    netrc("machine elsewhere.example login you password other\ndefault login me password hunter2\n")
    ask(ways[name], tls_server.url)
    assert set(sent(tls_server)) == {None if name in UNNAMED else LOGIN}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("entry", ["machine localhost", "default"])
def test_a_redirect_to_another_host_carries_nothing(entry, name, ways, tls_server, other_host, netrc):
    netrc(f"{entry} login me password hunter2\n")
    tls_server.redirect(WAYS[name], f"{other_host.url}/elsewhere")
    ask(ways[name], tls_server.url)
    assert set(sent(other_host)) == {None}


@pytest.mark.parametrize("name", WAYS)
def test_a_redirect_away_from_tls_carries_nothing(name, ways, tls_server, server, netrc):
    netrc("machine localhost login me password hunter2\nmachine 127.0.0.1 login me password hunter2\n")
    tls_server.redirect(WAYS[name], f"{server.url}/elsewhere")
    ask(ways[name], tls_server.url)
    assert set(sent(server)) == {None}


@pytest.mark.parametrize("name", WAYS)
def test_a_login_in_a_redirect_is_sent_to_nobody_and_not_shown(name, ways, tls_server, other_host, cache):
    tls_server.redirect(WAYS[name], f"{other_host.url.replace('//', '//me:hunter2@')}/elsewhere")
    ask(ways[name], tls_server.url)
    assert set(sent(other_host)) == {None}
    assert not [path for path in cache.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_netrc_that_is_not_understood_hinders_nobody(ways, tls_server, netrc):
    netrc("machine localhost login me hunter2\n")
    ask(ways["page"], tls_server.url)
    assert sent(tls_server) == [None]


# Tokens, and logins of indexes


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://api.example", True),
        ("http://api.example", False),
        ("http://localhost:8080", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:80", True),
        ("http://127.0.0.1.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_a_token_leaves_this_machine_over_tls_alone(url, is_safe, cache):
    assert may_carry_token(url) == is_safe
    if not is_safe:
        with pytest.raises(
            TorchExtensionError, match=r"without TLS.*https: URL.*torch_extension_github_token"
        ) as raised:
            GitHub(url, cache=str(cache), token="hunter2")  # noqa: S106
        assert "hunter2" not in str(raised.value)


def test_what_goes_through_a_proxy_does_leave_this_machine():
    with use_proxy("http://proxy.example:3128"):
        assert not may_carry_token("http://localhost:8080")


def test_a_token_is_not_carried_to_the_same_host_without_tls(tls_server, server, cache):
    Api(tls_server)
    tls_server.redirect(f"/repos/{REPOSITORY}/releases/tags/v1", server.url.replace("127.0.0.1", "localhost"))
    ask(lambda url: GitHub(url, cache=str(cache), token="hunter2").list_release(REPOSITORY, "v1"), tls_server.url)  # noqa: S106
    assert sent(tls_server) == ["Bearer hunter2"]
    assert set(sent(server)) == {None}


def test_the_login_of_an_index_is_not_carried_to_the_same_host_without_tls(tls_server, server, cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", tls_server.url.replace("//", "//me:hunter2@"))
    indexes = read_pip_indexes()
    (index,) = indexes.urls
    assert "hunter2" not in repr(indexes)
    tls_server.redirect("/asked/", f"{server.url.replace('127.0.0.1', 'localhost')}/asked/")
    ask(lambda url: pages.list_project(url, "asked", str(cache), secret=indexes.credentials_for(url)), index)
    assert sent(tls_server) == [LOGIN]
    assert set(sent(server)) == {None}
    assert indexes.credentials_for(index.replace("https:", "http:")) is None


# Proxies


@pytest.mark.parametrize("password", ["hun/ter2", "hun?ter2", "hun#ter2", "hun\\ter2", "/hunter2", "12/hunter2"])
@pytest.mark.parametrize("setting", ["torch_extension_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_password_that_programs_would_show_in_pieces_is_refused(setting, password, ways, cache, monkeypatch):
    proxy = f"http://me:{password}@127.0.0.1:1"
    if setting != "torch_extension_proxy":
        monkeypatch.setenv(setting, proxy)
    for way in ways.values():
        of_setting = proxy if setting == "torch_extension_proxy" else None
        with pytest.raises(TorchExtensionError) as raised, use_proxy(of_setting):
            way("https://far.example")
        assert str(raised.value).startswith(f"{setting} has / ? # or \\ in its user or password")
        assert "ter2" not in str(raised.value)
        assert "hun" not in str(raised.value)
    assert not [path for path in cache.rglob("*") if path.is_file() and b"ter2" in path.read_bytes()]


@pytest.mark.parametrize("status", [None, 403, 407, 502])
def test_an_encoded_password_works_and_stands_nowhere(status, ways, tls_server, cache, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    wanted = "Basic " + base64.b64encode(b"me:hun/ter2#?\\@").decode()
    said = ""
    with (
        running_proxy("other" if status == 407 else wanted, status=None if status == 407 else status) as proxy,
        use_proxy(proxy.url.replace("//", "//me:hun%2Fter2%23%3F%5C%40@")),
    ):
        for way in ways.values():
            try:
                way(tls_server.url)
            except TorchExtensionError:
                said += traceback.format_exc()
    assert proxy.requests
    assert said
    assert "ter2" not in said + caplog.text
    assert not [path for path in cache.rglob("*") if path.is_file() and b"ter2" in path.read_bytes()]


# Signed links


@pytest.fixture
def access(cache):
    return SourceAccess(str(cache))


@pytest.fixture
def signed(server, tmp_path):
    """A page that links to a wheel with a signature, which the server wants. Returns the page's URL and the wheel."""
    wheel = build_wheel(tmp_path / "published", label=LABEL)
    path = f"/{wheel.name.replace('+', '%2B')}?se=2026-01-01&sig={SIGNATURE}"
    server.serve_file(path, wheel.read_bytes())
    server.serve_page("/w/", f'<a href="{path.replace("&", "&amp;")}#sha256={sha256(wheel)}">wheel</a>')
    return f"{server.url}/w/", wheel


def plan_of(page, access, environment):
    environment["torch"]["version"], environment["torch"]["cuda"] = "2.6.0+cu124", "12.4"
    requirement = WheelRequirement("flash-attn", SpecifierSet(), None)
    answer = ask_source(parse_source(f"index:{page}"), requirement, environment, WheelCatalogue(access))
    return {"environment": environment, "wheels": [{"name": "flash-attn", **answer.wheels[0]}]}


def test_a_plan_has_no_signature_and_the_download_does(signed, server, access, cache, environment):
    page, wheel = signed
    plan = plan_of(page, access, environment)
    (planned,) = plan["wheels"]
    assert "sig=***" in planned["url"]
    assert "hunter2" not in json.dumps(plan)
    results = fetch_for_nodes({"n0": plan}, DownloadContext(str(cache)))
    assert results["nodes"]["n0"]["errors"] == []
    assert results["nodes"]["n0"]["wheels"][0]["sha256"] == sha256(wheel)
    assert "hunter2" not in json.dumps(results)
    assert server.requests[-1].endswith(f"sig={SIGNATURE}")
    with_signature = {
        path.relative_to(cache).parts[0]
        for path in cache.rglob("*")
        if path.is_file() and b"hunter2" in path.read_bytes()
    }
    assert with_signature <= {"api", "links"}, "what the page says, and the link; for the user alone"
    assert {
        oct(path.stat().st_mode)[-2:]
        for folder in with_signature
        for path in (cache / folder).iterdir()
        if b"hunter2" in path.read_bytes()
    } == {"00"}


def test_a_link_whose_signature_is_elsewhere_is_an_error_that_says_so(signed, access, environment, tmp_path, server):
    page, _wheel = signed
    plan = plan_of(page, access, environment)
    asked = len(server.requests)
    results = fetch_for_nodes({"n0": plan}, DownloadContext(str(tmp_path / "another cache")))
    (error,) = results["nodes"]["n0"]["errors"]
    assert "is a link with a signature, which is in no plan and no lock" in error
    assert len(server.requests) == asked


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_signature_is_in_no_message_log_or_file_of_a_download_that_fails(
    status, signed, server, access, cache, environment, caplog
):
    caplog.set_level(logging.DEBUG)
    page, _wheel = signed
    plan = plan_of(page, access, environment)
    (path,) = [path for path in server.handlers if "sig=" in path]
    server.serve_body(path, b"", status)
    context = DownloadContext(str(cache))
    results = fetch_for_nodes({"n0": plan}, context, predict=True)
    assert results["nodes"]["n0"]["errors"]
    policy = RetryPolicy(max_retries=1, backoff=0)
    with pytest.raises(TorchExtensionError) as raised:
        Downloader(str(cache / "wheels"), locate=context.locate, retry_policy=policy).get(
            plan["wheels"][0]["url"], plan["wheels"][0]["filename"], "0" * 64
        )
    assert "sig=" in server.requests[-1]
    assert "sig" in caplog.text, "urllib3 does log"
    assert "hunter2" not in json.dumps(results) + str(raised.value) + caplog.text


@pytest.mark.parametrize("query", ["sig=hunter2", "token=hunter2", "a=b&X-Amz-Signature=hunter2"])
def test_an_address_of_the_operators_with_a_token_in_it_is_refused(query):
    with pytest.raises(
        TorchExtensionError, match=r"holds a token or a signature for a\.example in its query"
    ) as raised:
        parse_source(f"index:https://a.example/simple/?{query}")
    assert "hunter2" not in str(raised.value)


def test_a_session_of_requests_alone_would_send_netrc_everywhere(server, netrc):
    """What the rules above are for."""
    import requests

    netrc("default login me password hunter2\n")
    requests.get(server.url, timeout=5)
    open_session(server.url).get(server.url, timeout=5)
    assert sent(server) == [LOGIN, None]

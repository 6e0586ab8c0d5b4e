# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import traceback
from http.client import HTTPConnection

import limited
import pytest
from github_server import NAME, REPOSITORY, SHA256, Api, asset, release
from hypothesis import given
from hypothesis import strategies as st
from servers import running_server
from urllib3.util import Retry

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache import waiting
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_cache, http_client
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Answer, UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import use_proxy
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import github as github_module
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.github import GitHub, NoReleaseError

TOKEN = "ghp_notEvenARealOne"  # noqa: S105


@pytest.fixture(autouse=True)
def _no_long_wait(monkeypatch):
    monkeypatch.setattr(Retry, "sleep_for_retry", lambda self, response: pytest.fail("it would wait for an hour"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def api(server):
    made = Api(server)
    made.serve_release(release(asset()))
    return made


@pytest.fixture
def github(api, cache):
    def github(**options):
        return GitHub(**{"api_url": api.server.url, "cache": str(cache), **options})

    return github


def age(cache, seconds, kind="answer"):
    """Let what is kept be older."""
    for path in (cache / "api").glob(f"*.{kind}"):
        head, newline, body = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        about["time"] -= seconds
        path.write_bytes(json.dumps(about).encode() + newline + body)


def everything_in(cache):
    return b"".join(path.read_bytes() + path.name.encode() for path in cache.rglob("*") if path.is_file())


def test_the_wheels_of_a_release_are_listed_with_url_size_and_hash(github):
    url = f"https://github.example/{REPOSITORY}/releases/download/v2.8.3/{NAME.replace('+', '%2B')}"
    assert github().list_release(REPOSITORY, "v2.8.3") == [Asset(NAME, url, 7, SHA256, "v2.8.3")]


def test_assets_that_are_no_wheels_or_not_yet_uploaded_are_left_out(api, github):
    path = f"/repos/{REPOSITORY}/releases/tags/v1"
    api.serve(path, release(asset("SHA256SUMS"), asset("flash_attn-1.tar.gz"), asset(state="starter"), tag="v1"))
    assert github().list_release(REPOSITORY, "v1") == []


@pytest.mark.parametrize("digest", [None, "sha512:00", "sha256:xyz", 5])
def test_a_wheel_without_a_sha256_is_listed_without_a_hash(digest, api, github):
    api.serve(f"/repos/{REPOSITORY}/releases/tags/v1", release(asset(digest=digest), tag="v1"))
    assert github().list_release(REPOSITORY, "v1")[0].sha256 is None


def test_a_digest_is_compared_in_lower_case(api, github):
    api.serve(f"/repos/{REPOSITORY}/releases/tags/v1", release(asset(digest="sha256:" + "AB" * 32), tag="v1"))
    assert github().list_release(REPOSITORY, "v1")[0].sha256 == "ab" * 32


def test_the_answer_of_an_older_server_without_digests_is_understood(api, github):
    old = asset()
    del old["digest"]
    api.serve(f"/repos/{REPOSITORY}/releases/tags/v1", release(old, tag="v1"))
    assert github().list_release(REPOSITORY, "v1")[0].sha256 is None


def test_all_releases_are_read_over_all_pages_newest_first_and_without_drafts(api, github):
    found = [
        release(asset("a-1-cp39-abi3-any.whl"), tag="old", published="2024-01-01T00:00:00Z"),
        release(asset("b-1-cp39-abi3-any.whl"), tag="new", published="2026-01-01T00:00:00Z"),
        release(asset("c-1-cp39-abi3-any.whl"), tag="draft", published=None, draft=True),
        release(asset("d-1-cp39-abi3-any.whl"), tag="middle", published="2025-01-01T00:00:00Z"),
        release(tag="empty", published="2023-01-01T00:00:00Z"),
    ]
    first = api.serve_releases(found, page_size=2)
    assert [asset.release for asset in github().list_releases(REPOSITORY)] == ["new", "middle", "old"]
    assert api.requests == [first, f"{first}&page=2", f"{first}&page=3"]


def test_a_server_that_pages_in_circles_is_given_up(api, github, server):
    path = f"/repos/{REPOSITORY}/releases?per_page=30"
    api.serve(path, [release(asset())], next_url=server.url + path)
    with pytest.raises(UnavailableError, match="more than 100 pages"):
        github().list_releases(REPOSITORY)


def test_a_tag_may_have_any_character(api, github):
    api.serve(f"/repos/{REPOSITORY}/releases/tags/carbon%2Fv1%2Bcu130", release(asset(), tag="carbon/v1+cu130"))
    assert github().list_release(REPOSITORY, "carbon/v1+cu130")[0].release == "carbon/v1+cu130"


@pytest.mark.parametrize("repository", ["flash-attention", "a/b/c", "../..", "a/..", "https://github.com/a/b", "a/b?c"])
def test_an_invalid_repository_name_is_refused_before_any_request(repository, api, github):
    with pytest.raises(TorchExtensionError, match=r"is no repository of GitHub.*torch_extension_sources"):
        github().list_releases(repository)
    assert api.requests == []


def test_the_api_of_an_enterprise_server_may_have_a_path(api, github, server):
    api.serve("/api/v3/repos/a/b/releases/tags/v1", release(asset(), tag="v1"))
    assert github(api_url=f"{server.url}/api/v3/").list_release("a/b", "v1")


def test_requests_to_the_api_have_the_headers_that_github_wants(api, github, server):
    github().list_release(REPOSITORY, "v2.8.3")
    assert server.headers[0]["Accept"] == "application/vnd.github+json"
    assert server.headers[0]["X-GitHub-Api-Version"] == "2022-11-28"
    assert server.headers[0]["User-Agent"].startswith("airgap.torch_extensions")


@pytest.mark.parametrize("url", ["api.github.com", "ftp://api.github.com", "https://", "http://[", "http://a:b"])
def test_an_invalid_api_url_is_refused(url, cache):
    with pytest.raises(TorchExtensionError, match="torch_extension_github_api_url is no address"):
        GitHub(url, cache=str(cache))


def test_credentials_in_the_url_are_refused_and_not_shown(cache):
    with pytest.raises(TorchExtensionError, match=r"holds credentials for a\.example.*netrc") as refusal:
        GitHub("https://me:hunter2@a.example", cache=str(cache))
    assert "hunter2" not in str(refusal.value)


# What is kept


def test_a_fresh_answer_is_used_without_a_request(api, github):
    assert github().list_release(REPOSITORY, "v2.8.3") == github().list_release(REPOSITORY, "v2.8.3")
    assert len(api.requests) == 1


def test_a_stale_answer_is_revalidated_and_stays_if_nothing_has_changed(api, github, cache):
    before = github().list_release(REPOSITORY, "v2.8.3")
    age(cache, 601)
    assert github().list_release(REPOSITORY, "v2.8.3") == before
    assert api.statuses == [200, 304]
    assert github().list_release(REPOSITORY, "v2.8.3") == before
    assert api.statuses == [200, 304], "it is young again"


def test_a_stale_answer_is_replaced_if_something_has_changed(api, github, cache):
    github().list_release(REPOSITORY, "v2.8.3")
    age(cache, 601)
    api.serve(f"/repos/{REPOSITORY}/releases/tags/v2.8.3", release())
    assert github().list_release(REPOSITORY, "v2.8.3") == []
    assert api.statuses == [200, 200]


def test_max_age_sets_how_long_an_answer_is_fresh(api, github):
    github().list_release(REPOSITORY, "v2.8.3")
    github(max_age=0).list_release(REPOSITORY, "v2.8.3")
    assert api.statuses == [200, 304]


def test_an_answer_from_the_future_is_not_fresh(api, github, cache):
    github().list_release(REPOSITORY, "v2.8.3")
    age(cache, -100000)
    github().list_release(REPOSITORY, "v2.8.3")
    assert api.statuses == [200, 304]


@pytest.mark.parametrize("debris", [b"", b"nonsense", b"{}\n{}", b'{"url": 1}\n', b"\xff\n"])
def test_an_unreadable_cache_file_is_replaced(debris, api, github, cache):
    before = github().list_release(REPOSITORY, "v2.8.3")
    for path in (cache / "api").glob("*.answer"):
        path.write_bytes(debris)
    assert github().list_release(REPOSITORY, "v2.8.3") == before
    assert api.statuses == [200, 200]
    assert github().list_release(REPOSITORY, "v2.8.3") == before
    assert len(api.statuses) == 2


def test_only_the_owner_can_read_the_cache(github, cache):
    github().list_release(REPOSITORY, "v2.8.3")
    assert [oct(folder.stat().st_mode)[-3:] for folder in (cache, cache / "api")] == ["700", "700"]
    assert [oct(path.stat().st_mode)[-3:] for path in (cache / "api").glob("*.answer")] == ["600"]


def test_the_error_for_a_cache_that_cannot_be_made_names_the_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TorchExtensionError, match="torch_extension_cache_dir"):
        GitHub(cache=str(tmp_path / "file"))


def test_the_error_for_a_full_disk_names_the_cache_setting(github, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TorchExtensionError, match=r"No space left.*torch_extension_cache_dir"):
        github().list_release(REPOSITORY, "v2.8.3")


def ask(options, queue, start):
    start.wait()
    github = GitHub(**options)
    try:
        queue.put((len(github.list_release(REPOSITORY, "v2.8.3")), github.warnings))
    except TorchExtensionError as exc:
        queue.put((type(exc).__name__, str(exc)))


def ask_at_once(processes, **options):
    """The results of processes that ask at the same time."""
    fork = multiprocessing.get_context("fork")
    start, queue = fork.Barrier(processes), fork.Queue()
    started = [fork.Process(target=ask, args=(options, queue, start)) for _process in range(processes)]
    for process in started:
        process.start()
    results = [queue.get(timeout=60) for _process in started]
    for process in started:
        process.join()
    return results


@pytest.mark.parametrize("max_age", [600, 0])
def test_many_processes_that_ask_at_once_make_one_request(max_age, api, cache):
    api.delay = 0.5
    results = ask_at_once(6, api_url=api.server.url, cache=str(cache), max_age=max_age)
    assert results == [(1, [])] * 6
    assert len(api.requests) == 1


def test_a_request_that_another_process_hangs_in_is_given_up_with_its_process(api, github, cache, monkeypatch):
    monkeypatch.setattr(http_cache, "_PATIENCE_SECONDS", 0.5)
    api.serve_release(release(asset()))
    github().list_release(REPOSITORY, "v2.8.3")
    (path,) = (cache / "api").glob("*.lock")
    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting.write_holder(file)
        with pytest.raises(
            TorchExtensionError, match=rf"{path} on the control node is locked by process {os.getpid()} since"
        ):
            github(max_age=0).list_release(REPOSITORY, "v2.8.3")


def test_many_processes_wait_for_one_time_out(api, cache, monkeypatch):
    monkeypatch.setattr(
        "ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_session.TIMEOUT_SECONDS", 0.3
    )
    api.delay = 2
    results = ask_at_once(4, api_url=api.server.url, cache=str(cache))
    assert {kind for kind, _message in results} == {"UnavailableError"}
    assert len(api.requests) == 4, "one process, four attempts"


# What goes wrong


def test_the_error_for_a_missing_release_names_repository_tag_and_server(github, server):
    with pytest.raises(NoReleaseError) as error:
        github().list_release(REPOSITORY, "v9")
    for part in (REPOSITORY, "v9", server.url, "404", "torch_extension_github_token"):
        assert part in str(error.value)
    with pytest.raises(NoReleaseError, match="knows no repository a/b"):
        github().list_releases("a/b")


def test_a_release_that_was_deleted_is_not_answered_from_the_cache(api, github, cache, server):
    github().list_release(REPOSITORY, "v2.8.3")
    age(cache, 601)
    server.handlers.clear()
    with pytest.raises(NoReleaseError):
        github().list_release(REPOSITORY, "v2.8.3")


def test_a_missing_release_is_requested_once_and_again_after_a_minute(github, server, cache):
    for _node in range(3):
        with pytest.raises(NoReleaseError):
            github().list_release(REPOSITORY, "v9")
    assert len(server.requests) == 1
    age(cache, 61, "failure")
    with pytest.raises(NoReleaseError):
        github().list_release(REPOSITORY, "v9")
    assert len(server.requests) == 2


LIMITS = {
    "primary": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1377013266"},
    "secondary": {"retry-after": "3600"},
    "too many": {"status": "429", "retry-after": "3600"},
    "too many without a word": {"status": "429"},
    "nonsense": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 30, "retry-after": "Wed"},
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_the_error_for_a_rate_limit_has_its_end_and_names_the_setting(limit, api, github):
    api.limit_headers = limit
    with pytest.raises(UnavailableError) as error:
        github().list_release(REPOSITORY, "v2.8.3")
    assert "rate limit" in str(error.value)
    assert "torch_extension_github_token (or GITHUB_TOKEN" in str(error.value)
    if "1377013266" in limit.values():
        assert "until 15:41:06 UTC" in str(error.value)
    assert len(api.requests) == 1, "there is no use in asking again"


def test_a_rate_limit_is_answered_from_the_cache_with_one_warning(api, github, cache):
    api.serve_releases([release(asset())] * 3, page_size=1)
    before = github().list_releases(REPOSITORY)
    age(cache, 3 * 3600 + 5)
    api.limit_headers = LIMITS["primary"]
    client = github()
    assert client.list_releases(REPOSITORY) == before
    assert client.list_releases(REPOSITORY) == before
    assert len(client.warnings) == 1, client.warnings
    assert "is known as it was 3 hours ago" in client.warnings[0]
    assert "rate limit" in client.warnings[0]
    assert api.statuses == [200, 200, 200, 403]


def test_a_new_token_makes_a_new_request_after_a_rate_limit(api, github):
    api.limit_headers = LIMITS["primary"]
    with pytest.raises(UnavailableError):
        github().list_release(REPOSITORY, "v2.8.3")
    api.limit_headers = {}
    with pytest.raises(UnavailableError, match=r"Remembered failure; the next question is asked after 60 s"):
        github().list_release(REPOSITORY, "v2.8.3")
    assert github(token=TOKEN).list_release(REPOSITORY, "v2.8.3")


def test_during_an_outage_the_cached_answer_serves(api, github, cache):
    before = github().list_release(REPOSITORY, "v2.8.3")
    age(cache, 3 * 86400)
    api.status = 502
    client = github()
    assert client.list_release(REPOSITORY, "v2.8.3") == before
    assert "3 days ago" in client.warnings[0]
    assert "502" in client.warnings[0]
    assert api.statuses == [200, 502, 502, 502, 502]


def test_an_outage_is_remembered_for_a_minute(api, github, cache):
    api.status = 500
    with pytest.raises(UnavailableError, match=r"HTTP status 500.*No earlier answer is kept"):
        github().list_release(REPOSITORY, "v2.8.3")
    api.status = 200
    with pytest.raises(UnavailableError):
        github().list_release(REPOSITORY, "v2.8.3")
    assert len(api.requests) == 4
    age(cache, 61, "failure")
    assert github().list_release(REPOSITORY, "v2.8.3")


def test_an_outage_of_one_url_does_not_affect_the_others(api, github):
    first = api.serve_releases([release(asset())])
    api.server.handlers[first] = lambda handler: handler.send_error(502)
    with pytest.raises(UnavailableError):
        github().list_releases(REPOSITORY)
    assert github().list_release(REPOSITORY, "v2.8.3")


def test_a_host_that_is_gone_is_answered_from_the_cache_and_asked_once(api, github, cache):
    with running_server() as gone:
        pass
    with pytest.raises(UnavailableError, match=r"cannot be downloaded.*torch_extension_proxy.*No earlier answer"):
        github(api_url=gone.url).list_release(REPOSITORY, "v2.8.3")
    (answered,) = (cache / "api").glob("*.failure")
    with pytest.raises(UnavailableError, match="Remembered failure"):
        github(api_url=gone.url).list_releases("another/one")
    assert list((cache / "api").glob("*.failure")) == [answered], "the host as a whole is remembered"


def test_a_new_proxy_makes_a_new_request_after_an_outage(api, github):
    with running_server() as gone:
        pass
    with (
        use_proxy(gone.url),
        pytest.raises(UnavailableError, match=rf"The proxy .*:{gone.port} \(torch_extension_proxy\) cannot be reached"),
    ):
        github(api_url="http://api.example").list_release(REPOSITORY, "v2.8.3")
    with running_server() as proxy, use_proxy(proxy.url):
        proxy.serve_body(
            f"http://api.example/repos/{REPOSITORY}/releases/tags/v2.8.3", json.dumps(release(asset())).encode()
        )
        assert github(api_url="http://api.example").list_release(REPOSITORY, "v2.8.3")


def test_the_credentials_of_a_proxy_are_neither_shown_nor_cached(github, cache):
    with use_proxy("http://me:hunter2@127.0.0.1:1"), pytest.raises(UnavailableError) as error:
        github(api_url="http://api.example").list_release(REPOSITORY, "v2.8.3")
    assert "hunter2" not in str(error.value)
    assert b"hunter2" not in everything_in(cache)


MALFORMED = {
    "login page": b"<!DOCTYPE html><title>Please log in</title>",
    "nothing": b"",
    "message": b'{"message": "hello"}',
    "list": b"[1, 2]",
    "number": b"7",
    "assets are none": json.dumps({**release(), "assets": None}).encode(),
    "asset without a name": json.dumps(release(asset(name="x.whl") | {"name": None})).encode(),
    "asset without an address": json.dumps(release(asset(browser_download_url=None))).encode(),
    "asset in a file": json.dumps(release(asset(browser_download_url="file:///etc/passwd"))).encode(),
    "deep": b"[" * 100000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_reported_and_not_cached(body, api, github, cache):
    before = github().list_release(REPOSITORY, "v2.8.3")
    age(cache, 601)
    api.body = body
    client = github()
    assert client.list_release(REPOSITORY, "v2.8.3") == before, "the good answer stays"
    assert "is no answer: " in client.warnings[0]
    api.serve_releases([])
    with pytest.raises(UnavailableError, match=r"is no answer: .*A login page of a proxy or firewall\?"):
        github().list_releases(REPOSITORY)


def test_an_endless_answer_does_not_fill_the_memory(api, github, monkeypatch):
    monkeypatch.setattr(http_client, "_MAX_BODY", 1 << 20)
    api.body = b" " * (2 << 20)
    with pytest.raises(UnavailableError, match="gives more than 1 MiB"):
        github().list_release(REPOSITORY, "v2.8.3")


def test_an_answer_that_is_cut_is_an_outage(github, server):
    server.serve_body(f"/repos/{REPOSITORY}/releases/tags/v2.8.3", b"{", length=1000)
    with pytest.raises(UnavailableError, match="cannot be downloaded"):
        github().list_release(REPOSITORY, "v2.8.3")


ODD_ASSETS = {
    "a name of 5,000 digits": {"name": f"flash_attn-{'9' * 5000}-py3-none-any.whl"},
    "a name with a path": {"name": "../../flash_attn-1-py3-none-any.whl"},
    "a name that a terminal obeys": {"name": "flash_attn-1\x1b[31m-py3-none-any.whl"},
    "no address": {"browser_download_url": "https://[bad/x.whl"},
    "no port": {"browser_download_url": "https://a:b/x.whl"},
}


@pytest.mark.parametrize("odd", ODD_ASSETS.values(), ids=ODD_ASSETS)
def test_a_file_that_no_release_should_have_does_not_hide_the_good_one_beside_it(odd, api, github):
    api.serve_release(release(asset() | odd, asset()))
    assert [found.filename for found in github().list_release(REPOSITORY, "v2.8.3")] == [NAME]


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1e999", "true", '"7"'])
def test_a_size_that_is_none_is_left_out(size, api, github):
    api.body = json.dumps(release(asset(size="SIZE"))).replace('"SIZE"', size).encode()
    assert [found.size for found in github().list_release(REPOSITORY, "v2.8.3")] == [None]


FIELDS = st.sampled_from(
    ["tag_name", "published_at", "draft", "assets", "state", "name", "browser_download_url", "size", "digest"]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["uploaded", "v1", "", "https://[", "a.whl"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FIELDS, inner, max_size=6)),
    max_leaves=15,
)


def test_any_json_is_an_answer_of_the_api_or_none():
    @given(VALUES)
    def check(value):
        body = json.dumps(value).encode()
        for reduce, parse in (
            (github_module._reduce_release, github_module._parse_release_answer),
            (github_module._reduce_releases, github_module._parse_releases_answer),
        ):
            with contextlib.suppress(ValueError):
                parse(Answer("https://api.example", "application/json", None, reduce(body)))

    limited.check_property(check)


# The token


def test_a_token_is_sent_and_preferred_to_netrc(api, github, server, home):
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    api.token = TOKEN
    assert github(token=f" {TOKEN}\n").list_release(REPOSITORY, "v2.8.3")
    assert server.headers[-1]["Authorization"] == f"Bearer {TOKEN}"


def test_without_a_token_netrc_is_used(tls_server, github, home):
    Api(tls_server).serve_release(release(asset()))
    (home / ".netrc").write_text("machine localhost login me password secret\n")
    github(api_url=tls_server.url, token="").list_release(REPOSITORY, "v2.8.3")
    assert tls_server.headers[-1]["Authorization"].startswith("Basic ")


def test_a_redirect_on_the_same_host_still_gets_the_token(api, github, server, home):
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    api.token = TOKEN
    api.serve("/repositories/1/releases/tags/v1", release(asset(), tag="v1"))
    server.redirect("/repos/old/name/releases/tags/v1", "/repositories/1/releases/tags/v1")
    assert github(token=TOKEN).list_release("old/name", "v1")


def test_a_redirect_to_another_host_does_not_get_the_token(github, server):
    with running_server() as other:
        other.serve_body("/elsewhere", json.dumps(release(asset(), tag="v1")).encode())
        server.redirect("/repos/a/b/releases/tags/v1", f"{other.url}/elsewhere")
        assert github(token=TOKEN).list_release("a/b", "v1")
        assert "Authorization" not in other.headers[0]
        assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_a_next_page_on_another_host_does_not_get_the_token(api, github):
    first = f"/repos/{REPOSITORY}/releases?per_page=30"
    with running_server() as other:
        other.serve_body("/more", json.dumps([release(asset(), tag="v1")]).encode())
        api.serve(first, [release(asset())], next_url=f"{other.url}/more")
        assert len(github(token=TOKEN).list_releases(REPOSITORY)) == 2
        assert "Authorization" not in other.headers[0]


def test_the_error_for_a_refused_token_names_its_setting(api, github, cache):
    github(token=TOKEN[::-1]).list_release(REPOSITORY, "v2.8.3")
    age(cache, 601)
    api.token = TOKEN[::-1]
    with pytest.raises(TorchExtensionError, match=r"refuses the token \(401\).*torch_extension_github_token") as error:
        github(token=TOKEN).list_release(REPOSITORY, "v2.8.3")
    assert not isinstance(error.value, UnavailableError)
    assert TOKEN not in str(error.value)
    assert len(api.requests) == 2


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_an_invalid_token_is_refused_without_showing_it(token, github):
    with pytest.raises(TorchExtensionError, match=r"torch_extension_github_token.*is no token") as error:
        github(token=token)
    assert token not in str(error.value)
    assert repr(token) not in str(error.value)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
def test_a_token_is_in_no_message_log_or_file(status, api, github, cache, caplog, monkeypatch):
    api.status = status
    caplog.set_level(logging.DEBUG)
    client = github(token=TOKEN)
    results = repr(client) + str(vars(client))
    try:
        results += repr(client.list_release(REPOSITORY, "v2.8.3"))
    except TorchExtensionError:
        results += traceback.format_exc()
    assert api.server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert caplog.records, "requests does log"
    assert TOKEN not in results + caplog.text + "".join(client.warnings)
    assert TOKEN.encode() not in everything_in(cache)
    assert HTTPConnection.debuglevel == 0


@pytest.mark.parametrize("name", ["jmespath", "requests"])
def test_a_missing_library_is_a_clear_error_and_is_not_cached_as_an_outage(name, github, api, cache):
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules[{name!r}] = None  # as if it were not installed
from {GitHub.__module__} import GitHub
GitHub({api.server.url!r}, cache={str(cache)!r}).list_release({REPOSITORY!r}, "v2.8.3")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        done.stderr.splitlines()[-1]
        .partition(": ")[2]
        .startswith(f"The Python that runs Ansible on the control node lacks {name} ")
    )
    assert "Install the collection's requirements.txt" in done.stderr
    assert github().list_release(REPOSITORY, "v2.8.3"), "it is not remembered as an outage"

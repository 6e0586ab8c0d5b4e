# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real pips are asked, and then have to do what they said."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from pips import ASKABLE, NEWEST, OLD, pip_venv
from wheels import as_wanted, build_sdist, build_wheel, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.pip_cache import add_wheel
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    describe_environment,
    describe_environments,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.cache import wheel_folder, wheel_path
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.sdists import check_pinned, find_sdists

pytestmark = pytest.mark.slow  # most of them run pip

A, B = "5a" * 32, "b0" * 32

# What the index page of a package has, and where the sdist then is. None of these files can be downloaded, so that a pip
# which installs them has found a wheel in its cache.
LINKS = {
    "absolute": ("{url}/files/absolute-1.tar.gz#sha256=" + A, "{url}/files/absolute-1.tar.gz"),
    "relative": ("../../files/relative-1.tar.gz#sha256=" + A, "{url}/files/relative-1.tar.gz"),
    "rooted": ("/files/rooted-1.tar.gz#sha256=" + A, "{url}/files/rooted-1.tar.gz"),
    "other-host": ("http://localhost:{port}/other_host-1.tar.gz", "http://localhost:{port}/other_host-1.tar.gz"),
    "secret": ("http://me:hidden@localhost:{port}/secret-1.tar.gz", "http://localhost:{port}/secret-1.tar.gz"),
    "no-hash": ("/files/no_hash-1.tar.gz", "{url}/files/no_hash-1.tar.gz"),
    "md5": ("/files/md5-1.tar.gz#md5=" + "c" * 32, "{url}/files/md5-1.tar.gz"),
    "several": ("/files/several-1.tar.gz#md5=" + "c" * 32 + "&sha256=" + A, "{url}/files/several-1.tar.gz"),
    "odd-hash": ("/files/odd_hash-1.tar.gz#blake2b=abc", "{url}/files/odd_hash-1.tar.gz"),
    "uppercase": ("/files/uppercase-1.tar.gz#SHA256=" + A, "{url}/files/uppercase-1.tar.gz"),
    "uppercase-digest": ("/f/uppercase_digest-1.tar.gz#sha256=" + A.upper(), "{url}/f/uppercase_digest-1.tar.gz"),
    "plus": ("/root/+f/ab/plus-1.tar.gz#sha256=" + A, "{url}/root/%2Bf/ab/plus-1.tar.gz"),
    "plus-quoted": ("/root/%2Bf/plus_quoted-1.tar.gz#sha256=" + A, "{url}/root/%2Bf/plus_quoted-1.tar.gz"),
    "slash-quoted": ("/root/a%2Fb/slash_quoted-1.tar.gz", "{url}/root/a%2Fb/slash_quoted-1.tar.gz"),
    "query": ("/files/query-1.tar.gz?t=a%2Bb&amp;x=1#sha256=" + A, "{url}/files/query-1.tar.gz?t=a%2Bb&x=1"),
    "yanked": ('/files/yanked-1.tar.gz#sha256=" data-yanked="it is bad', "{url}/files/yanked-1.tar.gz"),
    "two-forms": (
        '/files/two_forms-1.tar.gz#sha256=" data-requires-python="&gt;=4">a</a><a href="/files/two_forms-1.zip#sha256='
        + A,
        "{url}/files/two_forms-1.zip",
    ),
}
NAMES = (*LINKS, "base", "moved", "json", "json-several", "extra", "both", "found", "indexed-and-found", "from-page")


@pytest.fixture
def settings(home, monkeypatch):
    """pip's settings are those of the test, in all the places that pip has for them."""
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("PIP_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # pip tells each index which compiler it finds
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")

    def write(path: Path, **values):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in values.items())
        path.write_text(f"[global]\n{text}")

    return write


@pytest.fixture
def index(server):
    """An index that speaks every dialect. Returns what it makes of the names in LINKS."""
    places = {}
    for name, (link, place) in LINKS.items():
        link, places[name] = (text.format(url=server.url, port=server.port) for text in (link, place))
        server.serve_page(
            f"/simple/{name}/", f'<!DOCTYPE html><html><body><a href="{link}">{name}-1.tar.gz</a></body></html>'
        )
    page = '<!DOCTYPE html><html><head><base href="{base}"></head><body><a href="{link}">a</a></body></html>'
    server.serve_page("/simple/base/", page.format(base=f"{server.url}/a/b/", link="../base-1.tar.gz#sha256=" + A))
    server.redirect("/simple/moved/", f"http://localhost:{server.port}/elsewhere/x/moved/")
    server.serve_page(
        "/elsewhere/x/moved/", '<!DOCTYPE html><html><body><a href="../moved-1.tar.gz">a</a></body></html>'
    )
    for name, hashes in (("json", {"sha256": A}), ("json-several", {"blake2b": B, "md5": "c" * 32, "sha256": A})):
        dialect(server, name, hashes)
    for name in ("extra", "both"):
        server.serve_page(
            f"/second/{name}/", f'<!DOCTYPE html><html><body><a href="{name}-1.tar.gz">a</a></body></html>'
        )
    for name in ("both", "indexed-and-found"):
        link = f"/files/{name.replace('-', '_')}-1.tar.gz"
        server.serve_page(f"/simple/{name}/", f'<!DOCTYPE html><html><body><a href="{link}">a</a></body></html>')
    server.serve_page("/links.html", '<!DOCTYPE html><html><body><a href="l/from_page-1.tar.gz">a</a></body></html>')
    ready = (
        '<!DOCTYPE html><html><body><a href="/files/ready-1-py3-none-any.whl">a</a><a href="/r/ready-1.tar.gz">a</a>'
    )
    server.serve_page("/simple/ready/", ready + "</body></html>")
    places["base"] = f"{server.url}/a/base-1.tar.gz"
    places["moved"] = f"http://localhost:{server.port}/elsewhere/x/moved-1.tar.gz"
    places["json"], places["json-several"] = f"{server.url}/j/json-1.tar.gz", f"{server.url}/j/json_several-1.tar.gz"
    places["extra"] = f"{server.url}/second/extra/extra-1.tar.gz"
    places["from-page"] = f"{server.url}/l/from_page-1.tar.gz"
    return places


def dialect(server, name, hashes):
    """A page in JSON (PEP 691) for a pip that knows it, in HTML for another."""
    file = f"{name.replace('-', '_')}-1.tar.gz"
    entry = {"filename": file, "url": f"../../j/{file}", "hashes": hashes, "requires-python": ">=3.6", "yanked": False}
    page = {"meta": {"api-version": "1.0"}, "name": name, "files": [entry]}
    kind = "application/vnd.pypi.simple.v1+json"
    server.serve_page(f"/simple/{name}/", json.dumps(page), kind)
    as_json = server.handlers[f"/simple/{name}/"]
    server.serve_page(f"/simple/{name}/", f'<!DOCTYPE html><html><body><a href="/j/{file}">a</a></body></html>')
    as_html = server.handlers[f"/simple/{name}/"]
    server.handlers[f"/simple/{name}/"] = lambda handler: (
        as_json if kind in handler.headers.get("Accept", "") else as_html
    )(handler)


def pip_install(venv, folder, *requirements):
    command = [venv / "bin" / "python", "-m", "pip", "install", "--no-deps", "--target", folder, *requirements]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=venv)


def fill(environment, name, delivered, sdist_url, folder=None):
    """Put a wheel where a pip has said that it looks, or where a URL leads."""
    path = build_wheel(delivered, name=name, version="1")
    place = os.path.join(folder, path.name) if folder else wheel_path(sdist_url, path.name, environment)
    wheel = as_wanted(path, name=name, version="1", sdist_url=sdist_url, pip_cache_path=place)
    add_wheel(wheel, str(delivered), environment)


@pytest.mark.parametrize("version", [version for version in ASKABLE if version != "23.1.2"])  # as 23.0.1 and 24.0
def test_every_pip_finds_the_wheel_in_its_cache(version, index, server, settings, home, tmp_path, run, monkeypatch):
    venv = pip_venv(version, tmp_path / "venv")
    for name in ("found", "indexed-and-found"):
        build_sdist(tmp_path / "links", name=name, version="1")
    with_secret = server.url.replace("//", "//me:hidden@")
    settings(home / ".config" / "pip" / "pip.conf", index_url="http://127.0.0.1:9/", trusted_host="localhost")
    settings(venv / "pip.conf", index_url=f"{with_secret}/simple/", extra_index_url=f"{server.url}/second/")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/links {with_secret}/links.html")
    before = tree_state(venv)
    asked = [f"{name}==1" for name in (*NAMES, "ready", "absent")]
    environment, _warnings = describe_environment(str(venv), [], run, os.environ, asked)
    told = environment["sdists"]
    assert tree_state(venv) == before
    assert not (home / "cache").exists()
    assert [name for name in NAMES if told[name]["error"]] == []
    if version == "20.0.2":  # the only one of these that decodes it
        index["slash-quoted"] = index["slash-quoted"].replace("%2F", "/")
    assert {name: told[name]["url"].partition("#")[0] for name in index} == index
    assert "hidden" not in json.dumps(told)
    assert "its index offers ready-1-py3-none-any.whl" in told["ready"]["error"]
    assert re.search(f"finds no sdist for absent==1: .*{server.url[7:]}/simple/absent/ \\(404", told["absent"]["error"])
    for name in NAMES:
        fill(environment, name, tmp_path / "wheels", told[name]["url"], told[name]["folder"])
    computed = {name: os.path.dirname(wheel_path(told[name]["url"], "a.whl", environment)) for name in NAMES}
    differing = [name for name in NAMES if computed[name] != told[name]["folder"]]
    # Since 23.0 pip's key has the first hash of a JSON page, even one that it does not know in a URL.
    # The key has the credentials of a link; the URL that is told has not.
    assert differing == ["secret"] + ["json-several"] * (
        version not in ("20.0.2", "20.3.4", "21.3.1", "22.2.2", "22.3.1")
    )
    server.requests.clear()
    done = pip_install(venv, tmp_path / "target", *asked[: len(NAMES)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "target").glob("*.dist-info"))) == len(NAMES)
    assert [path for path in server.requests if "-1." in path] == [], "no sdist was downloaded"


@pytest.mark.parametrize("version", ["20.3.4", "23.0.1", "23.1.2", NEWEST])
def test_settings_that_keep_pip_from_its_cache_are_reported(
    version, index, server, settings, home, tmp_path, run, monkeypatch
):
    venv = pip_venv(version, tmp_path / "venv")
    settings(venv / "pip.conf", index_url=f"{server.url}/simple/", no_binary="md5,no-hash", trusted_host="localhost")
    monkeypatch.setenv("PIP_ONLY_BINARY", "Absolute,no-hash")
    asked = ["absolute==1", "md5==1", "no-hash==1", "rooted==1"]
    environment, _warnings = describe_environment(str(venv), [], run, os.environ, asked)
    cache, told = environment["pip_cache"], environment["sdists"]
    assert (cache["only_binary"], cache["no_binary"]) == (["absolute", "no-hash"], ["md5"])
    knows = version in ("23.1.2", NEWEST)
    assert [name for name in told if told[name]["error"]] == ["absolute", *(["md5"] * (not knows)), "no-hash"]
    for name in ("absolute", "no-hash"):
        assert f"would not use its cache for {name}==1: only-binary" in told[name]["error"]
    if not knows:
        assert "would not use its cache for md5==1: no-binary is in its settings" in told["md5"]["error"]
    for name in ("absolute", "md5", "rooted"):
        link = LINKS[name][0].format(url=server.url)
        fill(environment, name, tmp_path / "wheels", link if "://" in link else server.url + link)
    installs = {name: pip_install(venv, tmp_path / name, f"{name}==1").returncode == 0 for name in ("md5", "rooted")}
    assert installs == {"md5": knows, "rooted": True}
    assert pip_install(venv, tmp_path / "absolute", "absolute==1").returncode != 0


@pytest.fixture
def newest(tmp_path):
    return pip_venv(NEWEST, tmp_path / "venv")


def ask_newest(venv, run, *requirements):
    environment, _warnings = describe_environment(str(venv), [], run, os.environ, requirements or ["absolute==1"])
    return next(iter(environment["sdists"].values()))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PIP_NO_CACHE_DIR": "1"}, "would not use its cache .*: pip's cache is switched off by no-cache-dir = 1"),
        ({"PIP_ONLY_BINARY": ":all:"}, "would not use its cache .*: only-binary in its settings"),
        (
            {"PIP_INDEX_URL": "http://127.0.0.1:9/"},
            r"cannot reach its index, .*: http://127.0.0.1:9/absolute/ \((?!.*object at).*refused",
        ),
        ({"PIP_NO_INDEX": "1"}, "No matching distribution found for absolute==1"),
        ({"PIP_INDEX_URL": "http://me:hidden@127.0.0.1:9/"}, r"http://\*\*\*\*@127.0.0.1:9/absolute/"),
        ({"PIP_TIMEOUT": "soon"}, "does not answer|invalid|PIP_TIMEOUT|timeout"),
    ],
)
def test_a_requirement_that_pip_cannot_resolve_is_an_error_that_names_the_knob(
    variables, words, newest, index, server, settings, run, monkeypatch
):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = ask_newest(newest, run)
    assert (told["url"], told["folder"], told["requirement"]) == (None, None, "absolute==1")
    assert re.search(words, told["error"]), told["error"]
    assert "torch_extension_mode: install." in told["error"]
    assert ("torch_extension_sdist_url" in told["error"]) == ("would not use" not in told["error"])
    assert "hidden" not in told["error"]
    assert "\n" not in told["error"]


def test_without_an_index_pip_finds_an_sdist_in_a_folder(newest, settings, tmp_path, run, monkeypatch):
    sdist = build_sdist(tmp_path / "links", name="absolute", version="1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(sdist.parent))
    assert ask_newest(newest, run)["url"] == sdist.as_uri()


def test_an_installed_requirement_is_resolved_all_the_same(newest, index, server, settings, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    wheel = build_wheel(tmp_path, name="absolute", version="1")
    packages = next(newest.glob("lib/python*/site-packages"))
    assert pip_install(newest, packages, str(wheel)).returncode == 0
    assert ask_newest(newest, run)["error"] is None


def test_require_hashes_is_seen_where_pip_then_passes_over_its_cache(
    index, server, settings, tmp_path, run, monkeypatch
):
    venv = pip_venv("23.0.1", tmp_path / "venv")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    assert "would not use its cache for absolute==1: require-hashes" in ask_newest(venv, run)["error"]


def test_a_broken_pip_is_an_error_of_its_own(newest, run):
    package = next(newest.glob("lib/python*/site-packages/pip"))
    package.unlink()
    package.mkdir()
    error = ask_newest(newest, run)["error"]
    assert re.search(r"pip \S+ of .*/venv/bin/python does not answer: ModuleNotFoundError", error)
    assert "Set torch_extension_sdist_url" in error


@pytest.mark.parametrize(
    ("pip", "words"),
    [(None, "has no pip.*Install pip"), ("19.3.1", "pip 19.3.1 of /p is too old.*Set torch_extension_sdist_url")],
)
def test_no_pip_and_an_old_pip_are_not_even_started(pip, words):
    told = find_sdists(["Flash_Attn==2.8.3"], "/p", pip, {}, run=None)
    assert list(told) == ["flash-attn"]
    assert re.search(words, told["flash-attn"]["error"])


@pytest.mark.parametrize(
    "requirement",
    ["flash-attn", "--index-url==1", "flash-attn>=2", "flash-attn==2.*", "a @ http://b/c==1", "./a==1", ""],
)
def test_a_requirement_that_pins_no_version_is_refused_before_pip_is_started(requirement):
    with pytest.raises(TorchExtensionError, match="does not pin one version"):
        check_pinned(["flash-attn==2.8.3", requirement])
    with pytest.raises(TorchExtensionError, match="does not pin one version"):
        describe_environments(["/none"], [], None, {}, [requirement])


WHERE = """
import sys
try:
    from pip._internal.cache import SimpleWheelCache
    from pip._internal.models.link import Link
    try:
        where = SimpleWheelCache("/c").get_path_for_link
    except TypeError:
        from pip._internal.models.format_control import FormatControl
        where = SimpleWheelCache("/c", FormatControl(set(), set())).get_path_for_link
except ImportError:
    from pip.index import Link
    from pip.wheel import _cache_for_link
    def where(link):
        return _cache_for_link("/c", link)
for url in sys.argv[1:]:
    print(where(Link(url)))
"""
FRAGMENTS = [
    *("", f"#sha256={A}", f"#sha256={A.upper()}", f"#SHA256={A}", "#sha256=", "#blake2b=ab", "#xsha256=ab"),
    *(f"?a=1&sha256=ab#sha256={A}", "?sha256=ab", "?", f"#sha512=zz&sha256={A}", "#egg=a&md5=ab"),
    *("#egg=a&subdirectory=p/k", f"#sha256={A}&subdirectory=", f"#sha256={A}&subdirectory=p&egg=b"),
]
URLS = ["https://me:hidden@m.example:8080/a%2Fb/c%2Bd/+f/ä-1.tar.gz", "file:///srv/a-1.tar.gz"]


@pytest.mark.parametrize("version", [*OLD, *ASKABLE])
def test_every_pip_computes_the_folder_of_a_url_as_we_do(version, tmp_path, run):
    venv = pip_venv(version, tmp_path / "venv")
    environment, _warnings = describe_environment(str(venv), [], run, {"PIP_CACHE_DIR": "/c"})
    urls = [url + fragment for url in URLS for fragment in FRAGMENTS]
    status, out, err = run([venv / "bin" / "python", "-W", "ignore", "-c", WHERE, *urls])
    assert status == 0, err
    ours = [
        os.path.join("/c", wheel_folder(url, environment["python"]["tag"], environment["installers"]["pip"]))
        for url in urls
    ]
    assert [pair for pair in zip(urls, out.splitlines(), ours, strict=True) if pair[1] != pair[2]] == []


@pytest.mark.parametrize("version", OLD)
def test_a_pip_too_old_to_be_queried_finds_the_wheel_by_the_given_url(
    version, server, settings, tmp_path, run, monkeypatch
):
    venv = pip_venv(version, tmp_path / "venv")
    server.serve_page("/simple/old/", f'<!DOCTYPE html><a href="/f/old-1.tar.gz#sha256={A}">old-1.tar.gz</a>')
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    environment, _warnings = describe_environment(str(venv), [], run, os.environ)
    assert pip_install(venv, tmp_path / "target", "old==1").returncode != 0
    fill(environment, "old", tmp_path / "wheels", f"{server.url}/f/old-1.tar.gz#sha256={A}")
    done = pip_install(venv, tmp_path / "target", "old==1")
    assert done.returncode == 0, done.stdout + done.stderr

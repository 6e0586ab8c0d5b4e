# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links are those that html.parser finds on pages that servers make, and are found in time on any other."""

from __future__ import annotations

import html
from html.parser import HTMLParser

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.links import find_tags

NAMES = ("a", "base", "input")


class Oracle(HTMLParser):
    """What Python finds."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag in NAMES:
            self.tags.append((tag, dict(attrs)))


def found(page):
    return [(tag.name, dict(tag.attributes)) for tag in find_tags(page, NAMES)]


def wheel(number):
    return f"flash_attn-2.{number}.{number % 9}+cu12torch2.{number % 10}cxx11abiTRUE-cp3{number % 4 + 9}-cp39-linux_x86_64.whl"


def quoted(number):
    return wheel(number).replace("+", "%2B")


#: a link of the form that a server gives it, and what stands around all of them
FORMS = {
    "PEP 503": (
        lambda n: (
            f'    <a href="../../packages/ab/{quoted(n)}#sha256={"ab" * 32}" data-requires-python="&gt;=3.9" data-core-metadata="sha256='
            f'{"cd" * 32}" data-dist-info-metadata="sha256={"cd" * 32}" >{wheel(n)}</a><br />\n'
        ),
        '<!DOCTYPE html>\n<html>\n  <head>\n    <meta name="pypi:repository-version" content="1.4">\n    <title>Links for flash-attn'
        "</title>\n  </head>\n  <body>\n    <h1>Links for flash-attn</h1>\n{}</body>\n</html>\n<!--SERIAL 1234-->",
    ),
    "pytorch": (
        lambda n: (
            f'    <a href="/whl/cu126/{quoted(n)}#sha256={"ab" * 32}" data-dist-info-metadata="sha256={"cd" * 32}" data-core-metadata='
            f'"sha256={"cd" * 32}">{wheel(n)}</a><br/>\n'
        ),
        "<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for flash-attn</h1>\n{}  </body>\n</html>\n<!--TIMESTAMP 1784000000-->",
    ),
    "nginx": (
        lambda n: f'<a href="{quoted(n)}">{wheel(n)[:47]}..&gt;</a> 01-Jan-2026 10:00   255{n:04}\n',
        '<html>\r\n<head><title>Index of /w/</title></head>\r\n<body>\r\n<h1>Index of /w/</h1><hr><pre><a href="../">../</a>\r\n{}</pre><hr>'
        "</body>\r\n</html>\r\n",
    ),
    "apache": (
        lambda n: (
            '<tr><td valign="top"><img src="/icons/unknown.gif" alt="[   ]"></td><td><a href="'
            f'{quoted(n)}">{wheel(n)[:20]}..&gt;</a></td><td align="right">2026-01-01 10:00  </td><td align="right">244M</td><td>&nbsp;</td></tr>\n'
        ),
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n<html>\n <head><title>Index of /w</title></head>\n<body><h1>Index of /w'
        '</h1>\n  <table>\n   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th><th><a href="?C=N;O=D">Name</a></th></tr>\n'
        "{}</table>\n</body></html>\n",
    ),
    "lighttpd": (
        lambda n: (
            f'<tr class="d"><td class="n"><a href="{quoted(n)}">{wheel(n)}</a></td><td class="m">2026-Jan-01</td><td class="s">1.0M</td>\n'
        ),
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n<html>\n<head>\n<style type="text/css">\na, a:active {{text-decoration: none}}\n'
        '</style>\n</head>\n<body>\n<table>{}</table>\n<script type="text/javascript">\n// <!--\nvar a = \'<a href="no.whl">\';\n// -->\n'
        "</script></body></html>",
    ),
    "artifactory": (
        lambda n: f'<a href="{quoted(n)}">{wheel(n)}</a>  01-Jan-2026 10:00  244 MB\n',
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html>\n<head><meta name="robots" content="noindex" />\n<title>Index of w</title>'
        '\n</head>\n<body>\n<pre>Name    Last modified      Size</pre><hr/>\n<pre><a href="../">../</a>\n{}</pre>\n<hr/></body></html>',
    ),
    "github pages": (
        lambda n: (
            f"<a href='https://github.com/a/b/releases/download/v{n}/{quoted(n)}#sha256={'ab' * 32}'>{wheel(n)}</a><br>\n"
        ),
        "<html><head><base href='https://a.github.io/'></head><body>{}</body></html>",
    ),
    "python": (
        lambda n: f'<li><a href="{quoted(n)}">{wheel(n)}</a></li>\n',
        '<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<style type="text/css">\n:root {{\ncolor-scheme: light dark;\n}}\n'
        "</style>\n</head>\n<body>\n<h1>Directory listing for /</h1>\n<hr>\n<ul>\n{}</ul>\n<hr>\n</body>\n</html>\n",
    ),
    "minified": (
        lambda n: f"<a href={quoted(n)} data-yanked>{wheel(n)}</a>",
        "<!doctype html><meta charset=utf-8><p>{}",
    ),
    "upper case": (
        lambda n: f'<A HREF="{quoted(n)}" Data-Yanked="a &lt;b&gt;">x</A>\n',
        "<HTML><BODY>{}</BODY></HTML>",
    ),
}


@pytest.mark.parametrize(("link", "around"), FORMS.values(), ids=FORMS)
def test_of_the_pages_that_servers_make_all_links_are_found(link, around):
    page = around.format("".join(map(link, range(5000))))
    tags = limited.run(lambda: found(page), seconds=10, mebibytes=256)
    assert tags == Oracle(page).tags
    assert len([tag for tag in tags if ".whl" in (tag[1].get("href") or "")]) == 5000


TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20)
NAME = st.sampled_from(["href", "HREF", "data-yanked", "type", "class", "x-y", "data_z"])
SPACE = st.sampled_from(["", " ", "\n"])
ATTRIBUTE = st.one_of(
    NAME,
    st.builds(lambda n, v, s: f'{n}{s}={s}"{html.escape(v)}"', NAME, TEXT, SPACE),
    st.builds(lambda n, v, s: f"{n}{s}={s}'{html.escape(v)}'", NAME, TEXT, SPACE),
    st.builds(lambda n, v: f"{n}={v}", NAME, st.text("abc./%-_:+123", min_size=1)),
)
ELEMENT = st.one_of(
    st.builds(
        lambda tag, each, end: f"<{tag}{''.join(' ' + one for one in each)}{end}>",
        st.sampled_from(["a", "A", "base", "input", "p", "img", "abbr"]),
        st.lists(ATTRIBUTE, max_size=4, unique_by=lambda each: each.partition("=")[0].strip().lower()),
        st.sampled_from(["", " ", " /"]),
    ),
    st.sampled_from(["</a>", "</p>", "<!DOCTYPE html>", "<br>", "<br/>", "<script>if (a<b) '<a href=x>'</script>"]),
    st.builds(lambda text: f"<!-- {text.replace('-', '').replace('>', '')} <a href=x> -->", TEXT),
    TEXT.map(html.escape),
)


def test_on_sound_pages_the_links_are_those_of_html_parser():
    links = []

    @given(st.lists(ELEMENT).map("".join))
    def check(page):
        tags = found(page)
        links.extend(tags)
        assert tags == Oracle(page).tags

    assert limited.check_property(check, result=lambda: len(links)) > 20


UNITS = [
    *(
        "<a x=",
        '<a x="',
        "<a x='",
        "<a x='<a y=\"",
        "<a x",
        "<a ",
        "<a x = ",
        "<a x =\n",
        "<a/",
        "<a =",
        "<",
        "</a",
        "<!--",
        "<!",
        "<?",
    ),
    *(
        "<script>",
        "<script ",
        "</script",
        "<a href='&#9",
        "&#",
        '<a href="a.whl">',
        "<a href=a.whl ",
        "<base href=a>",
        "a=b ",
        "\"'",
    ),
]


@pytest.mark.parametrize("unit", UNITS)
def test_it_takes_time_in_proportion_to_the_page(unit):
    page = unit * ((1 << 20) // len(unit))
    limited.run(lambda: len(found(page)), seconds=10, mebibytes=256)


@pytest.mark.parametrize("value", ["&#" + "9" * 5000 + ";", "9" * 5000])
def test_a_value_that_is_too_long_for_a_link_is_none(value):
    assert found(f'<a href="{value}"><a href="b">') == [("a", {"href": ""}), ("a", {"href": "b"})]


def test_any_page_is_read():
    alphabet = st.sampled_from(
        [*"<>/='\"! -&#;ax", "<a", "href", "<!--", "-->", "<script>", "</script>", "&#99", "\0", "\xff"]
    )

    @given(st.lists(alphabet, max_size=300).map("".join))
    def check(page):
        for name, attributes in found(page):
            assert name in NAMES
            assert all(value is None or len(value) <= 4000 for value in attributes.values())

    limited.check_property(check)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.configuration import (
    add_find_links,
    remove_find_links,
)

OURS = "/opt/venv/wheels"


ADDED = pytest.mark.parametrize(
    ("before", "after", "effective"),
    [
        ("", f"[install]\nfind-links = {OURS}\n", ""),
        ("# nothing\n", f"# nothing\n\n[install]\nfind-links = {OURS}\n", ""),
        (
            "[global]\nindex-url = https://a/ # not a comment",
            f"[global]\nindex-url = https://a/ # not a comment\n\n[install]\nfind-links = {OURS}\n",
            "",
        ),
        ("", f"[install]\nfind-links =\n    /a\n    /b\n    {OURS}\n", "/a /b"),
        ("[install]\nfind-links = /a\n", f"[install]\nfind-links = /a\n    {OURS}\n", "/a"),
        ("[install]\nfind-links=", f"[install]\nfind-links=\n    {OURS}\n", ""),
        (
            "[global]\nno-index = true\nfind-links =\n  /a\n\n# why\n  /b\n\ncert = /c\n[list]\nformat = json\n",
            f"[global]\nno-index = true\nfind-links =\n  /a\n\n# why\n  /b\n    {OURS}\n\ncert = /c\n[list]\nformat = json\n",
            "/a /b",
        ),
        (
            "[global]\nfind-links = /a\n[install]\nfind-links = /b\n",
            f"[global]\nfind-links = /a\n[install]\nfind-links = /b\n    {OURS}\n",
            "/b",
        ),
        (
            "[global]\nfind-links = /a\n",
            f"[global]\nfind-links = /a\n\n[install]\nfind-links =\n    /of/the/user\n    {OURS}\n",
            "/of/the/user",
        ),
        (
            "[install]\n  cert = /c\n  timeout = 3\n; end\n[global]\n",
            f"[install]\n  cert = /c\n  timeout = 3\n  find-links = {OURS}\n; end\n[global]\n",
            "",
        ),
        ("[install]\n\n  cert = /c\n", f"[install]\n\n  cert = /c\n  find-links = {OURS}\n", ""),
        ("[install]\r\nFIND_LINKS : /a\r\n", f"[install]\r\nFIND_LINKS : /a\r\n    {OURS}\r\n", "/a"),
        (
            "[install]\nfind-links = /a\nfind_links = /b\n",
            f"[install]\nfind-links = /a\nfind_links = /b\n    {OURS}\n",
            "/b",
        ),
        ("[install]\n[global]\ncert = /c\n", f"[install]\nfind-links = {OURS}\n[global]\ncert = /c\n", ""),
    ],
    ids=[
        "empty",
        "comment only",
        "other settings, no newline at the end",
        "what another file says is kept",
        "one line",
        "empty value",
        "many lines and comments",
        "install is stronger than global",
        "install of another file is stronger than our global",
        "indented settings",
        "indented settings after an empty line",
        "another spelling, of another system",
        "two spellings, of which pip takes the latter",
        "empty section",
    ],
)


@ADDED
def test_a_link_is_added_and_everything_else_stays(before, after, effective):
    assert add_find_links(before, OURS, effective.split(), "pip.conf") == after


@ADDED
def test_what_was_added_is_removed_and_everything_else_is_as_it_was(before, after, effective):
    kept = before if before.endswith("\n") or not before else before + ("\r\n" if "\r\n" in before else "\n")
    if set(effective.split()) - set(before.split()):  # of another file
        kept += ("\n" if before else "") + "[install]\nfind-links =\n"
        kept += "".join(f"    {link}\n" for link in effective.split())
    assert remove_find_links(after, OURS, [], "pip.conf") == kept
    assert remove_find_links(kept, OURS, [], "pip.conf") == kept


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"[install]\nfind-links = {OURS}\n    /b\n", "[install]\nfind-links =\n    /b\n"),
        (f"[install]\nfind-links = /a {OURS} /b\n", "[install]\nfind-links = /a /b\n"),
        (f"[install]\nfind-links = {OURS}/more {OURS}\n", f"[install]\nfind-links = {OURS}/more\n"),
        (
            f"[global]\nfind-links = {OURS}\n[install]\nfind-links = {OURS}\ncert = /c\n",
            "[global]\n[install]\ncert = /c\n",
        ),
    ],
    ids=["another after it", "others in its line", "a longer one", "in both sections"],
)
def test_a_link_is_removed_wherever_it_has_got_to(before, after):
    assert remove_find_links(before, OURS, [], "pip.conf") == after


def test_a_file_that_holds_nothing_but_a_copy_of_what_others_say_is_empty():
    copied = add_find_links("", OURS, ["/of/the/user"], "pip.conf")
    assert remove_find_links(copied, OURS, ["/of/the/user"], "pip.conf") == ""
    assert "/of/the/user" in remove_find_links(f"{copied}cert = /c\n", OURS, ["/of/the/user"], "pip.conf")
    assert "/of/the/user" in remove_find_links(copied, OURS, [], "pip.conf"), "that file has gone"


def test_a_link_in_a_form_that_is_not_understood_is_to_be_removed_by_hand():
    inherited = f"[DEFAULT]\nfind-links = {OURS}\n[install]\ncert = /c\n"
    with pytest.raises(TorchExtensionError, match=r"Take /opt/venv/wheels out of find-links .*\[install\] by hand"):
        remove_find_links(inherited, OURS, [], "pip.conf")


@pytest.mark.parametrize(
    "text",
    ["[install]\ncert = a\ncert = b\n", "secret\n", "[install]\n[install]\n"],
    ids=["option", "no section", "section"],
)
def test_a_file_that_pip_cannot_read_is_neither_edited_nor_quoted(text):
    with pytest.raises(TorchExtensionError, match=r"pip cannot read /x/pip\.conf \(\w+Error\)\. Mend it\.$"):
        add_find_links(text, OURS, [], "/x/pip.conf")


def test_a_form_that_is_not_understood_is_an_error():
    inherited = "[DEFAULT]\nfind-links = /a\n[install]\ncert = /c\n"
    with pytest.raises(TorchExtensionError, match="by hand"):
        add_find_links(inherited, OURS, ["/a"], "pip.conf")

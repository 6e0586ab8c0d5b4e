# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The text of a pip.conf, and how one more place gets into its find-links, or out of it, with all else as it was."""

from __future__ import annotations

import configparser
import io
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_KEY = "find-links"
#: for `pip install` its settings take the place of [global]'s, whatever files the two are in
_STRONGEST_SECTION = "install"


def add_find_links(text: str, link: str, effective: t.Sequence[str], path: str) -> str:
    """The text of a pip.conf with one more link in find-links.

    :param text: its present text
    :param link: without white space
    :param effective: the find-links that pip has without this change, from this file or another; a setting of this file
        takes the place of another file's, so these are kept in it
    :param path: of the file, for messages
    :raises TorchExtensionError: if pip could not read it, or if its form is not understood here
    """
    before = _parse(text, path)
    own = {section: values[_KEY].split() for section, values in before.items() if _KEY in values}
    if _STRONGEST_SECTION in own:
        section, links = _STRONGEST_SECTION, own[_STRONGEST_SECTION]
    elif own.get("global") and own["global"] == list(effective):
        section, links = "global", own["global"]
    else:
        section, links = _STRONGEST_SECTION, list(effective)
    edited = _insert_link(text, section, links, link, section in own)
    expected = {name: dict(values) for name, values in before.items()}
    expected.setdefault(section, {})[_KEY] = [*links, link]
    try:
        after = _parse(edited, path)
        after[section][_KEY] = after[section][_KEY].split()
    except (TorchExtensionError, KeyError):
        after = {}
    if after != expected:
        raise TorchExtensionError(
            f"{path} is written in a way that is not understood here. Add {link} to find-links in its section"
            f" [{section}] by hand."
        )
    return edited


def remove_find_links(text: str, link: str, elsewhere: t.Sequence[str], path: str) -> str:
    """The text of a pip.conf without a link that :func:`add_find_links` has added; also without what is empty then.

    :param elsewhere: the find-links that pip has without this file: where it holds nothing but a copy of these, it is empty
    :param path: of the file, for messages
    :raises TorchExtensionError: if pip could not read it, or if its form is not understood here
    """
    expected = _parse(text, path)
    sections = [section for section, values in expected.items() if link in values.get(_KEY, "").split()]
    edited = text
    for section in sections:
        links = [value for value in expected[section][_KEY].split() if value != link]
        expected[section][_KEY] = "\n".join(links)
        edited = _remove_link(edited, section, link)
        if not any(_parse(edited, path).get(section, {})):
            edited = _remove_empty_section(edited, section)
    if _split_links(_parse(edited, path)) != _split_links(expected):
        raise TorchExtensionError(
            f"{path} is written in a way that is not understood here. Take {link} out of find-links in its section"
            f" {' and '.join(f'[{section}]' for section in sections)} by hand."
        )
    rest = _split_links(expected)
    return "" if sections and elsewhere and rest == {_STRONGEST_SECTION: {_KEY: list(elsewhere)}} else edited


def _split_links(sections: t.Mapping[str, t.Mapping[str, str]]) -> dict[str, dict[str, t.Any]]:
    """Sections that set anything, with the links as a list."""
    split = {
        section: {name: value.split() if name == _KEY else value for name, value in values.items() if value.strip()}
        for section, values in sections.items()
    }
    return {section: values for section, values in split.items() if values}


def _remove_link(text: str, section: str, link: str) -> str:
    """Remove a link from the setting, and the setting if that has no other and is in one line."""
    lines = list(io.StringIO(text))
    last_line, _indent = _find_last_line(lines, section, _KEY)
    word = re.compile(rf"[ \t]*(?<!\S){re.escape(link)}(?!\S)")
    number = next((n for n in range(-1 if last_line is None else last_line, -1, -1) if word.search(lines[n])), None)
    if number is None or last_line is None:
        return text
    rest = word.sub("", lines[number])
    is_all = number == last_line and re.match(r"\s*find[-_]links\s*[=:]\s*$", rest, re.IGNORECASE)
    lines[number : number + 1] = [rest] if rest.strip() and not is_all else []
    return "".join(lines)


def _remove_empty_section(text: str, section: str) -> str:
    """Remove the header of a section at the end of a file, and an empty line before it, as :func:`add_find_links` puts them there."""
    return re.sub(rf"(^|(?<=\n))(\r?\n)?\[{re.escape(section)}\]\s*\Z", "", text)


def _parse(text: str, path: str) -> dict[str, dict[str, t.Any]]:
    parser = configparser.RawConfigParser()  # as pip does
    try:
        parser.read_string(text)
    except configparser.Error as exc:
        # without its text, which quotes lines of the file
        raise TorchExtensionError(f"pip cannot read {path} ({type(exc).__name__}). Mend it.") from None
    return {
        section: {name.replace("_", "-"): value or "" for name, value in parser.items(section)}
        for section in parser.sections()
    }


def _insert_link(text: str, section: str, links: t.Sequence[str], link: str, is_set: bool) -> str:
    """Insert a link into the setting, or, where the section has no such setting, the setting with all its links."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = list(io.StringIO(text))  # as configparser does; str.splitlines knows more ends of a line
    last_line, indent = _find_last_line(lines, section, _KEY if is_set else None)
    if last_line is None:
        added = ["", f"[{section}]"] if text.strip() else [f"[{section}]"]
        last_line, indent = len(lines) - 1, ""
    else:
        added = []
    if is_set:
        added.append(f"{indent}    {link}")
    else:
        values = [*links, link]
        added += (
            [f"{indent}{_KEY} = {link}"]
            if len(values) == 1
            else [f"{indent}{_KEY} =", *(f"{indent}    {value}" for value in values)]
        )
    if lines and not lines[last_line].endswith(("\n", "\r")):
        lines[last_line] += newline
    lines[last_line + 1 : last_line + 1] = [line + newline for line in added]
    return "".join(lines)


def _find_last_line(lines: t.Sequence[str], section: str, key: str | None) -> tuple[int | None, str]:
    """The number of the last line of a section's setting (or of its last one), and the indentation of the setting.

    A deeper line continues a setting; comments and empty lines do not end it (configparser).
    """
    last_line, setting_indent = None, ""
    current_section, is_inside, indent = None, False, ""
    is_in_setting = False
    for number, line in enumerate(lines):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        margin = line[: len(line) - len(line.lstrip())]
        if is_in_setting and len(margin) > len(indent):
            if is_inside:
                last_line = number
            continue
        indent = margin
        header = re.match(r"\[(.+)\]", content)
        is_in_setting = header is None
        if header:
            current_section = header.group(1)
            is_inside = current_section == section and key is None
        else:
            name = re.split(r"\s*[=:]", content, maxsplit=1)[0].lower().replace("_", "-")
            is_inside = current_section == section and key in (None, name)
        if is_inside:
            last_line, setting_indent = number, indent
    return last_line, setting_indent

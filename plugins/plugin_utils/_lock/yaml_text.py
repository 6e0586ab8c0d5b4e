# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The one reader of YAML that others may have written: plain values alone, each of which stands where it counts.

Aliases and merge keys let a few bytes stand for gigabytes; of two equal keys a reader of the file sees the first and YAML takes the last.
"""

from __future__ import annotations

import typing as t

import yaml

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.reading import read_file

MAX_SIZE = 16 << 20  # bytes; a lock or a survey has a few KiB for each kind of node
#: as far as the text tells; a thousand kinds of nodes have half of it, and each takes 1 KB and up to 40 µs
_MAX_VALUES = 200_000
#: of which each value but one has one
_INDICATORS = ("\n", "\r", "\x85", "\u2028", "\u2029", ",", "[", "{", ": ", "- ", "? ")
_MAX_DEPTH = 50  # of lists and dictionaries in each other; a survey has 6
_MAX_NUMBER_LENGTH = 100  # characters
_PREFIX = "tag:yaml.org,2002:"
_KINDS = {_PREFIX + name for name in ("map", "seq", "str", "int", "float", "bool", "null")}


class YamlError(Exception):
    """A text is no YAML that is read here. The message is a reason without a full stop."""


def parse_yaml(text: str) -> t.Any:
    """The value that stands in a text.

    :raises YamlError: if it is no YAML, or has what no lock and no survey has
    """
    if len(text) > MAX_SIZE or sum(map(text.count, _INDICATORS)) > _MAX_VALUES:
        raise YamlError(f"it has more than {MAX_SIZE} characters or {_MAX_VALUES} values, wanted are no more than that")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _check_nodes(node)
        return loader.construct_document(node) if node else None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        raise YamlError(f"it is no YAML: {problem}{line}") from exc
    except (ValueError, OverflowError, RecursionError) as exc:  # such as a number that is none
        raise YamlError(f"it is no YAML: {exc}") from exc
    finally:
        loader.dispose()


def read_text(path: str) -> str:
    """The text of a file.

    :raises OSError: if there is no such file, or it is larger than any lock or survey
    :raises UnicodeDecodeError: if it is no text
    """
    return read_file(path, MAX_SIZE).decode("utf-8")


_Loader: t.Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_nodes(root: yaml.Node | None) -> None:
    """Check what was parsed before values are made of it."""
    seen: set[int] = set()
    left = [(root, 1)] if root else []
    while left:
        node, depth = left.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            raise YamlError(
                f"it has an alias for what stands in line {line}, wanted are values that stand where they count"
            )
        seen.add(id(node))
        if depth > _MAX_DEPTH:
            raise YamlError(f"line {line} is nested more than {_MAX_DEPTH} deep")
        if node.tag not in _KINDS:
            raise YamlError(
                f"line {line} has a value of the type {node.tag[:100]!r}, wanted are texts, numbers and the like"
            )
        if isinstance(node, yaml.SequenceNode):
            left += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            left += [(item, depth + 1) for pair in node.value for item in pair]
        elif node.tag in (f"{_PREFIX}int", f"{_PREFIX}float") and len(node.value) > _MAX_NUMBER_LENGTH:
            raise YamlError(f"line {line} has a number of {len(node.value)} characters")


def _check_keys(node: yaml.MappingNode) -> None:
    keys: set[str] = set()
    for key, _value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError(f"line {key.start_mark.line + 1} has a key that is no text")
        if key.value in keys:
            raise YamlError(f"line {key.start_mark.line + 1} has the key {key.value[:100]!r}, which is there already")
        keys.add(key.value)

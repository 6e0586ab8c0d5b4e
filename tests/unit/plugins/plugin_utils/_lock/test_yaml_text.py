# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import limited
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import edited, edits

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file, survey_file, yaml_text
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.yaml_text import YamlError, parse_yaml


def aliases(depth: int) -> str:
    """A few lines that stand for 9 to the power of so many values."""
    lines = ["a0: &a0 [" + ",".join(["lol"] * 9) + "]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join(lines) + f"\nlock_version: 1\nsurvey_version: 1\nenvironments: *a{depth - 1}\n"


def test_plain_values_are_what_yaml_says():
    text = "a: [1, 2.5, true, null, text, '2024-01-01']\nb: {c: {}}\n"
    assert parse_yaml(text) == yaml.safe_load(text) == {"a": [1, 2.5, True, None, "text", "2024-01-01"], "b": {"c": {}}}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (aliases(10), "it has an alias for what stands in line 1"),
        ("a: &a [*a]", "it has an alias for what stands in line 1"),
        ("a: 1\n<<: {b: 2}", "type 'tag:yaml.org,2002:merge'"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2 has the key 'c', which is there already"),
        ("a: 1\n'a': 2", "line 2 has the key 'a', which is there already"),
        ("? [a]\n: 1", "line 1 has a key that is no text"),
        ("a: 2024-99-99", "type 'tag:yaml.org,2002:timestamp'"),
        ("a: !!set {b}", "type 'tag:yaml.org,2002:set'"),
        ("a: !!python/object/apply:os.getcwd []", "type 'tag:yaml.org,2002:python/object/apply:os.getcwd'"),
        ("a: " + "9" * 5000, "line 1 has a number of 5000 characters"),
        ("a: 1" + ":1" * 100_000, "line 1 has a number of 200001 characters"),
        ("[" * 60 + "]" * 60, "line 1 is nested more than 50 deep"),
        ("[" * 100_000, "exceeded maximum nesting depth"),
        ("{a: " * 100_000, "exceeded maximum nesting depth"),
        ("- " * 50_000, "exceeded maximum nesting depth"),
        ("[" + "[]," * 100_000 + "]", "200000 values"),
        ("a\n" * 200_001, "200000 values"),
        (" " * (yaml_text.MAX_SIZE + 1), "more than 16777216 characters"),
        ("a: !!int x", "it is no YAML: "),
        ("a: [", "it is no YAML: "),
        ("\0", "it is no YAML: "),
    ],
    ids=range(21),
)
def test_a_text_that_is_not_plain_is_refused_soon(text, reason):
    def act():
        with pytest.raises(YamlError) as refusal:
            parse_yaml(text)
        return str(refusal.value)

    said = limited.run(act, seconds=5, mebibytes=192)
    assert reason in said
    assert "\n" not in said
    assert len(said) < 400


def test_the_loader_without_libyaml_refuses_the_same(monkeypatch):
    monkeypatch.setattr(yaml_text, "_Loader", yaml.SafeLoader)
    assert parse_yaml("a: [1, {b: text}]") == {"a": [1, {"b": "text"}]}
    for text in (aliases(10), "a: 1\na: 2", "[" * 400, "a: &a [*a]"):
        with pytest.raises(YamlError):
            parse_yaml(text)


def refusal(read, *arguments) -> str:
    """The one message of a reader, or that it has read the text."""
    try:
        read(*arguments)
    except TorchExtensionError as exc:
        assert "\n" not in str(exc)
        return str(exc)
    return "read"


def test_a_lock_or_survey_of_a_few_bytes_takes_no_memory(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text(aliases(10))
    for read in (lock_file.read_lock, survey_file.read_survey):
        said = limited.run(lambda read=read: refusal(read, str(path)), mebibytes=32)
        assert "it has an alias for what stands in line 1" in said
        assert len(said) < 400


@pytest.mark.parametrize("read", [lock_file.read_lock, survey_file.read_survey])
def test_a_file_that_never_ends_is_not_read(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(8 << 30)
    for name in ("pipe", "zero", "large"):
        said = limited.run(lambda name=name: refusal(read, str(tmp_path / name)), mebibytes=64, patience=20)
        assert ("it is no regular file" in said) or ("it has more than 16777216 bytes" in said)


@pytest.mark.slow
def test_a_damaged_lock_is_read_or_refused(plans, tmp_path):
    whole = format_lock(build_lock(plans)).encode()
    seen = set()

    @given(edits(len(whole), *(whole.index(word) for word in (b"lock_version", b"wheels:", b"size:", b"url:"))))
    def check(edit):
        (tmp_path / "a.yml").write_bytes(edited(whole, edit))
        seen.add(refusal(lock_file.read_lock, str(tmp_path / "a.yml")) == "read")

    assert limited.check_property(check, mebibytes=96, result=lambda: sorted(seen)) == [False, True]


_TEXTS = st.text("ab09 -_:#,'\"\\\n\t&*!|>%[]{}\x1b\x85\u2028\u202e\u00e9", max_size=12)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS, st.dates())
_VALUES = st.recursive(
    _SCALARS,
    lambda values: st.one_of(st.lists(values, max_size=4), st.dictionaries(_TEXTS, values, max_size=4)),
    max_leaves=20,
)


@pytest.mark.slow
def test_a_lock_or_survey_of_any_values_is_read_or_refused(plans, tmp_path):
    entry = build_lock(plans)["environments"][0]
    kind = {"nodes": ["n1"], "packages": ["flash-attn"], "environment": {}}
    wheels = st.fixed_dictionaries(
        {name: st.one_of(st.just(value), _VALUES) for name, value in entry["wheels"][0].items()}
    )
    entries = st.fixed_dictionaries(
        {name: st.one_of(st.just(value), _VALUES) for name, value in entry.items()}
        | {"wheels": st.one_of(_VALUES, st.lists(wheels, max_size=2))}
    )
    kinds = st.fixed_dictionaries({name: st.one_of(st.just(value), _VALUES) for name, value in kind.items()})
    seen = set()

    @given(st.one_of(_VALUES, st.lists(st.one_of(entries, kinds), max_size=3)))
    def check(environments):
        data = {"lock_version": 1, "environments": environments}
        text = yaml.safe_dump(data, allow_unicode=True)
        seen.add(refusal(lock_file.parse_lock, text, "a.yml") == "read")
        (tmp_path / "a.yml").write_text(text.replace("lock_version", "survey_version"), encoding="utf-8")
        refusal(survey_file.read_survey, str(tmp_path / "a.yml"))

    assert False in limited.check_property(check, mebibytes=128, result=lambda: sorted(seen))


@pytest.mark.slow
def test_no_text_at_all_breaks_the_reader():
    pieces = st.sampled_from(
        ["[", "]", "{", "}", ": ", "- ", "? ", "&a ", "*a", "!!", "|\n", ">", "'", '"', "\n ", "#", "%", "<<"]
    )

    @given(st.lists(st.one_of(pieces, _TEXTS), max_size=40).map("".join))
    def check(text):
        try:
            parse_yaml(text)
        except YamlError as exc:
            assert "\n" not in str(exc)

    limited.check_property(check, mebibytes=96)

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json

import limited
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from locks import (
    BUILT,
    CONV,
    EINOPS,
    WHEEL,
    environment_of_another_kind,
    missing_requirement,
    planned_wheel,
    plans_of_two_kinds,
)

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import compatibility_tags
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import (
    describe_kind,
    environment_of_entry,
)


def change(*path_and_value):
    """A change of the data of a lock: to a value, or without one away."""
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return change


FIRST_ENVIRONMENT = ("environments", 0)
OTHER_BYTES = {"sha256": "0" * 64}


def locked_wheel(*arguments, **more):
    wheel = planned_wheel(*arguments, **more)
    del wheel["conflicts"]
    return wheel


WHEEL_OF_CONV = locked_wheel(CONV, "causal-conv1d", url="https://other.example/conv", **OTHER_BYTES)
EINOPS_AS_WHEEL = locked_wheel(EINOPS, "einops", **OTHER_BYTES)
REBUILT_EINOPS = missing_requirement(EINOPS, "flash-attn", **OTHER_BYTES)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change("lock_version", 2), "lock_version 2, and this version of the collection reads 1"),
        (change("lock_version", ...), "it has no lock_version"),
        (change("environments", {}), "environments of the file is a dictionary of 0 keys, wanted is a list"),
        (change("more", 1), "the file has more, which is unknown"),
        (change(*FIRST_ENVIRONMENT, 7), "environment 1 is 7, wanted is a dictionary"),
        (change(*FIRST_ENVIRONMENT, "torch", ...), "environment 1 lacks torch"),
        (change(*FIRST_ENVIRONMENT, "gpu", "H200"), "environment 1 has gpu, which is unknown"),
        (
            change(*FIRST_ENVIRONMENT, "cuda", 12.6),
            "cuda of environment 1 is 12.6, wanted is a version such as 12.8, or null",
        ),
        (change(*FIRST_ENVIRONMENT, "python", "3.11"), "wanted is a tag such as cp311"),
        (change(*FIRST_ENVIRONMENT, "cxx11_abi", "no"), "wanted is true or false, or null"),
        (change(*FIRST_ENVIRONMENT, "variables", {"A": 1}), "wanted is a text"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "text"), "a wheel of environment 1 is 'text'"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "sha256", "abc"), "wanted is 64 hexadecimal digits"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "sha256", 10**63), "wanted is 64 hexadecimal digits"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "size", "1"), "wanted is a number of bytes"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "size", True), "wanted is a number of bytes"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "filename", f"../{CONV}"), "wanted is the name of a wheel"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "filename", WHEEL), "is no wheel of causal-conv1d 1.6.0"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "version", "1.6.1"), "is no wheel of causal-conv1d 1.6.1"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "requirement", "a b"), "wanted is a requirement"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "version", "newest"), "wanted is a version"),
        (
            change(*FIRST_ENVIRONMENT, "wheels", 0, "url", "https://me:secret@github.example/a"),
            "wanted is a URL without credentials",
        ),
        (
            change(*FIRST_ENVIRONMENT, "wheels", 0, "url", "ftp://github.example/a"),
            "wanted is a URL without credentials",
        ),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "ground", ...), "a wheel of environment 1 lacks ground"),
        (change(*FIRST_ENVIRONMENT, "requirements", 0, "filename", f"/opt/{EINOPS}"), "wanted is the name of a wheel"),
        (change(*FIRST_ENVIRONMENT, "requirements", 0, "required_by", "flash-attn"), "wanted is a list"),
        (
            change(*FIRST_ENVIRONMENT, "wheels", 1, WHEEL_OF_CONV),
            f"{CONV} stands for two files for Python cp311, x86_64, glibc 2.36, torch 2.2.0+cu121, CUDA 12.1, with sha256",
        ),
        (
            change("environments", 1, "wheels", 0, "url", f"https://github.example/{WHEEL}"),
            f"{WHEEL} stands for two files, ",
        ),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "built", None), "built of a wheel of environment 1 is null"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "built", {**BUILT, "by": "me"}), "has by, which is unknown"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "built", {**BUILT, "sdist_sha256": "no"}), "wanted is 64 hexadecimal"),
        (change(*FIRST_ENVIRONMENT, "wheels", 0, "built", {**BUILT, "compilers": []}), "wanted is a dictionary"),
        (change("environments", 1, "requirements", [REBUILT_EINOPS]), f"{EINOPS} stands for two files, with sha256"),
        (change("environments", 1, "wheels", 0, EINOPS_AS_WHEEL), f"{EINOPS} stands for two files, with sha256"),
    ],
)
def test_an_unsound_lock_is_an_error_that_names_the_place(damage, words, environment):
    plans = plans_of_two_kinds(environment, environment_of_another_kind(environment))
    data = json.loads(json.dumps(build_lock(plans)))
    damage(data)
    with pytest.raises(TorchExtensionError) as error:
        lock_file.parse_lock(yaml.safe_dump(data), "a.yml")
    assert words in str(error.value)


def test_two_kinds_of_nodes_may_have_a_wheel_of_one_name_each_from_its_own_place(environment):
    other_environment = environment_of_another_kind(environment)
    plans = plans_of_two_kinds(environment, other_environment)
    plans["n2"]["wheels"] = [planned_wheel(WHEEL, "flash-attn", url="https://other.example/cu130/a", **OTHER_BYTES)]
    lock = lock_file.parse_lock(format_lock(build_lock(plans)), "a.yml")
    assert lock.find("flash-attn", environment)["sha256"] == planned_wheel(WHEEL, "flash-attn")["sha256"]
    assert lock.find("flash-attn", other_environment)["sha256"] == OTHER_BYTES["sha256"]


@pytest.mark.parametrize(
    ("name", "filename", "version"),
    [
        ("-r", "_r-1.0-py3-none-any.whl", "1.0"),
        ("--index-url", "__index_url-1.0-py3-none-any.whl", "1.0"),
        ("a\n-r x", "a-1.0-py3-none-any.whl", "1.0"),
        ("einops", "einops-1.0-py3-none-any.whl", "1.0\n--index-url=https://evil.example"),
        ("einops", "einops-1.0-py3-none-any.whl", " 1.0\n"),
        ("einops", "einops-1.0-py3-none-any.whl\n", "1.0"),
        ("einops ", "einops-1.0-py3-none-any.whl", "1.0"),
        ("einops", f"einops-{'1' * 5000}-py3-none-any.whl", "1" * 5000),
    ],
    ids=range(8),
)
def test_nothing_that_pip_would_obey_stands_for_a_name_or_a_version(name, filename, version, environment):
    plans = plans_of_two_kinds(environment, environment_of_another_kind(environment))
    data = json.loads(json.dumps(build_lock(plans)))
    data["environments"][0]["requirements"][0].update(name=name, filename=filename, version=version)
    with pytest.raises(TorchExtensionError, match=r"wanted is (the name of a package|the name of a wheel|a version)"):
        lock_file.parse_lock(yaml.safe_dump(data), "a.yml")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("libc", "glibc 2.1000000"),
        ("libc", "glibc 2.36 x"),
        ("python", "cp3300000"),
        ("python", "--abi"),
        ("abi", "cp311;x"),
        ("machine", "x86_64 --platform any"),
        ("torch", "\x1b[2J"),
        ("cuda", "12.x"),
    ],
)
def test_what_no_node_can_be_is_no_environment_of_a_lock(field, value, environment):
    plans = plans_of_two_kinds(environment, environment_of_another_kind(environment))
    data = json.loads(json.dumps(build_lock(plans)))
    data["environments"][0][field] = value
    with pytest.raises(TorchExtensionError, match=rf"{field} of environment 1 is .*, wanted is ") as error:
        lock_file.parse_lock(yaml.safe_dump(data), "a.yml")
    assert "\x1b" not in str(error.value)


def test_a_text_of_a_lock_has_nothing_that_a_terminal_obeys(environment):
    plans = plans_of_two_kinds(environment, environment_of_another_kind(environment))
    data = json.loads(json.dumps(build_lock(plans)))
    data["environments"][0]["wheels"][0]["ground"] = "it fits\x9b2J"
    with pytest.raises(TorchExtensionError, match=r"ground of a wheel of environment 1 is .*, wanted is a text"):
        lock_file.parse_lock(yaml.safe_dump(data), "a.yml")


_WORDS = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"(glibc )?[a-z]{0,2}[0-9]{1,8}(\.[0-9]{1,8})?", fullmatch=True),
    st.sampled_from(
        ["-r", "\x1b[2J", "9" * 5000, "a" * 100000, "a-1-py3-none-any.whl", "a; " + "(" * 500, "https://[x"]
    ),
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=5,
)


def places(value, *place):
    """Where there is anything in the data of a lock."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        if isinstance(item, (dict, list)):
            yield from places(item, *place, key)


def test_any_lock_is_refused_or_can_be_used_in_bounded_time_and_memory(environment):
    whole = json.loads(
        json.dumps(build_lock(plans_of_two_kinds(environment, environment_of_another_kind(environment))))
    )
    seen = set()

    @given(st.sampled_from(list(places(whole))), _VALUES)
    def check(place, value):
        data = json.loads(json.dumps(whole))
        target = data
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
        text = yaml.dump(data, Dumper=yaml.CSafeDumper)
        try:
            lock = lock_file.parse_lock(text, "a.yml")
        except TorchExtensionError as exc:
            assert str(exc).isprintable()
            assert len(str(exc)) < 5000
            seen.add("refused")
            return
        seen.add("used")
        for entry in lock.environments:
            describe_kind(entry)
            compatibility_tags.supported_tags(environment_of_entry(entry))
        with contextlib.suppress(TorchExtensionError):
            lock.find("flash-attn", environment)

    assert limited.check_property(check, seconds=3, mebibytes=256, result=lambda: sorted(seen)) == ["refused", "used"]

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t

import limited
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import compatibility_tags, metadata
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset, judge_wheels
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.node_schema import check_environment
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.node_kind import kind_of_node
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.coupling_check import find_unused
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.report_lines import report_plan

WHEELS = [
    Asset(name, f"https://x.example/{name}")
    for name in (
        "flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl",
        "flash_attn-2.5.3+torch2.2-cp39-abi3-manylinux_2_28_x86_64.whl",
    )
]


def put(environment: dict[str, t.Any], place: str, value: t.Any) -> dict[str, t.Any]:
    """An environment with another value at a place."""
    changed = copy.deepcopy(environment)
    *path, last = place.split(".")
    target: t.Any = changed
    for key in path:
        target = target[key]
    target[last] = value
    return changed


def test_what_a_node_is_passes(environment):
    check_environment(environment)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("platform.libc.version", "2.36"),
        ("platform.libc.version", "2.39.9000"),
        ("platform.libc", {"name": "musl", "version": None}),
        ("platform.libc", None),
        ("platform.machine", "aarch64"),
        ("python.version", "3.13.0rc1+"),
        ("python.abi", "cp313t"),
        ("python.abi", "cp37m"),
        ("python.tag", "pp310"),
        ("torch", None),
        ("torch.version", "2.8.0a0+34c6371d24.nv25.08"),
        ("torch.version", "main"),
        ("torch.cuda", None),
        ("torch.hip", "6.2.41133-dd7f95766"),
        ("driver", {"version": "580.159.03", "cuda": "13.0"}),
        ("gpus", None),
        ("gpus", [{"name": None, "compute_capability": None, "memory_mib": None}]),
        ("distributions", {"": "1.0", "my package": "unknown", "torch": "2.2.0+cu121"}),
    ],
)
def test_whatever_nodes_really_are_passes(place, value, environment):
    check_environment(put(environment, place, value))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (
            "platform.libc.version",
            "2.1000000",
            "platform.libc.version is '2.1000000', wanted is a version such as 2.36",
        ),
        ("platform.libc.version", 2.36, "platform.libc.version is 2.36, wanted is a version such as 2.36"),
        ("python.version", "3.300000", "python.version is '3.300000', wanted is a version of Python 3"),
        ("python.version", "3.11rc1", "python.version is '3.11rc1'"),
        ("python.version", "3.11.2\n", r"python.version is '3.11.2\n'"),
        ("python.tag", "cp3300000", "python.tag is 'cp3300000'"),
        ("python.abi", "--index-url=x", "python.abi is '--index-url=x'"),
        ("python.executable", "/opt/\x1b[2J/python", r"python.executable is '/opt/\x1b[2J/python', wanted is a path"),
        ("platform.system", 5, "platform.system is 5, wanted is a system such as linux"),
        ("platform.machine", "../../x", "platform.machine is '../../x'"),
        ("torch.version", "2.8/../../../x", "torch.version is '2.8/../../../x'"),
        ("torch.version", "1" * 5000, "(4900 more characters), wanted is a version such as 2.8.0+cu128"),
        pytest.param("torch.cuda", 10**5000, "torch.cuda is an integer of 16610 bits", id="a huge number"),
        ("torch.cuda", "12.x", "torch.cuda is '12.x', wanted is a version such as 12.8, or null"),
        ("gpus", [{"name": "a", "compute_capability": "9", "memory_mib": 1}], "gpus[0].compute_capability is '9'"),
        ("gpus", [{}] * 1001, "gpus is a list of 1001, wanted is a list of at most 1000"),
        ("distributions", ["torch"], "distributions is a list of 1, wanted is a dictionary"),
        ("distributions", {"torch": 2}, "distributions.torch is 2"),
        ("damage", {"flash-attn": {"missing": []}}, "damage.flash-attn lacks changed"),
        ("origins", {"flash-attn": None}, "origins.flash-attn is null, wanted is a dictionary"),
    ],
)
def test_what_no_node_can_be_is_refused_with_its_place(place, value, words, environment):
    with pytest.raises(TorchExtensionError) as error:
        check_environment(put(environment, place, value))
    assert f"environment.{words}" in str(error.value) or words in str(error.value)
    assert "\x1b" not in str(error.value)


def test_what_is_read_of_the_largest_that_passes_stays_small(environment):
    largest = put(put(environment, "platform.libc.version", "99.99"), "python.version", "3.99.1")
    check_environment(largest)
    assert limited.run(lambda: len(compatibility_tags.supported_tags(largest)), seconds=2, mebibytes=64) < 50000


# what is near to a real value finds more than any value
_WORDS = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[0-9]{1,8}\.[0-9]{1,8}(\.[0-9a-z+]{1,5})?", fullmatch=True),
    st.sampled_from(["", "cp311", "3.11", "2.36", "linux", "\x1b[2J", "\u202e", "-r", "9" * 5000, "x" * 100000]),
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(1 << 10000), _WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=5,
)


def places(value: t.Any, place: str = "") -> t.Iterator[str]:
    """Where there is anything in an environment."""
    for key, item in value.items():
        yield f"{place}{key}"
        if isinstance(item, dict):
            yield from places(item, f"{place}{key}.")


def test_any_environment_is_refused_or_can_be_used_in_bounded_time_and_memory(environment):
    seen = set()
    environment = {**environment, "origins": {"flash-attn": {"filename": WHEELS[0].filename, "sha256": None}}}
    changes = st.lists(st.tuples(st.sampled_from(sorted(places(environment))), _VALUES), min_size=1, max_size=3)

    @given(changes)
    def check(made):
        changed = environment
        for place, value in made:
            try:
                changed = put(changed, place, value)
            except (TypeError, KeyError):  # what it would be in has become something else
                continue
        try:
            check_environment(changed)
        except TorchExtensionError as exc:
            assert len(str(exc)) < 1000
            assert str(exc).isprintable()
            seen.add("refused")
            return
        seen.add("used")
        kind_of_node(changed)
        find_unused(changed)
        report_plan(changed, [])
        markers = metadata.marker_environment(changed)
        if changed["torch"] is not None:
            metadata.torch_requirement(["torch==2.2.*; python_version>'3.8' and platform_system=='Linux'"], markers)
            try:
                judge_wheels("flash-attn", WHEELS, changed)
            except TorchExtensionError as exc:
                assert "begins with no number" in str(exc)

    assert limited.check_property(check, seconds=2, mebibytes=256, result=lambda: sorted(seen)) == ["refused", "used"]

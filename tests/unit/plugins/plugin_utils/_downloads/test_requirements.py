# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from packaging.markers import default_environment
from pips import pip_venv
from servers import running_proxy, running_server
from wheels import build_sdist, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import metadata
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import pip_index
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import (
    Declaring,
    RequirementFinder,
)

pytestmark = pytest.mark.slow  # most of them run pip


@pytest.fixture
def find_required(tmp_path):
    """The file names of what a node lacks for a wheel with these requirements."""

    def find_required(environment, *requires, requirements=None):
        wheel = build_wheel(tmp_path / "wheels", requires=requires)
        requirements = requirements or RequirementFinder(str(tmp_path / "cache"))
        return [item.filename for item in requirements.find_missing([Declaring.read(str(wheel))], environment)]

    return find_required


def requested_files(server):
    return [
        path.rpartition("/")[2] for path in server.requests if path.startswith("/files/") and "metadata" not in path
    ]


def test_missing_requirements_are_downloaded_with_their_own_requirements(
    publish, find_required, environment, server, tmp_path
):
    publish(
        {"name": "a", "version": "1", "requires": ["b"]}, {"name": "b", "version": "1"}, {"name": "c", "version": "1"}
    )
    requirements = RequirementFinder(str(tmp_path / "cache"))
    assert find_required(environment, "a", requirements=requirements) == [
        "a-1-py3-none-any.whl",
        "b-1-py3-none-any.whl",
    ]
    required = requirements.find_missing(
        [Declaring.read(str(tmp_path / "wheels" / "flash_attn-2.8.3-py3-none-any.whl"))], environment
    )
    assert [(item.name, sha256(Path(item.path))) for item in required] == [
        (item.name, item.sha256) for item in required
    ]
    assert sorted(requirements.downloaded) == [item.path for item in required]


def test_an_installed_requirement_of_any_version_is_not_downloaded(publish, find_required, environment, server):
    publish({"name": "a", "version": "2"})
    environment["distributions"].update(a="1")
    assert find_required(environment, "a>=2") == []
    assert server.requests == []


def test_torch_is_never_fetched(publish, find_required, environment, server):
    publish({"name": "torch", "version": "2.9.0"}, {"name": "a", "version": "1", "requires": ["Torch>=2.9"]})
    environment["distributions"].pop("torch")
    assert find_required(environment, "torch", "a") == ["a-1-py3-none-any.whl"]
    assert requested_files(server) == ["a-1-py3-none-any.whl"]


def test_requirements_in_a_circle_are_each_found_once(publish, find_required, environment):
    publish(
        {"name": "a", "version": "1", "requires": ["b"]}, {"name": "b", "version": "1", "requires": ["a", "flash-attn"]}
    )
    environment["distributions"]["flash-attn"] = "2.8.2"
    assert find_required(environment, "a") == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]


def test_each_file_is_downloaded_once_for_all_nodes_and_runs(publish, find_required, environment, server, tmp_path):
    publish({"name": "a", "version": "1"})
    requirements = RequirementFinder(str(tmp_path / "cache"))
    for _node in range(3):
        find_required(environment, "a", requirements=requirements)
    assert find_required(environment, "a>=0.5") == ["a-1-py3-none-any.whl"], "another run, with other words"
    assert requested_files(server) == ["a-1-py3-none-any.whl"]


def test_a_cached_file_that_does_not_meet_the_requirement_is_not_used(publish, find_required, environment):
    publish({"name": "a", "version": "1"})
    assert find_required(environment, "a") == ["a-1-py3-none-any.whl"]
    publish({"name": "a", "version": "10"}, {"name": "a", "version": "9"})
    assert find_required(environment, "a>=2") == ["a-10-py3-none-any.whl"]
    assert find_required(environment, "a<10") == ["a-1-py3-none-any.whl"]


def test_markers_are_evaluated_for_the_node(publish, find_required, environment):
    publish({"name": "a", "version": "1"})
    markers = {
        "python_version < '3.12'": True,
        "python_version >= '3.12'": False,
        "python_full_version == '3.11.2'": True,
        "sys_platform == 'linux'": True,
        "platform_system == 'Linux' and platform_machine == 'x86_64'": True,
        "platform_machine == 'aarch64'": False,
        "platform_python_implementation == 'CPython'": True,
        "implementation_name == 'pypy'": False,
        "os_name == 'nt'": False,
        "extra == 'dev'": False,
    }
    assert {marker: bool(find_required(environment, f"a; {marker}")) for marker in markers} == markers


def test_the_marker_environment_of_this_machine_is_that_of_packaging(make_venv, run):
    here = metadata.marker_environment(describe_environment(str(make_venv()), [], run, {})[0])
    itself = {"extra": "", **default_environment()}
    assert {**here, "platform_release": "", "platform_version": ""} == {
        **itself,
        "platform_release": "",
        "platform_version": "",
    }


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, "cp311-cp311-manylinux_2_28_x86_64"),
        ({"platform": {"libc": {"name": "glibc", "version": "2.17"}}}, "cp311-cp311-manylinux2014_x86_64"),
        ({"platform": {"machine": "aarch64"}}, "cp38-abi3-manylinux_2_17_aarch64"),
        ({"python": {"version": "3.13.1", "tag": "cp313", "abi": "cp313t"}}, "cp313-cp313t-manylinux_2_28_x86_64"),
        ({"platform": {"libc": {"name": "musl", "version": None}}}, None),
        ({"platform": {"libc": None}}, None),
    ],
    ids=["this", "old glibc", "another machine", "free-threaded", "musl", "unknown libc"],
)
def test_the_file_with_the_best_tags_for_the_node_is_taken(changes, tags, publish, find_required, environment):
    for tag in (
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "cp38-abi3-manylinux_2_17_aarch64",
        "cp313-cp313t-manylinux_2_28_x86_64",
        "cp311-cp311-win_amd64",
    ):
        publish({"name": "a", "version": "1", "tags": tag})
    for part, values in changes.items():
        environment[part].update(values)
    if tags:
        assert find_required(environment, "a") == [f"a-1-{tags}.whl"]
        assert find_required(environment, "a") == [f"a-1-{tags}.whl"], "from the cache"
    else:
        with pytest.raises(TorchExtensionError, match="No matching distribution"):
            find_required(environment, "a")


def test_a_cached_file_does_not_serve_a_node_of_another_platform(publish, find_required, environment):
    publish({"name": "a", "version": "1", "tags": "cp311-cp311-manylinux_2_28_x86_64"})
    publish({"name": "a", "version": "1", "tags": "cp311-cp311-manylinux_2_28_aarch64"})
    other = copy.deepcopy(environment)
    other["platform"]["machine"] = "aarch64"
    assert find_required(environment, "a") == ["a-1-cp311-cp311-manylinux_2_28_x86_64.whl"]
    assert find_required(other, "a") == ["a-1-cp311-cp311-manylinux_2_28_aarch64.whl"]


def test_a_cached_file_does_not_serve_a_node_with_too_old_a_python(publish, find_required, environment):
    publish({"name": "a", "version": "1"}, {"name": "a", "version": "2", "requires_python": ">=3.9"})
    old = copy.deepcopy(environment)
    old["python"].update(version="3.8.18", tag="cp38", abi="cp38")
    assert find_required(environment, "a") == ["a-2-py3-none-any.whl"]
    assert find_required(old, "a") == ["a-1-py3-none-any.whl"]


def test_a_file_with_an_invalid_requires_python_serves_all_nodes(find_required, environment, tmp_path, server):
    cached = build_wheel(tmp_path / "cache", name="a", version="1", requires_python="any")
    cached.with_name(f"{cached.name}.sha256").write_text(sha256(cached))
    assert find_required(environment, "a") == ["a-1-py3-none-any.whl"]


@pytest.mark.parametrize("what", ["only an sdist", "nothing", "no index"])
def test_the_error_for_a_missing_requirement_names_the_wheel_that_requires_it(
    what, publish, find_required, environment, tmp_path, monkeypatch
):
    publish({"name": "b", "version": "1"})
    if what == "only an sdist":
        build_sdist(tmp_path / "index", "a", "1")
        publish()
    elif what == "no index":
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    words = r"a>=1, which flash_attn-2\.8\.3-py3-none-any\.whl requires and the node lacks, cannot be had .*ERROR: .*pip\.conf"
    with pytest.raises(TorchExtensionError, match=words):
        find_required(environment, "a>=1")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("what", ["no server", "no host", "no TLS", "proxy"])
def test_an_index_that_cannot_be_asked_is_not_taken_for_one_that_lacks_it(
    what, find_required, environment, monkeypatch
):
    with running_server() as gone:
        pass
    with running_proxy(status=403) as proxy:
        urls = {
            "no server": f"{gone.url}/simple",
            "no host": "https://nowhere.invalid/simple",
            "no TLS": "http://nowhere.invalid/simple",
        }
        monkeypatch.setenv("PIP_INDEX_URL", urls.get(what, "https://wheels.example/simple"))
        monkeypatch.setenv("PIP_RETRIES", "1")
        if what == "proxy":
            monkeypatch.setenv("https_proxy", proxy.url)
        reason = {
            "no server": "Connection refused",
            "no host": "resol|known",
            "no TLS": "nowhere.invalid is not a trusted",
            "proxy": "403 Forbidden",
        }[what]
        with pytest.raises(
            TorchExtensionError,
            match=rf"cannot be had .*: the index could not be asked \([^<]*({reason})[^<]*\)\. Configure pip",
        ) as error:
            find_required(environment, "a>=1")
    assert "No matching distribution" not in str(error.value)


def test_an_invalid_requirement_is_an_error(find_required, environment):
    with pytest.raises(TorchExtensionError, match=r"flash_attn-2\.8\.3-py3-none-any\.whl declares a requirement that"):
        find_required(environment, "a b c")


def test_the_requirements_of_an_extra_are_downloaded(publish, find_required, environment):
    publish(
        {"name": "a", "version": "1", "requires": ["b; extra == 'fast'", "c; extra == 'other'"]},
        {"name": "b", "version": "1"},
        {"name": "c", "version": "1"},
    )
    assert find_required(environment, "a[fast]") == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]


def test_wheels_of_one_plan_may_require_each_other(publish, find_required, environment, server, tmp_path):
    publish({"name": "a", "version": "1"})
    other = build_wheel(tmp_path / "wheels", name="causal-conv1d", version="1.6.0")
    wheel = build_wheel(tmp_path / "wheels", requires=["causal-conv1d"])
    assert (
        RequirementFinder(str(tmp_path / "cache")).find_missing(
            [Declaring.read(str(wheel)), Declaring.read(str(other))], environment
        )
        == []
    )
    assert server.requests == []


def test_all_that_wheels_require_is_found_whatever_the_node_has(publish, environment, tmp_path):
    publish({"name": "a", "version": "1", "requires": ["b", "torch"]}, {"name": "b", "version": "1"})
    wheel = build_wheel(tmp_path / "wheels", requires=["a", "torch"])
    environment["distributions"].update(a="0.1", b="0.1")
    finder = RequirementFinder(str(tmp_path / "cache"))
    assert finder.find_missing([Declaring.read(str(wheel))], environment) == []
    found, unobtainable = finder.find_all([Declaring.read(str(wheel))], environment)
    assert [(item.name, item.required_by) for item in found] == [("a", ("flash-attn",)), ("b", ("a",))]
    assert unobtainable == []


def test_each_requirement_of_one_name_has_a_file_that_meets_it(publish, environment, tmp_path):
    publish(
        {"name": "a", "version": "1"}, {"name": "a", "version": "2", "requires": ["b"]}, {"name": "b", "version": "1"}
    )
    wheels = [
        build_wheel(tmp_path / "wheels", requires=["a<2"]),
        build_wheel(tmp_path / "wheels", name="causal-conv1d", version="1.6.0", requires=["a"]),
    ]
    found, _none = RequirementFinder(str(tmp_path / "cache")).find_all(
        map(Declaring.read, map(str, wheels)), environment
    )
    assert [(item.filename, item.required_by) for item in found] == [
        ("a-1-py3-none-any.whl", ("flash-attn",)),
        ("a-2-py3-none-any.whl", ("causal-conv1d",)),
        ("b-1-py3-none-any.whl", ("a",)),
    ]


def test_what_cannot_be_had_is_told_and_the_rest_is_found(publish, environment, tmp_path, server):
    publish({"name": "a", "version": "1"})
    wheel = build_wheel(tmp_path / "wheels", requires=["a", "c>=2", "b"])
    finder = RequirementFinder(str(tmp_path / "cache"))
    found, unobtainable = finder.find_all([Declaring.read(str(wheel))], environment)
    assert [item.name for item in found] == ["a"]
    assert [each.name for each in unobtainable] == ["b", "c"]
    assert unobtainable[1].fact == f"c>=2, which {wheel.name} requires"
    server.requests.clear()
    finder.forget_found()
    assert finder.find_all([Declaring.read(str(wheel))], environment)[1] == unobtainable
    assert server.requests == [], "it is asked for once"


def test_what_is_required_with_and_without_an_extra_has_what_the_extra_requires(publish, find_required, environment):
    publish({"name": "a", "version": "1", "requires": ["b; extra == 'fast'"]}, {"name": "b", "version": "1"})
    for order in (["a", "a[fast]"], ["a[fast]", "a"]):
        assert find_required(environment, *order) == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]


def test_what_would_be_downloaded_is_looked_up_with_its_own_requirements_and_nothing_is_kept(
    publish, find_required, environment, server, tmp_path
):
    publish({"name": "a", "version": "1", "requires": ["b"]}, {"name": "b", "version": "1"})
    finder = RequirementFinder(str(tmp_path / "cache"), predict=True)
    foreseen = find_required(environment, "a", requirements=finder)
    assert foreseen == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
    assert [item.filename for item in finder.foreseen] == foreseen
    assert [item.size for item in finder.foreseen] == [
        (tmp_path / "index" / name).stat().st_size for name in foreseen
    ], "which only the server tells"
    assert not (tmp_path / "cache").exists()
    assert find_required(environment, "a") == foreseen, "the download brings the same"


def test_a_pip_that_cannot_look_up_downloads_to_a_scratch_folder(
    publish, find_required, environment, tmp_path, monkeypatch
):
    """As pip before 22.2."""
    publish({"name": "a", "version": "1", "requires": ["b"]}, {"name": "b", "version": "1"})
    old = pip_venv("21.3.1", tmp_path / "old")
    monkeypatch.setattr(pip_index.sys, "executable", str(old / "bin" / "python"))
    finder = RequirementFinder(str(tmp_path / "cache"), predict=True)
    assert find_required(environment, "a", requirements=finder) == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
    assert all(item.size > 0 for item in finder.foreseen)
    assert not (tmp_path / "cache").exists()


def test_a_requirement_that_no_index_has_is_foreseen_as_an_error(publish, find_required, environment, tmp_path):
    publish({"name": "b", "version": "1"})
    with pytest.raises(TorchExtensionError, match=r"a, which flash_attn\S+ requires and the node lacks, cannot be had"):
        find_required(environment, "a", requirements=RequirementFinder(str(tmp_path / "cache"), predict=True))


def test_of_a_lock_all_is_foreseen_that_the_node_lacks_or_refused_where_it_is_not_in_it(environment, tmp_path):
    wheel = build_wheel(tmp_path, requires=["a", "d"])
    locked = [
        {
            "name": name,
            "version": "1",
            "filename": f"{name}-1-py3-none-any.whl",
            "size": 7,
            "sha256": "0" * 64,
            "required_by": by,
        }
        for name, by in (("a", ["flash-attn"]), ("b", ["a"]), ("c", ["another"]), ("d", ["flash-attn"]))
    ]
    finder = RequirementFinder(str(tmp_path / "cache"), predict=True)
    environment["distributions"]["d"] = "0.1"
    found = finder.find_missing([Declaring.read(str(wheel))], environment, locked)
    assert [(item.filename, item.size, item.path) for item in found] == [
        ("a-1-py3-none-any.whl", 7, None),
        ("b-1-py3-none-any.whl", 7, None),
    ]
    with pytest.raises(
        TorchExtensionError, match=r"a, which flash_attn\S+ requires and the node lacks, is not in the lock"
    ):
        finder.find_missing([Declaring.read(str(wheel))], environment, locked[1:])


@pytest.mark.parametrize("damage", [lambda body: b"", lambda body: body[:-9], lambda body: bytes(len(body))])
@pytest.mark.parametrize("loses_record", [False, True])
def test_a_file_of_the_cache_that_a_power_cut_has_damaged_is_downloaded_again(
    damage, loses_record, publish, find_required, environment, tmp_path
):
    publish({"name": "a", "version": "1"})
    name = "a-1-py3-none-any.whl"
    assert find_required(environment, "a") == [name]
    path = tmp_path / "cache" / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    if loses_record:
        path.with_name(f"{name}.sha256").write_bytes(bytes(70))
    requirements = RequirementFinder(str(tmp_path / "cache"))
    (found,) = requirements.find_missing(
        [Declaring.read(str(tmp_path / "wheels" / "flash_attn-2.8.3-py3-none-any.whl"))], environment
    )
    assert path.read_bytes() == whole
    assert found.sha256 == sha256(path) == path.with_name(f"{name}.sha256").read_text().split()[0]
    assert requirements.downloaded == [str(path)]


def test_an_older_file_that_is_whole_serves_where_a_newer_one_is_damaged(publish, find_required, environment, tmp_path):
    publish({"name": "a", "version": "1"})
    find_required(environment, "a")
    publish({"name": "a", "version": "2"})
    find_required(environment, "a>1")
    (tmp_path / "cache" / "a-2-py3-none-any.whl").write_bytes(b"")
    assert find_required(environment, "a") == ["a-1-py3-none-any.whl"]


def test_what_a_killed_download_has_left_goes_with_the_next_one(publish, find_required, environment, tmp_path):
    publish({"name": "a", "version": "1"})
    left = tmp_path / "cache" / ".torch_extension-x"
    left.mkdir(parents=True)
    (left / "a-1-py3-none-any.whl").touch()
    find_required(environment, "a")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        "a-1-py3-none-any.whl",
        "a-1-py3-none-any.whl.sha256",
    ]

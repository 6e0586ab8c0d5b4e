# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import explain_lost, plan_builds

SDIST = {"filename": "causal_conv1d-1.7.0.tar.gz", "url": "https://index.example/c.tar.gz", "sha256": "a" * 64, "size": 1}


def machine(*, cores=16, load=0.0, cxx="12.2.0", headers=True, python="/opt/venv/bin/python"):
    return {
        "cores": cores,
        "load": load,
        "cxx": {"path": "/usr/bin/g++", "version": cxx} if cxx else None,
        "python_headers": headers,
        "python": {"executable": python, "version": "3.11.2"},
    }


def plan(*, libc="2.36", on=None, torch="2.14.1+cu130", builder="", action="build", archs=("9.0",), slurm="", **build):
    kind = {"python": "cp311", "machine": "x86_64", "torch": "2.14", "cuda": "13", "hip": None, "cxx11_abi": True}
    wheel = {
        "name": "causal-conv1d",
        "version": "1.7.0",
        "filename": "causal_conv1d-1.7.0+cu13torch2.14cxx11abiTRUE-cp311-cp311-linux_x86_64.whl",
        "action": action,
        "build": {"sdist": SDIST, "kind": kind, "libc": libc, "architectures": list(archs), **build},
    }
    return {
        "environment": {"torch": {"version": torch, "cuda": "13.0"}},
        "builds": [wheel],
        "builder": builder,
        "machine": on,
        "delivery": {"slurm_host": slurm},
    }


def test_nodes_of_a_kind_get_one_build_for_the_gpus_of_all():
    plans = {
        "n01": plan(on=machine(), archs=("9.0",)),
        "n02": plan(on=machine(), archs=("8.0",), torch="2.14.0+cu130"),
        "n03": plan(action="keep", archs=("12.0",)),  # has one already, for another GPU
    }
    (build,), refused = plan_builds(plans)
    assert (build.nodes, build.architectures, refused) == (["n01", "n02"], ["8.0", "9.0", "12.0"], {})


def test_what_differs_in_anything_that_matters_is_built_apart():
    kind = plan()["builds"][0]["build"]["kind"]
    plans = {
        "n01": plan(on=machine()),
        "n02": plan(on=machine(), kind={**kind, "torch": "2.13"}),
        "n03": plan(on=machine(), sdist={**SDIST, "sha256": "b" * 64}),
    }
    builds, _refused = plan_builds(plans)
    assert [build.nodes for build in builds] == [["n01"], ["n02"], ["n03"]]
    assert len({build.id for build in builds}) == 3


def test_the_id_depends_on_neither_the_order_nor_the_names_of_nodes():
    some = plan_builds({"n01": plan(on=machine()), "n02": plan(on=machine(), archs=("8.0",))}).builds[0]
    other = plan_builds({"x": plan(on=machine(), archs=("8.0",)), "y": plan(on=machine())}).builds[0]
    assert some.id == other.id
    assert some.id != plan_builds({"n01": plan(on=machine())}).builds[0].id  # for fewer GPUs


def test_nothing_is_built_where_all_have_it():
    assert plan_builds({"n01": plan(action="install")}) == ([], {})


def test_the_node_with_the_oldest_glibc_builds_and_of_these_the_one_with_the_most_free_cores():
    plans = {
        "n01": plan(libc="2.41", on=machine(cores=64)),
        "n02": plan(libc="2.36", on=machine(cores=32, load=30.0)),
        "n03": plan(libc="2.36", on=machine(cores=16, load=1.0, python="/opt/other/bin/python")),
    }
    (build,), _refused = plan_builds(plans)
    assert (build.builder, build.python, build.libc) == ("n03", "/opt/other/bin/python", "2.36")


def test_a_node_without_compiler_or_headers_is_passed_over():
    plans = {
        "n01": plan(on=machine(cores=64, cxx=None)),
        "n02": plan(on=machine(cores=64, headers=False)),
        "n03": plan(on=machine(cores=2)),
    }
    (build,), refused = plan_builds(plans)
    assert (build.builder, build.nodes, refused) == ("n03", ["n01", "n02", "n03"], {})


def test_where_no_node_can_build_each_is_refused_with_what_all_lack():
    plans = {f"n{number}": plan(on=machine(cxx=None, headers=number == 1)) for number in (1, 2, 3)}
    builds, refused = plan_builds(plans)
    assert builds == []
    assert refused["n1"] == refused["n3"]
    assert refused["n1"][0].startswith(
        "causal-conv1d 1.7.0 has to be built, and no node that wants it can do that (n1: no C++ compiler (g++); n2, n3: no C++ compiler"
        " (g++) and no headers of Python 3.11.2 (Python.h)). Install what is missing on one of them"
    )


def test_a_node_whose_glibc_is_older_than_that_of_all_that_can_build_is_refused_alone():
    plans = {"n01": plan(libc="2.31", on=machine(cxx=None)), "n02": plan(libc="2.36", on=machine())}
    (build,), refused = plan_builds(plans)
    assert (build.builder, build.nodes, build.libc) == ("n02", ["n02"], "2.36")
    assert refused.keys() == {"n01"}
    assert "whose glibc 2.36 is newer than 2.31 of this node" in refused["n01"][0]


@pytest.mark.parametrize(
    ("setting", "slurm", "host", "is_slurm"),
    [("builder.example", "", "builder.example", False), ("slurm", "login1", "login1", True)],
)
def test_a_builder_that_is_named_is_taken(setting, slurm, host, is_slurm):
    (build,), _refused = plan_builds({"n01": plan(builder=setting, slurm=slurm)})
    assert (build.builder, build.is_slurm, build.python) == (host, is_slurm, None)


def test_slurm_without_a_machine_that_has_its_commands_is_refused():
    builds, refused = plan_builds({"n01": plan(builder="slurm")})
    assert builds == []
    assert "torch_extension_slurm_host names no machine" in refused["n01"][0]


def test_for_nodes_of_a_survey_the_control_node_builds():
    (build,), _refused = plan_builds({"n01": plan()})
    assert build.builder == "localhost"


def test_a_builder_that_cannot_be_reached_is_named_with_the_words_of_the_connection():
    (build,), _refused = plan_builds({"n01": plan(builder="nowhere.example")})
    assert explain_lost(build, "ssh: Could not resolve\r\nhostname.\r\n") == (
        "causal-conv1d 1.7.0 cannot be built on nowhere.example, which cannot be reached: ssh: Could not resolve hostname. Look at that"
        " machine, or name another one in torch_extension_builder."
    )


@pytest.mark.parametrize("broken", [{}, None, {**plan(), "builds": [{"name": "a"}]}, {**plan(), "builds": 5}])
def test_a_plan_that_cannot_be_read_is_refused_and_no_other(broken):
    builds = plan_builds({"n1": plan(on=machine()), "n2": broken, "n3": plan(on=machine())})
    assert [build.nodes for build in builds.builds] == [["n1", "n3"]]
    assert list(builds.refused) == ["n2"]
    assert builds.refused["n2"][0].startswith("The plan of n2 could not be dealt with")


def test_a_machine_that_cannot_be_read_is_refused_with_the_nodes_that_want_the_same():
    odd = plan(on={"cxx": {}, "python_headers": True, "cores": "many", "load": None}, torch="2.13.0")
    odd["builds"][0]["build"]["kind"]["torch"] = "2.13"
    builds = plan_builds({"n1": plan(on=machine()), "n2": odd})
    assert [build.nodes for build in builds.builds] == [["n1"]]
    assert builds.refused["n2"][0].startswith("To build causal-conv1d 1.7.0 could not be dealt with")

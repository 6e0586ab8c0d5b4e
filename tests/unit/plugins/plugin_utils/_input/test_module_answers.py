# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import re
from pathlib import Path

import limited
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import module_answers
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.module_answers import check_answer

WHEEL = "flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl"
MACHINE = {
    "cores": 16,
    "load": 0.5,
    "memory_mib": 120000,
    "free_mib": 50000,
    "folder": "/home/trainer/.cache/build",
    "cxx": {"path": "/usr/bin/g++", "version": "12.2.0"},
    "cc": None,
    "nvcc": {"path": "/usr/local/cuda/bin/nvcc", "home": "/usr/local/cuda", "version": "13.0", "max_gcc": None},
    "python_headers": True,
    "python": {"executable": "/opt/p", "tag": "cp311", "abi": "cp311", "prefix": "/opt", "version": "3.11.2"},
    "torch": None,
    "libc": "2.36",
    "machine": "x86_64",
    "slurm": False,
}
JOB = {
    "state": "finished",
    "step": 3,
    "steps": 3,
    "seconds": 1.5,
    "message": "",
    "log": "/home/trainer/build.log",
    "wheel": {"filename": WHEEL, "path": f"/home/trainer/{WHEEL}", "sha256": "a" * 64, "size": 5},
    "compilers": {"cxx": "12.2.0", "nvcc": None},
    "core_seconds": 1.0,
}
OUTCOME = {
    "name": "flash-attn",
    "version": "2.8.3",
    "filename": WHEEL,
    "action": "install",
    "reason": "it is not there",
}


@pytest.fixture
def answers(environment):
    """What each module answers."""
    proofs = [{"filename": WHEEL, "verdict": "fits", "reasons": []}]
    package = {"name": "flash-attn", "version": None, "filename": None, "ok": True, "reasons": [], "remedy": None}
    return {
        "torch_info": {"environment": environment, "environments": [environment], "staged": [WHEEL]},
        "torch_extension": {"wheels": [OUTCOME], "requirements": [], "cleared": [], "leftovers": [], "proofs": proofs},
        "torch_verify": {
            "ok": True,
            "packages": [{**package, "verify": "import", "gpus": []}],
            "environment": environment,
        },
        "wheel_proof": {"proofs": proofs, "executable": "/opt/p", "milliseconds": 3},
        "wheel_pull": {"folder": "/root/wheels", "pulled": [WHEEL], "missing": []},
        "build_job": {"machine": MACHINE, "job": JOB},
    }


MODULES = ["torch_info", "torch_extension", "torch_verify", "wheel_proof", "wheel_pull", "build_job"]


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_answers_passes_as_it_is(module, answers):
    answer = {"changed": True, **answers[module], "warnings": ["a"]}
    assert check_answer(module, answer, "gpu1") == answer


@pytest.mark.parametrize("module", MODULES)
def test_what_ansible_would_act_on_is_left_out(module, answers):
    evil = {
        "add_host": {"host_name": "localhost", "host_vars": {"ansible_connection": "local"}},
        "add_group": "all",
        "_ansible_delegated_vars": {"ansible_host": "evil"},
        "ansible_facts": {"ansible_become_password": "x", "discovered_interpreter_python": "/usr/bin/python3"},
        "invocation": {},
        "include": "/etc/passwd",
        "unreachable": True,
    }
    answer = check_answer(module, {**answers[module], **evil, "changed": False}, "gpu1")
    assert answer.pop("ansible_facts") == {"discovered_interpreter_python": "/usr/bin/python3"}
    assert answer == {**answers[module], "changed": False}


@pytest.mark.parametrize(
    ("module", "change", "words"),
    [
        ("torch_info", {"environments": [None]}, "torch_info.environments[0] is null, wanted is a dictionary"),
        ("torch_info", {"environments": []}, "torch_info.environments is a list of 0, wanted is a list of 1 to 1000"),
        ("torch_extension", {"cleared": "all"}, "torch_extension.cleared is 'all', wanted is a list"),
        (
            "torch_extension",
            {"wheels": [{**OUTCOME, "action": "rm"}]},
            "wheels[0].action is 'rm', wanted is one of keep",
        ),
        ("wheel_proof", {"proofs": [{}]}, "wheel_proof.proofs[0] lacks filename, verdict, reasons"),
        ("wheel_pull", {"folder": "\x1b]0;root\x07"}, r"wheel_pull.folder is '\x1b]0;root\x07', wanted is a path"),
        ("build_job", {"machine": {**MACHINE, "cores": 10**9}}, "machine.cores is 1000000000, wanted is an integer"),
        ("build_job", {"machine": {**MACHINE, "load": float("nan")}}, "machine.load is nan, wanted is a number"),
        (
            "build_job",
            {"job": {**JOB, "wheel": {**JOB["wheel"], "filename": "../../.bashrc"}}},
            "job.wheel.filename is '../../.bashrc', wanted is the name of a wheel",
        ),
        ("build_job", {"job": {**JOB, "wheel": {**JOB["wheel"], "size": 1 << 60}}}, "job.wheel.size is"),
        ("torch_verify", {"msg": {"a": 1}, "failed": True}, "torch_verify.msg is a dictionary of 1 keys"),
        ("torch_verify", {"failed": "perhaps"}, "torch_verify.failed is 'perhaps', wanted is true or false"),
    ],
)
def test_what_no_module_answers_is_refused_in_the_name_of_the_host(module, change, words, answers):
    with pytest.raises(TorchExtensionError) as error:
        check_answer(module, {**answers[module], **change}, "gpu1")
    assert str(error.value).startswith(f"gpu1 has answered what {module} does not answer: {module}.")
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_a_node_that_says_that_it_is_of_the_year_3000_is_refused_at_once(answers):
    answers["torch_info"]["environment"]["platform"]["libc"]["version"] = "2.1000000"

    def ask():
        with pytest.raises(TorchExtensionError, match=r"gpu1 .*libc.version is '2.1000000', wanted is a version such"):
            check_answer("torch_info", answers["torch_info"], "gpu1")

    limited.run(ask, seconds=1, mebibytes=32)


def test_the_first_environment_is_not_taken_from_the_node_twice(answers, environment):
    answer = {**answers["torch_info"], "environment": {"python": "anything"}}
    assert check_answer("torch_info", answer, "gpu1")["environment"] == environment


def test_a_module_that_has_failed_need_not_say_more():
    assert check_answer("torch_info", {"failed": True, "msg": "no"}, "gpu1") == {"failed": True, "msg": "no"}


def test_one_that_goes_on_in_the_background_has_nothing_to_say_yet():
    answer = {"ansible_job_id": "1.2", "started": 1, "finished": 0, "results_file": "/root/.ansible_async/1.2"}
    assert check_answer("torch_info", answer, "gpu1") == answer


def test_nothing_in_it_reaches_the_terminal_and_nothing_fills_the_screen(answers):
    answer = {**answers["torch_extension"], "warnings": ["\x1b[2J", "x" * 100000], "failed": True, "msg": "\x9b2J"}
    answer["wheels"][0]["reason"] = "\u202eno"
    shown = check_answer("torch_extension", answer, "gpu1")
    assert (shown["msg"], shown["warnings"][0], shown["wheels"][0]["reason"]) == (r"\x9b2J", r"\x1b[2J", r"\u202eno")
    assert len(shown["warnings"][1]) < 20000


_WORDS = st.one_of(st.text(max_size=10), st.sampled_from(["\x1b", "failed", "msg", "9" * 5000, "keep", "/opt"]))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(1 << 10000), _WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=5,
)


def test_any_answer_is_refused_or_kept_in_bounded_time_and_memory(answers):
    seen = set()
    places = [
        (module, *path)
        for module, answer in answers.items()
        for path in [(), *((key,) for key in ["msg", "failed", "warnings", "ansible_facts", *answer])]
    ]

    @given(st.sampled_from(places), _VALUES)
    def check(place, value):
        module, *path = place
        answer = copy.deepcopy(answers[module])
        if path:
            answer[path[0]] = value
        elif isinstance(value, dict):
            answer = value
        try:
            kept = check_answer(module, answer, "gpu1")
        except TorchExtensionError as exc:
            assert str(exc).isprintable()
            assert len(str(exc)) < 1000
            seen.add("refused")
        else:
            assert kept.keys() <= answer.keys()
            seen.add("kept")

    assert limited.check_property(check, seconds=2, mebibytes=128, result=lambda: sorted(seen)) == ["kept", "refused"]


PLUGINS = Path(module_answers.__file__).parents[2]
#: what the control node adds to the answers of modules
OF_ACTIONS = {
    "torch_extension": {"delivery", "unfit", "report"},
    "torch_verify": {"report"},
    "torch_info": {"environment"},
}


def test_there_is_a_schema_for_every_module_that_a_node_runs():
    on_nodes = {path.stem for path in (PLUGINS / "modules").glob("*.py") if "AnsibleModule(" in path.read_text()}
    assert on_nodes == set(module_answers._RESULTS)


@pytest.mark.parametrize("module", MODULES)
def test_all_that_a_module_returns_has_a_schema(module):
    text = (PLUGINS / "modules" / f"{module}.py").read_text()
    (documented,) = re.findall(r'^RETURN = r"""(.*?)"""', text, re.MULTILINE | re.DOTALL)
    required, optional = module_answers._RESULTS[module]
    assert yaml.safe_load(documented).keys() - OF_ACTIONS.get(module, set()) <= required.keys() | optional.keys()

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of the answers of a check; the checks themselves run with a real torch in molecule's scenario verify."""

from __future__ import annotations

import json

import pytest
from venvs import site_packages

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import gpu_check, trial

GPUS = [{"device": f"cuda:{n}", "name": "NVIDIA H200", "compute_capability": "9.0"} for n in range(3)]
GOOD = {"seconds": 0.5, "max_error": 0.001, "failure": None}
BAD = {
    "seconds": None,
    "max_error": None,
    "failure": "RuntimeError: CUDA error: an illegal memory access was encountered",
}


class Processes:
    """Answers in place of interpreters, one process after the other; what each was asked."""

    def __init__(self, *answers):
        self.handlers, self.asked = list(answers), []

    def __call__(self, command):
        self.asked.append(command[command.index("-c") + 2 :])
        return self.handlers.pop(0)


def lines(*results, devices=GPUS):
    told = [
        json.dumps({"devices": devices}),
        "a package prints this",
        *(json.dumps({"result": item}) for item in results),
    ]
    return "\n".join(told) + "\n"


def test_each_gpu_has_a_result():
    run = Processes((0, lines(GOOD, GOOD, GOOD), ""))
    assert trial.check_on_gpus("python", "flash_attn", run) == [{**gpu, **GOOD} for gpu in GPUS]
    assert run.asked == [["", "flash-attn", "0"]]


def test_after_a_gpu_that_fails_the_others_are_checked_by_a_new_process():
    run = Processes((3, lines(GOOD, BAD), ""), (0, lines(GOOD), ""))
    results = trial.check_on_gpus("python", "flash-attn", run, "/scratch", ["cuda:0", "cuda:1", "cuda:2"])
    assert [result["failure"] for result in results] == [None, BAD["failure"], None]
    assert [asked[:3] for asked in run.asked] == [["/scratch", "flash-attn", "0"], ["/scratch", "flash-attn", "2"]]
    assert run.asked[1][3:] == ["cuda:0", "cuda:1", "cuda:2"]


@pytest.mark.parametrize(
    ("status", "err", "words"),
    [
        (-11, "", "it was ended by SIGSEGV"),
        (139, "", "it was ended by SIGSEGV"),
        (124, "", "no answer within 300 s"),
        (
            -9,
            "",
            "it was ended by SIGKILL (somebody has killed it: mostly the kernel for want of memory (dmesg tells), or a limit of time"
            " (ulimit -t). Free memory, or raise the limit)",
        ),
        (1, "Traceback\nRuntimeError: odd.\n", "RuntimeError: odd"),
        (7, "", "it ended with exit status 7"),
    ],
)
def test_a_process_that_dies_counts_for_the_gpu_that_it_was_at(status, err, words):
    run = Processes((status, lines(GOOD), err), (0, lines(GOOD), ""))
    results = trial.check_on_gpus("python", "flash-attn", run)
    assert [result["failure"] for result in results] == [None, words, None]


def test_where_torch_sees_no_gpu_its_last_line_is_the_failure():
    run = Processes(
        (1, "", "Traceback\nRuntimeError: The NVIDIA driver on your system is too old (found version 11040).\n")
    )
    (result,) = trial.check_on_gpus("python", "flash-attn", run)
    assert result["device"] is None
    assert trial.explain_failure(result) == (
        "does not work on any GPU: RuntimeError: The NVIDIA driver on your system is too old (found version 11040)"
        " (torch is for a newer CUDA than the driver serves: upgrade the driver)"
    )


def test_the_check_runs_in_the_interpreter_of_the_environment(make_venv, run):
    """As far as a machine without torch lets it: the source is whole, and the folder comes first."""
    venv = make_venv()
    torch = site_packages(venv) / "torch"
    (torch / "backends").mkdir(parents=True)
    (torch / "__init__.py").write_text(
        "from types import SimpleNamespace as N\n"
        "backends = N(cuda=N(matmul=N(allow_tf32=True)), cudnn=N(allow_tf32=True))\nmanual_seed = print\n"
    )
    scratch = site_packages(venv) / "scratch"
    scratch.mkdir()
    (scratch / "flash_attn.py").write_text("raise ImportError('undefined symbol: x')\n")
    results = trial.check_on_gpus(str(venv / "bin" / "python"), "flash-attn", run, str(scratch), ["cpu", "cpu"])
    assert [result["device"] for result in results] == ["cpu", "cpu"]
    assert {result["failure"] for result in results} == {"ImportError: undefined symbol: x"}
    assert not list(venv.rglob("__pycache__/*attn*"))


def test_there_is_a_check_for_every_package_that_is_guessed():
    assert set(gpu_check.CHECKS) == {name for name, package in PACKAGES.items() if package.versions}
    assert trial.has_check("Flash_Attn")
    assert not trial.has_check("einops")


@pytest.mark.parametrize(
    ("way", "gpus", "devices", "resolved"),
    [
        ("auto", [{}], (), "gpu"),
        ("auto", [], (), "import"),
        ("auto", None, (), "import"),
        ("auto", [], ("cpu",), "gpu"),
        ("gpu", [{}], (), "gpu"),
        ("import", [{}], (), "import"),
        ("none", [{}], ("cpu",), "none"),
    ],
)
def test_how_to_verify_depends_on_the_gpus(way, gpus, devices, resolved):
    assert trial.resolve_method(way, gpus, devices) == resolved


@pytest.mark.parametrize(("gpus", "words"), [([], "names no GPU"), (None, "does not answer")])
def test_requested_gpus_must_exist(gpus, words):
    with pytest.raises(
        TorchExtensionError, match=f"verify is gpu, and nvidia-smi {words} on this node.*torch_extension_verify"
    ):
        trial.resolve_method("gpu", gpus)
